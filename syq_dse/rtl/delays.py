"""Timing of synthesised units: ABC's longest path, with buffers and sizes for it, and registers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from syq_dse.errors import InputError
from syq_dse.rtl import gates, yosys
from syq_dse.rtl.liberty import PIN, Library, of_cell, third_of

SCRIPT = (
    "+strash;&get,-n;&fraig,-x;&put;scorr;dc2;strash;&get,-n;&dch,-f;&nf;&put;"
    "buffer;upsize;dnsize;stime,-p"
)
"""Mapping as Yosys' own for a library with a constraint file: buffers, sizes, and the path."""

DELAY = re.compile(r"Delay\s*=\s*([\d.]+)\s*ps")


def measure(
    modules: Mapping[str, str],
    library: Library,
    dont_use: Sequence[str] = (),
    boxes: str = "sram",
    timeout_s: float = yosys.TIMEOUT_S,
) -> dict[str, float]:
    """The longest path of each module through its gates [ns]: no wires, SRAM apart.

    Modules are flat; what comes from outside comes at the clock's edge. 0 where there is no gate.

    Raises:
        InputError: Yosys fails.
    """
    cells = gates.of_library(library, dont_use)
    passes = [
        f"dfflibmap {cells}",
        *(f"tee -q -o {name}.log abc {cells} -script {SCRIPT} {name}" for name in modules),
    ]
    results = [f"{name}.log" for name in modules]
    logs = gates.run_passes(modules, library, boxes, passes, results, timeout_s)
    found = {}
    for name in modules:
        paths = [float(path) for path in DELAY.findall(logs[f"{name}.log"])]
        found[name] = paths[-1] / 1000 if paths else 0.0
    return found


def register_ns(library: Library) -> float:
    """Clock to output and set-up of the library's smallest flip-flop [ns], each table at a third of
    its axes.

    Raises:
        InputError: its Liberty has no timing.
    """
    body, text = of_cell(library, library.flip_flop)
    unit = re.search(r'\btime_unit\s*:\s*"?\s*([\d.]*)\s*([munpf]?s)', text)
    scale = float(unit[1] or 1) * {"ps": 1e-3, "ns": 1.0, "us": 1e3}[unit[2]] if unit else 1.0
    output, setup = [0.0], [0.0]
    for pin in PIN.split(body)[1:]:
        for timing in re.split(r"\btiming\s*\(", pin)[1:]:
            kind = re.search(r'\btiming_type\s*:\s*"?(\w+)', timing)
            if kind is None:
                continue
            if kind[1] in ("rising_edge", "falling_edge"):
                output += _values(timing, r"cell_(?:rise|fall)")
            elif kind[1].startswith("setup"):
                setup += _values(timing, r"(?:rise|fall)_constraint")
    if max(output) <= 0:
        raise InputError(f"{library.flip_flop}: no delay from clock to output in its Liberty file")
    return scale * (max(output) + max(setup))


def _values(timing: str, tables: str) -> list[float]:
    found = re.findall(rf"\b{tables}\s*\([^)]*\)\s*\{{.*?values\s*\((.*?)\)", timing, re.DOTALL)
    return [value for value in map(third_of, found) if value is not None]
