"""Mutated files and arguments: what `test_mutations.py` and `benchmarks/fuzz.py` run."""

from __future__ import annotations

import contextlib
import copy
import functools
import io
import json
import os
import random
import shutil
import signal
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import tomli_w

from syq_dse import catalogue
from syq_dse.cli import COMMANDS, cli, main
from tests.rtl.test_liberty import WHOLE as CELLS
from tests.train.conftest import DATASET, write_data

from .workbench import BOARD, SMALL_SPACE, TINY, Done

LONGEST_S, LONGEST_CPU_S = 10.0, 5.0
"""After so much, a command is interrupted as by Ctrl-C."""

SCHEME = """\
[layers.conv2]
weights = "ternary"
granularity = "pixel"
scale = "shift"
bits = 4
[folding.conv2]
pe = 2
simd = 4
res_type = "lut"
ram_style = "distributed"
"""

STUDY = """\
network = "tiny.toml"
target = "bench.toml"
objectives = ["accuracy", "fps", "lut"]
limit = 0.8
profile = "none"
sampler = "exact"
trials = 10
seed = 1
[space]
weights = ["binary", "int4"]
granularity = ["layer", "pixel"]
scale = ["shift"]
bits = [2, 4]
intervals = 4
"""

ON_BOARD = ("--network", "tiny.toml", "--target", "bench.toml")
UNIFORM = ("--uniform", "ternary,4,pixel")
FLOAT = ("--pretrained", "float/model.safetensors")
TRAIN = ("train", "--network", "tiny.toml", *UNIFORM, *FLOAT, "--recipe", "recipe.toml")
PROFILE = (
    *("profile", "--network", "tiny.toml", *FLOAT, "--images", "20", "--jobs", "1"),
    *("-o", "profile.csv"),
)
WORKER = (
    *("worker", "--study", "run", "--storage", "run/optuna.journal", "--idle", "0"),
    *("--jobs", "1"),
)
VALIDATE = ("validate", "run", "--points", "p001", *FLOAT, "--epochs", "1", "--jobs", "1")
BRIEF = ("--timeout", "0.5")  # of Yosys, where --refit is lost
ONCE = ("--epochs", "1", "--check", "2", "-o", "out")

