"""How many small faults in the cost model and the quantisers the fast tests notice.

    python benchmarks/mutants.py [--sample 1000] [--seed 0] [--jobs 1] [--out FILE.csv]
    python benchmarks/mutants.py --again FILE.csv

The faults are mutmut's: its operators, its rules of what is left alone. Two things differ from
`mutmut run`. Properties and memoised functions are mutated as well, since here they hold half of
the formulas. And every mutant starts from empty caches in a process of its own: a fork of one that
has collected the tests, in which the code object of the one function is exchanged. It sees the
tests that reach this function, those first that reach the fewest, until one fails. Tests of more
than `--longest` seconds are left out, and what would take a mutant's tests over `--budget` seconds.

A sample is drawn from every module in proportion to its mutants. An outcome is `killed`, `timeout`
(a test took over ten times as long, counted as killed), `survived` or `untested` (no test reaches
the function). `--again` tests what a file of results says was not killed, and writes it anew.
With `--control` nothing is changed: whatever is killed then fails by itself.
"""

from __future__ import annotations

import argparse
import ast
import csv
import functools
import gc
import importlib
import itertools
import json
import math
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, FunctionType
from typing import Any, NoReturn

os.environ["OMP_NUM_THREADS"] = "1"

import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation import file_mutation, mutators, pragma_handling

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("syq_dse/cost", "syq_dse/quant")
TESTS = ("tests/cost", "tests/quant", "syq_dse/cost", "syq_dse/quant")
KILLED, TIMEOUT, SURVIVED, UNTESTED = "killed", "timeout", "survived", "untested"
EXIT_KILLED, EXIT_BROKEN, EXIT_TIMEOUT = 1, 3, 124
SLOWER = 10.0  # a test that takes this much longer, and GRACE_S, runs for ever
GRACE_S = 2.0
MEMORY_BYTES = 6 * 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One fault; `message` where it lies in a raise statement, and changes only what is said."""

    name: str  # module, function and number in it
    path: str
    function: str  # qualified name in its module
    first: int  # line of the function, decorators included
    line: int
    message: bool
    before: str
    after: str


class Visitor(file_mutation.MutationVisitor):
    """mutmut's, but for decorated functions, which it leaves out."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef) and node.decorators:
            return node.name.value in file_mutation.NEVER_MUTATE_FUNCTION_NAMES
        return bool(super()._skip_node_and_children(node))


