"""Every record that is read from a file: what is written comes back, and mistakes read well.

The documents are those that are shipped, or small ones. Hypothesis changes values to others of
their type: what the record still accepts has to come back from TOML and JSON, what it refuses has
to be one line with file, key and value. Then it makes mistakes of another kind.
"""

from __future__ import annotations

import copy
import functools
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import syq_dse
from syq_dse import catalogue, records
from syq_dse.cost import clock, cycle_energy, design, gates, prices, sram
from syq_dse.errors import InputError
from syq_dse.network import NetworkFile
from syq_dse.rtl.gates import Mapped
from syq_dse.rtl.runs import Run
from syq_dse.rtl.synthesis import Synthesis
from syq_dse.scheme import SchemeFile
from syq_dse.search import run
from syq_dse.search.queue import Task, Worker
from syq_dse.search.study import Study
from syq_dse.target import Board, Family
from syq_dse.technology import Technology
from syq_dse.train.dataset import DatasetFile
from syq_dse.train.recipe import Recipe
from syq_dse.train.result import Result

Place = tuple[str | int, ...]

SYNTHESIS = {"lut": 9, "lutram": 0, "ff": 4, "dsp": 1, "bram18": 0, "uram": 0, "cells": {"LUT6": 9}}
ROW = {
    "point": "p001", "accuracy": 0.9, "accuracy_low": 0.8, "accuracy_high": 0.95,
    "accuracy_source": "prior", "fps": 100.5, "latency_us": 20.0, "interval_cycles": 1000,
    "utilization": 0.5, "energy_uj": 3.5, "ff": 7, "lut": 12, "dominated": False,
}  # fmt: skip
SOURCE = {"name": "x", "text": "a = 1\n"}

SMALL: dict[type, dict[str, Any]] = {
    SchemeFile: {
        "network": "tiny",
        "input_bits": 8,
        "layers": {
            "conv1": {"weights": "ternary", "granularity": "row", "scale": "shift", "bits": 3},
            "add": {"bits": 4},
        },
    },
    design._FoldingFile: {
        "folding": {"conv1": {"pe": 2, "simd": 4, "res_type": "lut", "ram_style": "block"}}
    },
    run.FrontFile: {
        "network": "tiny", "target": "bench", "clock_mhz": 100.0, "limit": 0.8,
        "objectives": ["accuracy", "fps"], "accuracy_note": "a note",
        "provenance": {"lut": "calibrated"},
        "summary": {
            "exact": True, "hypervolume_exact": 1.5, "reference_point": [0.5, -3.0],
            "sampler": "exact",
        },
        "named": dict.fromkeys(("knee", "most-accurate", "fastest", "smallest"), "p001"),
        "points": [ROW, {**ROW, "point": "p002"}],
        "expected": {"p001": {name: ROW[name] for name in list(ROW)[1:5]}},
    },
    run.Record: {
        "format": 1, "syq_dse": "0.1.0", "python": "3.11.7", "described": "0" * 64,
        "study": {"target": "zcu102", "limit": 0.5, "space": {"bits": [1, 2], "intervals": 4}},
    },
    Task: {
        "settings": "0123456789", "seed": 1, "point": "p001", "document": {"any": [1, "x"]},
        **{name: dict(SOURCE) for name in ("network", "target", "recipe", "dataset")},
        "part": "validation", "folder": "/runs/x", "syq_dse": "0.1.0", "epochs": 3,
    },
    Worker: {"name": "here:1.0", "place": "here", "pid": 7},
    Result: {
        "job": {"seed": 0}, "top1": 0.5, "top5": 1.0, "loss": 0.25, "part": "test",
        "measured_images": 100, "epochs": 1, "images": 400, "seconds": 1.5,
        "images_per_second": 300.0, "recipe": "modern", "seed": 0,
        "versions": {"syq_dse": "0.1.0", "torch": "2"},
        "integers": {
            "images": 9, "same_class": 9, "codes": 90, "apart": {"conv1": 1}, "images_apart": 1,
        },
    },
    Mapped: {"area": 12.5, "flip_flop_area": 3.0, "cells": {"NAND2": 3}},
    Synthesis: SYNTHESIS,
    Run: {
        "unit": "add", "run": 0, "seed": 0, "parameters": {"bits": 3}, "features": {"a": 1.5},
        "memory_lut": 0, "memory_halves": 0, "estimated_lut": 4, "counted": {"lut": 4},
        "synthesised": SYNTHESIS, "tool": "yosys",
    },
}  # fmt: skip