FILES: list[tuple[str, tuple[str, ...], int]] = [
    ("tiny.toml", ("estimate", *ON_BOARD, *UNIFORM), 32),
    ("bench.toml", ("estimate", *ON_BOARD, "--uniform", "int4,4,layer", "--json"), 32),
    ("scheme.toml", ("estimate", *ON_BOARD, "--scheme", "scheme.toml"), 32),
    ("run/points/p001.json", ("estimate", *ON_BOARD, "--scheme", "run/points/p001.json"), 32),
    (
        "silicon.toml",
        ("estimate", "--network", "tiny.toml", "--target", "silicon.toml", *UNIFORM),
        16,
    ),
    *(
        (
            f"prices/ihp-sg13g2{part}.toml",
            ("estimate", "--network", "tiny.toml", "--target", "silicon.toml", *UNIFORM),
            12,
        )
        for part in ("", "-clock", "-energy")
    ),
    ("study.toml", ("explore", "--study", "study.toml", "--out", "out"), 2),
    ("run/front.json", ("explore", "--resume", "--out", "run"), 2),
    ("run/study.toml", ("explore", "--resume", "--out", "run"), 1),
    ("run/study.toml", ("report", "run"), 1),
    ("run/front.json", ("report", "run"), 1),
    ("run/points/p001.json", ("report", "run"), 1),
    ("run/front.json", ("plot", "run", "-o", "plots"), 2),
    ("run/points/p001.json", ("plot", "run", "--figure", "layers", "-o", "plots"), 1),
    ("run/points/p001.json", ("plot", "run", "--figure", "resources", "-o", "plots"), 1),
    ("run/samplers.csv", ("plot", "run", "--figure", "history", "-o", "plots"), 1),
    ("run/front.json", ("compare", "run", "kept"), 32),
    ("run/study.toml", ("compare", "run", "kept"), 32),
    ("run/front.json", ("export", "run", "--point", "knee", "-o", "out"), 32),
    *(
        (
            "run/points/p001.json",
            ("export", "run", "--point", "p001", "--format", format, "-o", "out"),
            16,
        )
        for format in ("train", "finn", "hls4ml")
    ),
    ("recipe.toml", (*TRAIN, *ONCE), 16),
    ("quarters.toml", (*TRAIN, *ONCE), 16),
    ("float/model.safetensors", (*TRAIN, *ONCE), 16),
    ("data/train-labels-idx1-ubyte", (*TRAIN, *ONCE), 8),
    (
        "scheme.toml",
        ("train", "--network", "tiny.toml", "--scheme", "scheme.toml", *FLOAT, *ONCE),
        12,
    ),
    ("run/points/p001.json", ("train", "run/points/p001.json", *FLOAT, *ONCE), 12),
    ("trained/result.json", (*TRAIN, "--epochs", "1", "-o", "trained"), 12),
    (
        "profile.csv",
        PROFILE,
        4,
    ),
    (
        "profile.csv",
        ("explore", *ON_BOARD, *SMALL_SPACE, "--profile", "profile.csv", "--out", "out"),
        1,
    ),
    ("net.onnx", ("import", "net.onnx", "-o", "out/net.toml"), 24),
    (
        "net.toml",
        ("train", "--network", "net.toml", "--dataset", "quarters.toml", "--float", *ONCE),
        8,
    ),
    (
        "cells.lib",
        ("calibrate", "--technology", "silicon.toml", "--liberty", "cells.lib", "--refit"),
        1,
    ),
    (
        "calibration/xc7_samples.csv",
        ("calibrate", "--family", "xc7", "--unit", "add", "--refit"),
        1,
    ),
    (
        "trained/integers.safetensors",
        ("rtl", *ON_BOARD, *UNIFORM, "--integers", "trained/integers.safetensors", "-o", "out"),
        1,
    ),
    (
        "run/optuna.journal",
        WORKER,
        1,
    ),
]
"""The file that is mutated, the command that reads it, and how often."""

CALLS: list[tuple[tuple[str, ...], int]] = [
    (("explore", *ON_BOARD, *SMALL_SPACE, "--out", "out"), 2),
    (("explore", "--study", "study.toml", "--out", "out", "--json"), 1),
    (("explore", "--resume", "--out", "run"), 2),
    (("estimate", *ON_BOARD, *UNIFORM), 32),
    (("estimate", *ON_BOARD, "--scheme", "scheme.toml", "--fps", "1000", "--json"), 16),
    (("networks",), 8),
    (("targets", "--json"), 8),
    (("plot", "run", "-o", "plots", "--x", "lut"), 2),
    (("report", "run", "-o", "plots/page.html"), 1),
    (("compare", "run", "kept", "--json"), 24),
    (("import", "net.onnx", "-o", "out/net.toml"), 24),
    (("export", "run", "--point", "knee", "--format", "train", "-o", "out"), 32),
    ((*TRAIN, *ONCE), 32),
    (
        PROFILE,
        4,
    ),
    (VALIDATE, 1),
    (
        WORKER,
        2,
    ),
    (("rtl", *ON_BOARD, *UNIFORM, "-o", "out"), 1),
    (("verify", "run", "--point", "knee", "--jobs", "1", "--timeout", "0.01"), 1),
    (("calibrate", "--family", "xc7", "--unit", "add", "--refit", *BRIEF), 2),
    (("calibrate", "--technology", "silicon.toml", "--liberty", "cells.lib", "--refit", *BRIEF), 1),
    (("doctor",), 1),
    (("completion", "bash"), 1),
]
"""A command whose arguments are mutated, and how often; every command is there."""

