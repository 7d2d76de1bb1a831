"""The table of calibration runs: what was counted and what was synthesised, one row a unit."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from syq_dse import records
from syq_dse.errors import InputError
from syq_dse.rtl.synthesis import Synthesis

RESOURCES = ("ff", "dsp", "bram18", "uram", "lutram")
"""What is counted, not fitted; memories included."""

SYNTHESISED = ("lut", *RESOURCES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One unit of drawn parameters, counted and synthesised."""

    unit: str
    run: int  # which draw of the unit, with `seed`
    seed: int
    parameters: dict[str, int | str]
    features: dict[str, float]  # `Counts.lut`
    memory_lut: int  # LUTs of the memories, as the cost model maps them
    memory_halves: int  # and halves of LUTs (cost.fpga.HALVES)
    estimated_lut: int = 0  # by the fitted prices, memories included
    counted: dict[str, int]  # RESOURCES
    synthesised: Synthesis
    tool: str  # that synthesised it: version and command


COLUMNS = (
    *("unit", "run", "seed", "parameters", "features"),
    *("memory_lut", "memory_halves", "estimated_lut"),
    *(f"counted_{name}" for name in RESOURCES),
    *(f"synthesised_{name}" for name in SYNTHESISED),
    "cells",
    "tool",
)

TEXTS = ("unit", "tool")
"""Columns that are not JSON."""


def text(runs: Sequence[Run]) -> str:
    """The runs as CSV; parameters, features and cells are JSON."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for run in runs:
        made = run.synthesised
        writer.writerow(
            [
                *(run.unit, run.run, run.seed),
                *(json.dumps(run.parameters), json.dumps(run.features)),
                *(run.memory_lut, run.memory_halves, run.estimated_lut),
                *(run.counted[name] for name in RESOURCES),
                *(getattr(made, name) for name in SYNTHESISED),
                json.dumps(made.cells),
                run.tool,
            ]
        )
    return out.getvalue()


def read(path: Path) -> list[Run]:
    """The runs of a CSV file.

    Raises:
        InputError: the file is missing, or a line of it is not as `text` writes it.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: does not parse as CSV: {error}") from None
    return [_run(row, f"{path.name}: run {number}") for number, row in enumerate(rows, 1)]


def _run(row: Mapping[str, Any], place: str) -> Run:
    missing = [name for name in COLUMNS if not row.get(name)]
    if missing:
        raise InputError(f"{place}: the column '{missing[0]}' is missing")
    cells = {name: _json(row[name], place) for name in COLUMNS if name not in TEXTS}
    parameters = cells["parameters"]
    if not isinstance(parameters, dict) or not all(
        type(value) in (int, str) for value in parameters.values()
    ):
        raise InputError(f"{place}: parameters must be numbers and texts, got {parameters!r}")
    made = {name: cells[f"synthesised_{name}"] for name in SYNTHESISED}
    for name in ("run", "seed"):  # which are whole, or the record refuses them
        if isinstance(cells[name], int) and cells[name] < 0:
            raise InputError(f"{place}: {name} must be a number from 0 on, got {cells[name]}")
    for name in ("memory_lut", "memory_halves", *(f"counted_{name}" for name in RESOURCES)):
        if not isinstance(cells[name], int) or cells[name] < 0:
            raise InputError(f"{place}: {name} must be a number from 0 on, got {cells[name]!r}")
    same = ("run", "seed", "features", "memory_lut", "memory_halves", "estimated_lut")
    data = {
        **{name: row[name] for name in TEXTS},
        **{name: cells[name] for name in same},
        "parameters": {},  # no field type tells numbers and texts apart
        "counted": {name: cells[f"counted_{name}"] for name in RESOURCES},
        "synthesised": made | {"cells": cells["cells"]},
    }
    return replace(records.structure(data, Run, place), parameters=parameters)


def natural(cell: str) -> int:
    """A number of a run, or its seed.

    Raises:
        ValueError: it is none, or below 0.
    """
    value = int(cell)
    if value < 0:
        raise ValueError(f"run and seed must be numbers from 0 on, got {value}")
    return value


def _json(cell: str, place: str) -> Any:
    try:
        return json.loads(cell)
    except ValueError:
        raise InputError(f"{place}: must hold JSON, got {cell[:60]!r}") from None
