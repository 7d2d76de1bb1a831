"""Mutated files and arguments: every command says one line, or works; none shows a traceback."""

from __future__ import annotations

import copy
import json
import random
import shutil
import tomllib
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from .workbench import SMALL_SPACE, Done, Run

CASES = 400
"""Of each seed; there are five."""

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

VALUES: list[Any] = [
    *(-1, 0, 1, 7, 255, 10**9, 2**63 - 1, 1.5, -0.0, 1e300, float("nan"), float("inf")),
    *("", "x", "conv1", "../..", "\u0000", "\ud7ff", "a" * 300, "$(x)", "<b>", "=cmd()"),
    *(True, False, [], [1], [[]], {}, {"x": 1}, ["conv1", "conv1"]),
]


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
                holder[last] = rng.choice(VALUES)
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


def mutated(path: Path, rng: random.Random) -> None:
    """Change a file in place."""
    content = path.read_bytes()
    if rng.random() < 0.3:
        path.write_bytes(bytes_changed(content, rng))
        return
    text = content.decode()
    document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    found = changed(document, rng)
    try:
        path.write_text(json.dumps(found) if path.suffix == ".json" else tomli_w.dumps(found))
    except (TypeError, ValueError, AttributeError, UnicodeEncodeError):
        path.write_bytes(bytes_changed(content, rng))


ESTIMATE = ("estimate", "--network", "tiny.toml", "--target", "bench.toml")

COMMANDS: list[tuple[str, tuple[str, ...]]] = [
    ("tiny.toml", (*ESTIMATE, "--uniform", "ternary,4,pixel")),
    ("bench.toml", (*ESTIMATE, "--uniform", "int4,4,layer", "--json")),
    ("scheme.toml", (*ESTIMATE, "--scheme", "scheme.toml")),
    ("run/points/p001.json", (*ESTIMATE, "--scheme", "run/points/p001.json")),
    ("run/study.toml", ("report", "run")),
    ("run/front.json", ("report", "run")),
    ("run/points/p001.json", ("report", "run")),
    ("run/front.json", ("plot", "run", "-o", "plots")),
    ("run/front.json", ("compare", "run", "kept")),
    ("run/study.toml", ("compare", "run", "kept")),
    ("run/front.json", ("export", "run", "--point", "knee", "-o", "out")),
    ("run/points/p001.json", ("export", "run", "--point", "p001", "-o", "out")),
    ("run/points/p001.json", ("export", "run", "--point", "p001", "--format", "finn", "-o", "out")),
    ("run/front.json", ("explore", "--resume", "--out", "run")),
]


@pytest.fixture
def files(workplace: Path, cli: Run) -> Path:
    """A folder with files of every kind that commands read."""
    (workplace / "scheme.toml").write_text(SCHEME)
    done = cli(
        *("explore", "--network", "tiny.toml", "--target", "bench.toml", *SMALL_SPACE),
        *("--out", "run"),
    )
    assert done.code == 0, done
    shutil.copytree("run", "kept")
    return workplace


@pytest.mark.parametrize("seed", range(5))
def test_mutated_files_give_one_line(seed: int, files: Path, cli: Run) -> None:
    rng = random.Random(seed)
    codes: dict[int, int] = {}
    for _ in range(CASES):
        name, arguments = rng.choice(COMMANDS)
        kept = (files / name).read_bytes()
        mutated(files / name, rng)
        try:
            done = cli(*arguments)
        except BaseException as error:
            shown = (files / name).read_bytes()
            raise AssertionError(f"{arguments} with {name} {shown!r}") from error
        finally:
            (files / name).write_bytes(kept)
        check(done, arguments)
        codes[done.code] = codes.get(done.code, 0) + 1
        for folder in ("out", "plots"):
            shutil.rmtree(files / folder, ignore_errors=True)
    assert codes[1] > CASES / 4 and codes.get(0, 0) > CASES / 20


def check(done: Done, arguments: tuple[str, ...]) -> None:
    assert done.code in (0, 1, 2, 3), (arguments, done)
    if done.code:
        last = done.err.splitlines()
        said = [line for line in last if line.startswith("syq-dse: ")]
        assert len(said) == 1 and said[0] == last[-1], (arguments, done.err)
        assert "Traceback" not in done.err