def walk(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    yield node
    for child in node.children:
        yield from walk(child)


def functions(
    body: Sequence[cst.CSTNode], prefix: str = ""
) -> Iterator[tuple[str, cst.FunctionDef]]:
    """Functions and methods of a module, with their qualified names."""
    for node in body:
        if isinstance(node, cst.FunctionDef):
            yield prefix + node.name.value, node
        elif isinstance(node, cst.ClassDef):
            yield from functions(node.body.body, f"{prefix}{node.name.value}.")


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


class File:
    """A source file with all its mutants."""

    def __init__(self, path: Path) -> None:
        self.path = str(path.relative_to(ROOT))
        source = path.read_text(encoding="utf-8")
        wrapper = MetadataWrapper(cst.parse_module(source))
        ignored = pragma_handling.IgnoredCode(set(), set(), set())
        visitor = Visitor(mutators.mutation_operators, ignored, None)
        self.module = wrapper.visit(visitor)
        lines = wrapper.resolve(PositionProvider)
        made: dict[int, list[file_mutation.Mutation]] = defaultdict(list)
        for mutation in visitor.mutations:
            made[id(mutation.contained_by_top_level_function)].append(mutation)
        module = module_of(path)
        self.changes: dict[str, file_mutation.Mutation] = {}
        self.mutants: list[Mutant] = []
        for function, node in functions(self.module.body):
            said = {id(x) for y in walk(node) if isinstance(y, cst.Raise) for x in walk(y)}
            first = min(lines[x].start.line for x in (node.name, *node.decorators))
            for number, change in enumerate(made[id(node)]):
                name = f"{module}.{function}:{number}"
                self.changes[name] = change
                self.mutants.append(
                    Mutant(
                        name=name,
                        path=self.path,
                        function=function,
                        first=first,
                        line=lines[change.original_node].start.line
                        if change.original_node in lines
                        else first,
                        message=id(change.original_node) in said,
                        before=self.text(change.original_node),
                        after=self.text(change.mutated_node),
                    )
                )

    def text(self, node: cst.CSTNode) -> str:
        return " ".join(self.module.code_for_node(node).split())

    def source(self, mutant: Mutant) -> str:
        change = self.changes[mutant.name]
        made = self.module.deep_replace(change.original_node, change.mutated_node)
        assert isinstance(made, cst.Module)
        return made.code


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code object and those that it makes."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from codes(constant)


def defaults(source: str, function: FunctionType) -> tuple[list[ast.expr], list[ast.expr | None]]:
    """What a function's parameters are by default, as it is written."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
            first = min(x.lineno for x in (node, *node.decorator_list))
            if first == function.__code__.co_firstlineno:
                return node.args.defaults, node.args.kw_defaults
    raise AssertionError(function)


def exchange(function: FunctionType, before: str, after: str) -> None:
    """Give a function the body and defaults that it has in another text of its module."""
    code = function.__code__
    place = (code.co_qualname, code.co_firstlineno)
    made = compile(after, code.co_filename, "exec", dont_inherit=True)
    (function.__code__,) = (x for x in codes(made) if (x.co_qualname, x.co_firstlineno) == place)
    now = function.__code__
    if (now.co_code, now.co_consts, now.co_names) != (code.co_code, code.co_consts, code.co_names):
        return
    old, new = defaults(before, function), defaults(after, function)
    changed = [
        [
            (i, b)
            for i, (a, b) in enumerate(zip(*both, strict=True))
            if a and ast.dump(a) != ast.dump(b)
        ]
        for both in zip(old, new, strict=True)
    ]
    for i, node in changed[0]:
        values = list(function.__defaults__ or ())
        values[i] = ast.literal_eval(node)
        function.__defaults__ = tuple(values)
    names = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    for i, node in changed[1]:
        assert function.__kwdefaults__ is not None
        function.__kwdefaults__[names[i]] = ast.literal_eval(node)


def caches() -> list[Any]:
    """Every memoised function of the package."""
    return [
        value
        for value in gc.get_objects()
        if type(value) is functools._lru_cache_wrapper
        and (getattr(value, "__module__", None) or "").startswith("syq_dse")
    ]


def cpu_s() -> float:
    """Processor time of this process and of what it waited for."""
    return sum(os.times()[:4])


class TooLongError(BaseException):
    """A test that is left out."""


class Driver:
    """A pytest plugin: in the place of a run of the tests, many runs of some."""

    def __init__(self, mutants: list[Mutant], files: dict[str, File], options: Any) -> None:
        self.mutants, self.files, self.options = mutants, files, options
        self.outcomes: dict[str, str] = {}
        self.tests = 0

    def pytest_configure(self) -> None:
        import hypothesis  # its own plugin must be the first to import it

        # Failing tests are not made smaller: that one fails is enough.
        phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        hypothesis.settings.register_profile(
            "mutants", database=None, derandomize=True, deadline=None, phases=phases
        )
        hypothesis.settings.load_profile("mutants")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        if session.testsfailed:
            raise session.Interrupted("the tests cannot be collected")
        for path in self.files:
            importlib.import_module(module_of(ROOT / path))
        self.functions = {
            (str(Path(x.__code__.co_filename).relative_to(ROOT)), x.__qualname__, line): x
            for x in gc.get_objects()
            if type(x) is FunctionType  # isinstance would ask every object, and some of them warn
            and x.__code__.co_filename.startswith(tuple(str(ROOT / y) for y in PACKAGES))
            for line in [x.__code__.co_firstlineno]
        }
        self.caches = caches()
        self.forget()
        started = time.monotonic()
        self.measure(session.items)
        print(f"{self.tests} tests, measured in {time.monotonic() - started:.0f} s", flush=True)
        self.run_all()
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed = self.failed or report.failed
        if report.failed:
            self.why = report.longreprtext

    def forget(self) -> None:
        for memoised in self.caches:
            memoised.cache_clear()

    def passes(self, item: pytest.Item, following: pytest.Item | None) -> bool:
        self.failed = False
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        return not self.failed

    def measure(self, items: list[pytest.Item]) -> None:
        """Run every test once, in a fork: how long it takes, and which functions it reaches."""
        handle, name = tempfile.mkstemp()
        os.close(handle)
        path = self.options.measured or Path(name)
        known = json.loads(path.read_text()) if path.exists() and path.stat().st_size else {}
        new = [item for item in items if item.nodeid not in known]
        pid = os.fork()
        if not pid:
            self.measure_here(new, known, path)
        if os.waitpid(pid, 0)[1] != 0:
            raise SystemExit("the tests do not run")
        known = json.loads(path.read_text())
        Path(name).unlink()
        kept: list[tuple[float, pytest.Item]] = []
        for item in items:
            seconds, passed, _ = known[item.nodeid]
            if passed:
                kept.append((seconds, item))
            elif seconds < 0.9 * self.options.longest:
                print(f"left out, since it fails without a mutant: {item.nodeid}")
        self.tests = len(kept)
        self.reach: dict[tuple[str, str], list[tuple[pytest.Item, float]]] = defaultdict(list)
        for seconds, item in sorted(kept, key=lambda x: (len(known[x[1].nodeid][2]), x[0])):
            for path, function in known[item.nodeid][2]:
                self.reach[path, function].append((item, seconds))

    def measure_here(self, items: list[pytest.Item], known: dict[str, Any], path: Path) -> NoReturn:
        outer = {
            id(code): (path, name)
            for (path, name, _), function in self.functions.items()
            for code in codes(function.__code__)
        }
        hits: set[tuple[str, str]] = set()

        def too_long(*_: object) -> NoReturn:
            raise TooLongError

        signal.signal(signal.SIGPROF, too_long)

        def trace(frame: FrameType, event: str, argument: object) -> None:
            reached = outer.get(id(frame.f_code))
            if reached is not None:
                hits.add(reached)

        for number, item in enumerate(items):
            if self.options.verbose:
                print(f"measures {number}/{len(items)}: {item.nodeid}", flush=True)
            self.forget()
            hits.clear()
            start = cpu_s()
            signal.setitimer(signal.ITIMER_PROF, self.options.longest)
            sys.settrace(trace)
            passed = self.passes(item, next(iter(items[number + 1 :]), None))
            sys.settrace(None)
            signal.setitimer(signal.ITIMER_PROF, 0)
            known[item.nodeid] = (cpu_s() - start, passed, sorted(hits))
            if number % 50 == 0:
                path.write_text(json.dumps(known))
        path.write_text(json.dumps(known))
        os._exit(0)

    def run_all(self) -> None:
        gc.freeze()  # forks share what nobody collects
        running: dict[int, tuple[Mutant, float]] = {}
        waiting = list(reversed(self.mutants))
        while waiting or running:
            if waiting and len(running) < self.options.jobs:
                mutant = waiting.pop()
                tests = self.reach[mutant.path, mutant.function]
                total = itertools.accumulate(seconds for _, seconds in tests)
                tests = [
                    test
                    for test, sum in zip(tests, total, strict=True)
                    if sum <= self.options.budget
                ]
                if not tests:
                    self.outcomes[mutant.name] = UNTESTED
                    continue
                pid = os.fork()
                if not pid:
                    self.run_here(mutant, tests)
                running[pid] = mutant, time.monotonic()
                continue
            pid, status = os.wait()
            mutant, start = running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if code == EXIT_BROKEN:
                raise SystemExit(f"{mutant.name} cannot be made")
            outcome = {0: SURVIVED, EXIT_TIMEOUT: TIMEOUT, -signal.SIGXCPU: TIMEOUT}.get(
                code, KILLED
            )
            self.outcomes[mutant.name] = outcome
            if self.options.verbose:
                took = time.monotonic() - start
                print(
                    f"{len(self.outcomes)}/{len(self.mutants)} {outcome} {took:.1f} s {mutant.name}"
                )
                sys.stdout.flush()

    def run_here(self, mutant: Mutant, tests: list[tuple[pytest.Item, float]]) -> NoReturn:
        resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
        signal.signal(signal.SIGPROF, lambda *_: os._exit(EXIT_TIMEOUT))
        try:
            file = self.files[mutant.path]
            after = file.module.code if self.options.control else file.source(mutant)
            function = self.functions[mutant.path, mutant.function, mutant.first]
            exchange(function, file.module.code, after)
        except BaseException as error:
            print(f"{mutant.name}: {error!r}", file=sys.stderr)
            os._exit(EXIT_BROKEN)
        said = os.dup(2)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        try:
            items = [item for item, _ in tests]
            following = [*items[1:], None]
            for (item, seconds), then in zip(tests, following, strict=True):
                signal.setitimer(signal.ITIMER_PROF, GRACE_S + SLOWER * seconds)
                if not self.passes(item, then):
                    if self.options.control:
                        os.write(said, f"{item.nodeid} fails: {self.why}\n".encode())
                    os._exit(EXIT_KILLED)
        except BaseException:
            os._exit(EXIT_KILLED)
        os._exit(0)


def drawn(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """A sample of every file in proportion to its mutants: largest remainders."""
    by_file: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        by_file[mutant.path].append(mutant)
    count = min(count, len(mutants))
    shares = {path: count * len(x) / len(mutants) for path, x in by_file.items()}
    sizes = {path: int(share) for path, share in shares.items()}
    rest = sorted(shares, key=lambda path: sizes[path] - shares[path])
    for path in rest[: count - sum(sizes.values())]:
        sizes[path] += 1
    generator = random.Random(seed)
    return [x for path, size in sizes.items() for x in generator.sample(by_file[path], size)]


def wilson(killed: int, of: int) -> tuple[float, float]:
    """The 95 % interval of a share."""
    z, share = 1.96, killed / of
    middle = share + z * z / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return (middle - spread) / (1 + z * z / of), (middle + spread) / (1 + z * z / of)


def line(name: str, outcomes: Sequence[str]) -> str:
    counts = Counter(outcomes)
    dead = counts[KILLED] + counts[TIMEOUT]
    low, high = wilson(dead, len(outcomes))
    numbers = "".join(f"{counts[x]:10}" for x in (KILLED, TIMEOUT, SURVIVED, UNTESTED))
    rate = f"{dead / len(outcomes):8.1%}  [{low:.1%}, {high:.1%}]"
    return f"{name:36}{len(outcomes):8}{numbers}{rate}"


def report(results: list[tuple[Mutant, str]]) -> None:
    print(
        f"{'':36}{'mutants':>8}{KILLED:>10}{TIMEOUT:>10}{SURVIVED:>10}{UNTESTED:>10}    rate  95 %"
    )
    groups: dict[str, list[str]] = defaultdict(list)
    for mutant, outcome in results:
        groups[mutant.path].append(outcome)
    for path in sorted(groups):
        print(line(path, groups[path]))
    for package in PACKAGES:
        inside = [y for x, y in results if x.path.startswith(package)]
        if inside:
            print(line(package, inside))
    print(line("all", [y for _, y in results]))
    silent = [y for x, y in results if not x.message]
    if silent:
        print(line("all but error messages", silent))


def main() -> None:
    parser = argparse.ArgumentParser(description="Mutation testing of cost/ and quant/.")
    parser.add_argument("--sample", type=int, default=1000, help="mutants drawn; 0: all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--longest", type=float, default=3.0, help="seconds of a test")
    parser.add_argument("--budget", type=float, default=15.0, help="seconds of a mutant's tests")
    parser.add_argument("--measured", type=Path, help="what earlier runs know of the tests")
    parser.add_argument("--only", default="", help="only mutants whose name begins with this")
    parser.add_argument("--tests", nargs="+", default=list(TESTS))
    parser.add_argument("--out", type=Path, help="table of the mutants and their outcomes")
    parser.add_argument("--again", type=Path, help="test again what this table calls not killed")
    parser.add_argument("--control", action="store_true", help="change nothing: all must survive")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    os.chdir(ROOT)
    before: dict[str, str] = {}
    if options.again:
        with options.again.open(encoding="utf-8", newline="") as rows:
            before = {row["mutant"]: row["outcome"] for row in csv.DictReader(rows)}
    paths = sorted(path for x in PACKAGES for path in (ROOT / x).rglob("*.py"))
    if before:
        paths = [x for x in paths if any(name.startswith(module_of(x)) for name in before)]
    files = {file.path: file for file in map(File, paths)}
    everything = [x for file in files.values() for x in file.mutants]
    if before:
        mutants = [x for x in everything if x.name in before]
    else:
        mutants = drawn(everything, options.sample or len(everything), options.seed)
        print(f"{len(mutants)} of {len(everything)} mutants, seed {options.seed}", flush=True)
    mutants = [x for x in mutants if x.name.startswith(options.only)]
    todo = [x for x in mutants if before.get(x.name) not in (KILLED, TIMEOUT)]
    if not mutants:
        raise SystemExit("no such mutants")
    driver = Driver(todo, files, options)
    arguments = ["-p", "no:cacheprovider", "-p", "no:terminal", "--capture=no"]
    code = pytest.main([*arguments, *options.tests], plugins=[driver])
    if len(driver.outcomes) < len(todo):
        raise SystemExit(code or 1)
    outcomes = {**before, **driver.outcomes}
    results = [(x, outcomes[x.name]) for x in mutants]
    report(results)
    if options.out or options.again:
        with (options.out or options.again).open("w", encoding="utf-8", newline="") as rows:
            writer = csv.writer(rows, lineterminator="\n")
            writer.writerow(["mutant", "line", "outcome", "message", "before", "after"])
            for x, outcome in results:
                writer.writerow([x.name, x.line, outcome, int(x.message), x.before, x.after])


if __name__ == "__main__":
    main()