SHIPPED: dict[type, tuple[str, str, str]] = {
    NetworkFile: ("models", "", "*.toml"),
    Recipe: ("models", "recipes", "*.toml"),
    DatasetFile: ("models", "datasets", "*.toml"),
    Study: ("studies", "", "*.toml"),
    Board: ("hwmodels", "fpga", "*.toml"),
    Family: ("hwmodels", "families", "*.toml"),
    Technology: ("hwmodels", "asic", "*.toml"),
    prices.EnergyPrices: ("hwmodels", "calibration", "energy-fpga.toml"),
    prices.LutPrices: ("hwmodels", "calibration", "x*.toml"),
    gates.GatePrices: ("hwmodels", "calibration/silicon", "*[0-9hd].toml"),
    clock.Delays: ("hwmodels", "calibration/silicon", "*-clock.toml"),
    cycle_energy.CycleEnergy: ("hwmodels", "calibration/silicon", "*-energy.toml"),
    sram.SramPrices: ("hwmodels", "calibration/silicon", "*-sram.toml"),
}

CLASSES = [*SHIPPED, *SMALL]


@functools.cache
def documents(cls: type) -> list[dict[str, Any]]:
    if cls in SMALL:
        return [SMALL[cls]]
    package, below, pattern = SHIPPED[cls]
    texts = [p.read_text() for p in (catalogue.folder(package) / below).glob(pattern)]
    found = [tomllib.loads(text) for text in sorted(texts, key=lambda t: (len(t), t))[:4]]
    if cls is gates.GatePrices:
        found = [one for one in found if "nand2" in one]
    assert found
    return found


def leaves(value: Any, place: Place = ()) -> Iterator[tuple[Place, Any]]:
    """The scalars of a document, and where each is."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*place, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from leaves(item, (*place, index))
    else:
        yield place, value


def put(document: dict[str, Any], place: Place, value: Any) -> dict[str, Any]:
    found: Any = copy.deepcopy(document)
    holder = found
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return found  # type: ignore[no-any-return]


def shown(place: Place) -> str:
    """A place as messages name it."""
    text = ""
    for key in place:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def other(value: Any) -> st.SearchStrategy[Any]:
    """Values of the same type: most of them near, so that some pass the record's rules."""
    match value:
        case bool():
            return st.booleans()
        case int():
            near = st.integers(max(0, value - 3), value + 3)
            return near | st.integers(-(2**53) + 1, 2**53 - 1)
        case float():
            return st.floats(0.5, 2).map(lambda by: value * by) | st.floats(-1e299, 1e299)
        case _:
            return st.sampled_from(
                [f"{value}x", f"{value} é", value[:-1], value.upper()]
            ) | st.text(st.characters(codec="utf-8"), max_size=8)


quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much],
)


def written(document: Any, path: Path) -> Path:
    text = json.dumps(document) if path.suffix == ".json" else tomli_w.dumps(document)
    path.write_bytes(text.encode())
    return path


