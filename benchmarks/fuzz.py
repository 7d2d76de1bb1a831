"""Mutated files and arguments against every command of the command line, with any seed.

    python benchmarks/fuzz.py SEED CASES [COMMAND]

The cases are those of tests/cli/test_mutations.py. Each kind of traceback, message of several lines
or wrong exit code is shown once, with its case; at the end there are the counts by command and exit
code. A command that takes more than five seconds of a processor is interrupted, as by Ctrl-C (exit
code 130), and shown.
"""

from __future__ import annotations

import collections
import itertools
import os
import random
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.cli import mutations

LINE = 500
"""Cases between two lines of progress."""


def kind(error: BaseException, case: mutations.Case) -> tuple[str, ...]:
    """What two findings of one defect have in common."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "syq_dse" in f.filename]
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "-"
    return type(error).__name__, place, case.arguments[0], case.what


def main(seed: int, cases: int, command: str = "") -> None:
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", ResourceWarning)  # an interrupt may fall before a `with`
    os.fsync = lambda handle: None  # type: ignore[assignment]  # a busy disk takes a second for each
    with tempfile.TemporaryDirectory() as top:
        place = Path(top, "a", "b", "here")
        place.mkdir(parents=True)
        os.chdir(place)
        os.environ["XDG_CACHE_HOME"] = str(Path(top, "cache"))
        if command:
            mutations.FILES[:] = [of for of in mutations.FILES if of[1][0] == command]
            mutations.CALLS[:] = [of for of in mutations.CALLS if of[0][0] == command]
        mutations.prepare(place)
        bench = mutations.Bench(place, Path(top, "kept"))
        codes: collections.Counter[tuple[str, int]] = collections.Counter()
        found: collections.Counter[tuple[str, ...]] = collections.Counter()
        spent: collections.Counter[str] = collections.Counter()
        start = time.monotonic()
        made = itertools.islice(bench.cases(random.Random(seed)), cases)
        for number, case in enumerate(made, 1):
            began = time.process_time()
            try:
                with mutations.limited():
                    done = mutations.called(case.arguments)
                mutations.check(done, case.arguments)
                codes[case.arguments[0], done.code] += 1
                if done.code == 130:
                    print("interrupted", case.what, *map(ascii, case.arguments), flush=True)
            except BaseException as error:
                what = kind(error, case)
                found[what] += 1
                if found[what] == 1:
                    print(
                        *what, repr(error)[:1000], case.arguments, case.content[:4000], flush=True
                    )
            spent[case.arguments[0] + " " + case.what] += round(1e3 * (time.process_time() - began))
            if number % LINE == 0:
                passed = time.monotonic() - start
                print(f"{number} cases, {passed:.0f} s, {sum(found.values())} wrong", flush=True)
        os.chdir("/")
    passed = (time.monotonic() - start) / 60
    print(f"seed {seed}: {cases} cases, {passed:.1f} minutes, {sum(found.values())} wrong")
    for name in sorted({name for name, _ in codes}):
        counts = {code: n for (of, code), n in sorted(codes.items()) if of == name}
        print(f"{name}: " + ", ".join(f"exit {code} {n}" for code, n in counts.items()))
    slowest = ", ".join(f"{what} {ms / 1e3:.0f} s" for what, ms in spent.most_common(8))
    print(f"processor time: {slowest}")


if __name__ == "__main__":
    own = sys.argv[1:]
    main(int(own[0]) if own else 0, int(own[1]) if own[1:] else 200, *own[2:3])