VALUES: list[Any] = [
    *(-1, 0, 1, 7, 255, 10**9, 2**63 - 1, 1.5, -0.0, 1e300, float("nan"), float("inf")),
    *("", "x", "conv1", "../..", "\u0000", "\ud7ff", "a" * 300, "$(x)", "<b>", "=cmd()"),
    *(True, False, [], [1], [[]], {}, {"x": 1}, ["conv1", "conv1"]),
]

WORDS = [
    *("", " ", "a\nb", "9" * 5000, "a" * 300, *(str(2**bits) for bits in (31, 53, 63, 64))),
    *("x", "-", "--", "-1", "0", "1", "3", "7.5", "1e400", "nan", "-inf", "1_000", "0x10", "٣"),
    *(",", "1,,2", "4,2,1", "é", "\u202e", "\x1b[31m", "\udcff", "<script>", "=cmd()", "$(x)"),
    *("{point}", "%s", "..", "../..", ".", "missing.toml", "missing/x", "tiny.toml/x", "data"),
    *("tiny.toml", "bench.toml", "silicon.toml", "scheme.toml", "recipe.toml", "quarters.toml"),
    *("profile.csv", "net.onnx", "run", "kept", "run/points", "run/front.json", "empty"),
    *("/dev/null", "/dev/full", "/proc/x", "float/model.safetensors", "sqlite:///:memory:"),
    *("http://[", "no.such:thing", "cuda:99", "knee", "p001", "p999", "zcu102", "ihp-sg13g2"),
    *("lenet5", "ternary", "binary,2,row", "accuracy", "lut", "area", "fps", "nsga2", "all"),
]
"""What arguments become."""


def prepare(place: Path) -> None:
    """Files of every kind that commands read, in the working directory, which is `place`."""
    write_data(place / "data")
    small = DATASET.format(folder="data")
    texts = {
        "quarters.toml": small,
        "tiny.toml": TINY.replace('"mnist"', '"quarters.toml", epochs = 1'),
        "bench.toml": BOARD,
        "scheme.toml": SCHEME,
        "study.toml": STUDY,
        "cells.lib": CELLS,
    }
    for name, text in texts.items():
        (place / name).write_text(text)
    shipped = catalogue.folder("hwmodels")
    shutil.copy(catalogue.folder("models") / "recipes" / "modern.toml", place / "recipe.toml")
    (place / "prices").mkdir()
    for path in (shipped / "calibration" / "silicon").glob("ihp-sg13g2*.toml"):
        shutil.copy(path, place / "prices")
    technology = (shipped / "asic" / "ihp-sg13g2.toml").read_text()
    (place / "silicon.toml").write_text(f'{technology}calibration = "prices"\n')
    (place / "calibration").mkdir()
    samples = shipped / "calibration" / "silicon" / "ihp-sg13g2_samples.csv"
    for path in (*(shipped / "calibration").glob("xc7*"), samples):
        text = path.read_text()
        if path.suffix == ".csv":  # of one unit, for its time
            head, *rows = text.splitlines(keepends=True)
            text = "".join([head, *(row for row in rows if row.startswith("add,"))])
        (place / "calibration" / path.name).write_text(text)
    (place / "empty").mkdir()
    steps: list[tuple[str, ...]] = [
        ("train", "--network", "tiny.toml", "--float", "-o", "float"),
        (*TRAIN, "--epochs", "1", "-o", "trained"),
        PROFILE,
        (
            *("explore", *ON_BOARD, *SMALL_SPACE, "--sampler", "all", "--trials", "4"),
            *("--repeats", "1", "--out", "run"),
        ),
        VALIDATE,
    ]
    for arguments in steps:
        done = called(arguments)
        assert done.code == 0, (arguments, done)
    _write_onnx(place / "net.onnx")
    done = called(("import", "net.onnx", "-o", "net.toml"))
    assert done.code == 0, done
    shutil.copytree("run", "kept")