def said(path: Path, cls: type) -> str | None:
    """The message with which a file is refused: of one line that begins with the file's name."""
    try:
        found = records.load(path, cls)
    except InputError as error:
        text = str(error)
        assert text.splitlines() == [text]
        assert text.startswith(f"{path.name}: ")
        return text
    again = path.with_name(f"again{path.suffix}")
    assert records.load(written(records.plain(found), again), cls) == found
    return None


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_documents_come_back(cls: type, tmp_path: Path) -> None:
    for document in documents(cls):
        for ending in ("toml", "json"):
            assert said(written(document, tmp_path / f"file.{ending}"), cls) is None


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_other_values_come_back_or_are_named(cls: type, tmp_path: Path) -> None:
    @quick
    @given(st.data())
    def look(data: st.DataObject) -> None:
        document = data.draw(st.sampled_from(documents(cls)))
        place, value = data.draw(st.sampled_from(list(leaves(document))))
        new = data.draw(other(value))
        ending = data.draw(st.sampled_from(["toml", "json"]))
        text = said(written(put(document, place, new), tmp_path / f"file.{ending}"), cls)
        if text is not None:
            names = [str(key) for key in place if isinstance(key, str)]
            assert any(name in text for name in names[-2:]), (place, new, text)
            assert names_value(text, new), (place, new, text)

    look()


def names_value(text: str, value: Any) -> bool:
    """Whether a message has a value, in full or cut."""
    if isinstance(value, float):
        return any(form in text for form in (repr(value), f"{value:g}", f"{value:.6g}"))
    return str(value) in text or repr(value)[:40].rstrip("'\"") in text


WRONG: list[Any] = [
    -1,
    2**60,
    1.5,
    float("nan"),
    float("-inf"),
    True,
    "",
    "x",
    [],
    ["x"],
    {},
    {"x": 1},
]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_value_of_another_type_is_named(cls: type, tmp_path: Path) -> None:
    @quick
    @given(st.data())
    def look(data: st.DataObject) -> None:
        document = data.draw(st.sampled_from(documents(cls)))
        place, value = data.draw(st.sampled_from(list(leaves(document))))
        new = data.draw(st.sampled_from(WRONG))
        assume(type(new) is not type(value))
        assume(place[0] not in ("document", "job") or new == new)  # of any type; NaN is not itself
        assume(not (isinstance(value, float) and type(new) is int))
        path = written(put(document, place, new), tmp_path / "file.toml")
        text = said(path, cls)
        if text is not None and "must be" in text:
            assert text.startswith(f"file.toml: {shown(place)}"), (place, new, text)
            assert text.endswith(f"got {new!r}"), (place, new, text)

    look()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_key_that_is_unknown_or_missing_is_named(cls: type, tmp_path: Path) -> None:
    @quick
    @given(st.data())
    def look(data: st.DataObject) -> None:
        document = data.draw(st.sampled_from(documents(cls)))
        place, value = data.draw(st.sampled_from(list(leaves(document))))
        place = place[: next((i for i, key in enumerate(place) if isinstance(key, int)), None)]
        *before, key = place
        holder: Any = document
        for name in before:
            holder = holder[name]
        misspelt = put(document, (*before, f"{key}_"), value)
        text = said(written(misspelt, tmp_path / "file.toml"), cls)
        assert text is None or f"'{key}_'" in text or f"{key}_" in text, text
        without = put(document, place, value)
        holder = without
        for name in before:
            holder = holder[name]
        del holder[key]
        text = said(written(without, tmp_path / "file.toml"), cls)
        assert text is None or key in text or str(before[-1:]) in text, text

    look()


def test_every_class_that_is_read_is_here() -> None:
    """Each call of the reader in the package names a class of this file."""
    names = {cls.__name__ for cls in CLASSES} | {"LayerScheme"}  # part of SchemeFile
    for path in Path(syq_dse.__file__).parent.rglob("*.py"):
        for line in path.read_text().splitlines():
            for call in ("records.load(", "records.structure("):
                if call in line and "def " not in line and path.name != "records.py":
                    arguments = line.split(call)[1]
                    assert any(name in arguments for name in names), (path, line)
