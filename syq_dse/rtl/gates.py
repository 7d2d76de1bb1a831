"""Synthesis to standard cells: area of modules, by Yosys and ABC with a library's Liberty files.

Memories that cost/asic.py prices by themselves (SRAM, register files, tables) stay black boxes;
all else becomes gates, across the borders of modules.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from syq_dse import records
from syq_dse.errors import InputError
from syq_dse.rtl import yosys
from syq_dse.rtl.liberty import Library
from syq_dse.rtl.memory import GATES
from syq_dse.rtl.synthesis import around

SRAM = "syq_sram"
"""The cell that stands for a memory that is a black box."""

BOXES = {
    "all": f"select -set boxes t:$mem_v2 a:{GATES} %d",
    "sram": "select -set boxes t:$mem_v2 a:ram_style=ultra %i",
}
"""Which memories stay black boxes: all that are counted as such; or SRAM alone, and register files
and tables become gates."""

COMMAND = "synth -flatten; dfflibmap; abc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """What one module became, black boxes left out."""

    area: float  # [the library's unit, um2]
    flip_flop_area: float  # part of `area`
    cells: dict[str, int]

    def gate_equivalents(self, library: Library) -> float:
        return self.area / library.nand2_area


def synthesise(
    modules: Mapping[str, str],
    library: Library,
    *,
    boxes: str = "all",
    dont_use: Sequence[str] = (),
    cache: Path | None = None,
    timeout_s: float = yosys.TIMEOUT_S,
) -> dict[str, Mapped]:
    """Synthesise modules, each by itself, in one run of Yosys.

    Args:
        modules: Verilog by name of the module.
        boxes: a key of BOXES.
        dont_use: patterns of cells that are left out.
        cache: folder of results, by hash of netlist, files of the library and version of Yosys.

    Raises:
        InputError: Yosys fails, or an entry of the cache is broken.
    """
    keys = {name: _key(name, text, library, boxes, dont_use) for name, text in modules.items()}
    found = {}
    for name, key in keys.items():
        path = cache / f"{key}.json" if cache else None
        if path is not None and path.exists():
            found[name] = records.load(path, Mapped)
    missing = {name: text for name, text in modules.items() if name not in found}
    if missing:
        made, _ = run(missing, library, boxes, dont_use, timeout_s)
        for name, result in made.items():
            if cache:
                cache.mkdir(parents=True, exist_ok=True)
                records.write_json(cache / f"{keys[name]}.json", asdict(result))
        found |= made
    return {name: found[name] for name in modules}


def front(modules: Sequence[str], files: Sequence[str], top: str, boxes: str) -> list[str]:
    """Passes from Verilog to generic gates, without a library.

    Registers of silicon have no initial values: what needs one has a reset.
    """
    return [
        *(f"read_verilog {name}" for name in files if name.endswith(".v")),
        "setattr -unset init w:*",
        "setattr -mod -unset keep_hierarchy *",
        f"setattr -mod -set keep_hierarchy 1 {' '.join(modules)}",
        f"synth -flatten -top {top} -run begin:fine",
        BOXES[boxes],
        f"chtype -set {SRAM} @boxes",
        f"synth -flatten -top {top} -run fine:check",
    ]


def back(library: Library, dont_use: Sequence[str]) -> list[str]:
    """Passes from generic gates to cells of a library."""
    cells = of_library(library, dont_use)
    return [
        f"dfflibmap {cells}",
        f"abc {cells}",
        "opt_clean",
        "delete */t:$scopeinfo",
        f"tee -q -o stat.json stat -json {of_library(library)}",
    ]


def of_library(library: Library, dont_use: Sequence[str] = ()) -> str:
    """Arguments of a pass that say which cells there are."""
    liberty = " ".join(f"-liberty {index}.lib" for index in range(len(library.texts)))
    return liberty + "".join(f" -dont_use {pattern}" for pattern in dont_use)


def run(
    modules: Mapping[str, str],
    library: Library,
    boxes: str,
    dont_use: Sequence[str],
    timeout_s: float,
    more: Sequence[str] = (),
    results: Sequence[str] = (),
) -> tuple[dict[str, Mapped], dict[str, str]]:
    """One run of Yosys: what modules become, and the texts that further passes leave.

    Args:
        more: passes behind mapping.
        results: the files that they write.
    """
    passes = [*back(library, dont_use), *more]
    texts = run_passes(modules, library, boxes, passes, ["stat.json", *results], timeout_s)
    stat = json.loads(texts["stat.json"])["modules"]
    found = {name.removeprefix("\\"): of for name, of in stat.items()}
    return {name: _read(found[name], library, name) for name in modules}, texts


def run_passes(
    modules: Mapping[str, str],
    library: Library,
    boxes: str,
    passes: Sequence[str],
    results: Sequence[str],
    timeout_s: float,
) -> dict[str, str]:
    """Passes behind `front` of all modules, beside the files of the library; texts of results."""
    top = "syq_all"
    files = {"all.v": around(modules, top)}
    for name, text in modules.items():
        files |= yosys.with_contents_apart(name, text)
    lines = [*front(list(modules), list(files), top, boxes), *passes]
    files |= {f"{index}.lib": text for index, text in enumerate(library.texts)}
    what = ", ".join(sorted(modules)[:3]) + (", ..." if len(modules) > 3 else "")
    return yosys.run(lines, files, results, timeout_s, what)


def _read(stat: Mapping[str, Any], library: Library, name: str) -> Mapped:
    cells = {cell.removeprefix("\\"): n for cell, n in sorted(stat["num_cells_by_type"].items())}
    strange = [cell for cell in cells if cell not in library.areas and cell != SRAM]
    if strange:
        raise InputError(
            f"{name}: {strange[0]} has no cell in {library.files[0].name}; the library lacks a "
            "flip-flop or a gate of that kind"
        )
    return Mapped(
        area=float(stat.get("area", 0.0)),
        flip_flop_area=float(stat.get("sequential_area", 0.0)),
        cells=cells,
    )


def _key(name: str, text: str, library: Library, boxes: str, dont_use: Sequence[str]) -> str:
    files = (file.sha256 for file in library.files)
    passes = (*front([name], [f"{name}.v"], "top", boxes), *back(library, dont_use))
    what = "\n".join((yosys.version(), *passes, *files, name, text))
    return hashlib.sha256(what.encode()).hexdigest()[:32]