def _write_onnx(path: Path) -> None:
    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    shapes = {"w1": (4, 1, 3, 3), "w2": (4, 4, 3, 3), "w3": (4, 64)}
    weights = [
        numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], kernel_shape=[3, 3]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "w3"], ["y"], transB=1),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", [1, 1, 8, 8]), ("y", [1, 4]))
    ]
    graph = helper.make_graph(nodes, "net", values[:1], values[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)


# Commands in this process


def called(arguments: Sequence[str]) -> Done:
    """What a command leaves; anything but an exit, which would be a traceback, is raised."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["syq-dse", *arguments]
    code = 0
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as error:
        assert isinstance(error.code, int), error.code
        code = error.code
    finally:
        sys.argv = before
    return Done(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Interrupt what takes longer; on the main thread."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    timers = (
        (signal.SIGALRM, signal.ITIMER_REAL, LONGEST_S),
        (signal.SIGPROF, signal.ITIMER_PROF, LONGEST_CPU_S),
    )
    before = [signal.signal(number, stop) for number, _, _ in timers]
    for _, timer, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (number, timer, _), handler in zip(timers, before, strict=True):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


def check(done: Done, arguments: Sequence[str]) -> None:
    """One line and the exit code of its kind, or the work is done."""
    assert done.code in (0, 1, 2, 3, 130), (arguments, done)
    if done.code:
        lines = done.err.split("\n")
        said = [line for line in lines if line.startswith("syq-dse: ")]
        assert lines.pop() == "", (arguments, done.err)
        assert said == lines[-1:], (arguments, done.err)
        if done.code == 130:  # an interrupt may fall into what Python calls as it frees an object
            return
        assert lines[-1].isprintable(), (arguments, done.err)
        assert "Traceback" not in done.err, (arguments, done.err)


# Files


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places in a document, inner ones too."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, item in value.items():
            found += leaves(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:20]):
            found += leaves(item, (*path, index))
    return found


def changed(document: Any, rng: random.Random) -> Any:
    """A document in which something is another value, is away, is twice or has another name."""
    out = copy.deepcopy(document)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        places = leaves(out)
        if not places:
            return out
        *before, last = rng.choice(places)
        holder = out
        for key in before:
            holder = holder[key]
        match rng.randrange(5):
            case 0:
                del holder[last]
            case 1 if isinstance(holder, dict):
                holder[rng.choice(["x", "name", "", "a b", str(last) + "s"])] = holder.pop(last)
            case 2 if isinstance(holder, list):
                holder.insert(last, copy.deepcopy(holder[last]))
            case 3:
                other = out
                for key in rng.choice(places):
                    try:
                        other = other[key]
                    except (KeyError, IndexError, TypeError):
                        break
                holder[last] = copy.deepcopy(other)
            case _:
                holder[last] = copy.deepcopy(rng.choice(VALUES))  # else a list comes into itself
    return out


def bytes_changed(content: bytes, rng: random.Random) -> bytes:
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 3))):
        place = rng.randrange(len(out))
        match rng.randrange(4):
            case 0:
                out[place] = rng.randrange(256)
            case 1:
                del out[place : place + rng.choice((1, 1, 20))]
            case 2:
                out.insert(place, rng.randrange(256))
            case _:
                del out[place:]
        if not out:
            break
    return bytes(out)


def cells_changed(content: bytes, rng: random.Random) -> bytes:
    """A CSV in which one cell is another value."""
    lines = content.decode().split("\n")
    row = rng.randrange(min(len(lines), 50))
    cells = lines[row].split(",")
    cells[rng.randrange(len(cells))] = str(rng.choice(VALUES)).replace("\ud7ff", "\ufffd")
    lines[row] = ",".join(cells)
    return "\n".join(lines).encode()


def mutated(path: Path, rng: random.Random) -> None:
    """Change a file in place."""
    content = path.read_bytes()
    structured = path.suffix in (".json", ".toml", ".csv")
    if not structured or rng.random() < 0.3:
        path.write_bytes(bytes_changed(content, rng))
        return
    if path.suffix == ".csv":
        path.write_bytes(cells_changed(content, rng))
        return
    text = content.decode()
    document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    found = changed(document, rng)
    try:
        path.write_text(json.dumps(found) if path.suffix == ".json" else tomli_w.dumps(found))
    except (TypeError, ValueError, AttributeError, UnicodeEncodeError):
        path.write_bytes(bytes_changed(content, rng))


# Arguments


@functools.cache
def _options(command: str) -> list[tuple[str, bool]]:
    """The options of a command, and whether each is a flag."""
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    return [
        (name, bool(getattr(parameter, "is_flag", False)))
        for parameter in found.params
        for name in parameter.opts
        if name.startswith("-") and name != "--compile"  # which takes minutes
    ]


def arguments_changed(arguments: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    """Arguments of which some have another value, are away, are twice or are new."""
    command, *found = arguments
    for _ in range(rng.choice((1, 1, 2, 3))):
        place = rng.randrange(len(found) + 1)
        match rng.randrange(6):
            case 0 if place < len(found):
                del found[place]
            case 1 if place < len(found):
                found.insert(place, found[place])
            case 2 | 3 if place < len(found):
                found[place] = rng.choice(WORDS)
            case 4 if place < len(found) and found[place].startswith("--"):
                found += [found[place], rng.choice(WORDS)]
            case _:
                name, flag = rng.choice(_options(command))
                found += [name] if flag else [name, rng.choice(WORDS)]
    return (command, *found)


# Cases


@dataclass(frozen=True, slots=True)
class Case:
    """A command as it was called, and what was changed: a file's name, or "arguments"."""

    arguments: tuple[str, ...]
    what: str
    content: bytes = b""  # of the changed file


class Bench:
    """A folder in which each case finds the same files.

    Args:
        place: the working directory, prepared.
        kept: a copy is kept here; outside of it.
    """

    def __init__(self, place: Path, kept: Path) -> None:
        self.place, self.kept = place, kept
        shutil.copytree(place, kept)
        self.stamps = {name: _stamp(kept / name) for name in _walked(kept)}
        for name in self.stamps:
            if (kept / name).is_file():
                shutil.copystat(kept / name, place / name)

    def cases(self, rng: random.Random) -> Iterator[Case]:
        """Changes files or arguments, without end; each case finds the files restored."""
        while True:
            if rng.random() < 0.7 and FILES:  # some commands read none of them
                (chosen,) = rng.choices(FILES, [of[2] for of in FILES])
                name, arguments, _ = chosen
                mutated(self.place / name, rng)
                case = Case(arguments, name, (self.place / name).read_bytes())
            else:
                (call,) = rng.choices(CALLS, [of[1] for of in CALLS])
                case = Case(arguments_changed(call[0], rng), "arguments")
            _forget()
            yield case
            self.restore()

    def restore(self) -> None:
        """Put back what a case has changed, and remove what it has made."""
        there = {name: _stamp(self.place / name) for name in _walked(self.place)}
        for name in sorted(set(there) - set(self.stamps), reverse=True):
            path = self.place / name
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        for name, stamp in self.stamps.items():
            if there.get(name) != stamp:
                path = self.place / name
                if stamp is None:
                    path.mkdir()
                else:
                    shutil.copy2(self.kept / name, path)


def _walked(place: Path) -> list[str]:
    """Files and folders below a folder, folders before what is in them."""
    found: list[str] = []
    for folder, folders, files in os.walk(place):
        inside = os.path.relpath(folder, place)
        found += [os.path.normpath(os.path.join(inside, name)) for name in (*folders, *files)]
    return found


def _stamp(path: Path) -> tuple[int, int] | None:
    """Tells whether a file was written since; None of a folder."""
    if path.is_dir() and not path.is_symlink():
        return None
    found = path.lstat()
    return found.st_size, found.st_mtime_ns


def _forget() -> None:
    """Prices that a process reads once are read again."""
    from syq_dse.cost import clock, cycle_energy, gates

    for module in (clock, cycle_energy, gates):
        module.load.cache_clear()


assert {call[0][0] for call in CALLS} == set(COMMANDS)
