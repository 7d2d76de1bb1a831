"""Synthesis by Yosys: resources of modules, with results kept by the hash of what made them."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from syq_dse import records
from syq_dse.errors import InputError, one_line
from syq_dse.rtl import yosys

COMMANDS = {
    "xcup": "synth_xilinx -family xcup -nodsp -noiopad -noclkbuf -flatten",
    "xc7": "synth_xilinx -family xc7 -nodsp -noiopad -noclkbuf -flatten",
    "ecp5": "synth_ecp5 -nodsp",
}
"""How each family is synthesised. Multipliers in DSPs are instances, never inferred."""

STAT = {"xcup": "stat -json -tech xilinx", "xc7": "stat -json -tech xilinx", "ecp5": "stat -json"}

LUTRAM = {
    "RAM32M": 4,
    "RAM64M": 4,
    "RAM32M16": 8,
    "RAM64M8": 8,
    "RAM32X1D": 2,
    "RAM64X1D": 2,
    "RAM128X1D": 4,
    "RAM256X1D": 8,
    "SRL16E": 1,
    "SRLC16E": 1,
    "SRLC32E": 1,
    "TRELLIS_DPR16X4": 6,
}
"""LUTs that one memory primitive takes. Source: AMD UG474, UG574; hwmodels/families/ecp5.toml."""

FF = re.compile(r"FD[RSCP]E(_1)?|TRELLIS_FF")
DSP = re.compile(r"DSP48E[12]|MULT18X18D")
BRAM18 = {"RAMB18E1": 1, "RAMB18E2": 1, "RAMB36E1": 2, "RAMB36E2": 2, "DP16KD": 1, "PDPW16KD": 1}
LOGIC = re.compile(r"LUT[1-6]|INV|CCU2C")
LUT4S = {"LUT4": 1, "CCU2C": 2}
"""What nextpnr-ecp5 counts as LUT4s: a carry cell takes the two of its slice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthesis:
    """What one module became."""

    lut: int  # Yosys' estimated LCs (ECP5: LUT4s and two a carry cell), and `lutram`
    lutram: int  # LUTs that are memory
    ff: int
    dsp: int
    bram18: int
    uram: int
    cells: dict[str, int]


def synthesise(
    modules: Mapping[str, str],
    family: str,
    cache: Path | None = None,
    timeout_s: float = yosys.TIMEOUT_S,
) -> dict[str, Synthesis]:
    """Synthesise modules, each by itself, in one run of Yosys.

    Args:
        modules: Verilog by name of the module; a file holds its module and no other of these names.
        family: xcup, xc7 or ecp5.
        cache: folder of results, by hash of netlist, command and version of Yosys.

    Raises:
        InputError: Yosys fails, or an entry of the cache is broken.
    """
    keys = {name: _key(name, text, family) for name, text in modules.items()}
    found = {}
    for name, key in keys.items():
        kept = _load(cache / f"{key}.json") if cache else None
        if kept is not None:
            found[name] = kept
    missing = {name: text for name, text in modules.items() if name not in found}
    if missing:
        made = _run(missing, family, timeout_s)
        for name, result in made.items():
            if cache:
                _save(cache / f"{keys[name]}.json", result)
        found |= made
    return {name: found[name] for name in modules}


def _run(modules: Mapping[str, str], family: str, timeout_s: float) -> dict[str, Synthesis]:
    top = "syq_all"
    files = {"all.v": around(modules, top)}
    for name, text in modules.items():
        files |= yosys.with_contents_apart(name, text)
    lines = [f"read_verilog {name}" for name in files if name.endswith(".v")]
    lines += [f"setattr -mod -set keep_hierarchy 1 {' '.join(modules)}"]
    lines += [f"{COMMANDS[family]} -top {top}", f"tee -q -o stat.json {STAT[family]}"]
    what = ", ".join(sorted(modules)[:3]) + (", ..." if len(modules) > 3 else "")
    text = yosys.run(lines, files, ["stat.json"], timeout_s, what)["stat.json"]
    found = {name.removeprefix("\\"): of for name, of in json.loads(text)["modules"].items()}
    return {name: _read(found, name, family) for name in modules}


def around(modules: Mapping[str, str], top: str) -> str:
    """A module that holds one of each, its ports theirs."""
    ports, bodies = [], []
    for name, text in modules.items():
        links = []
        for direction, width, port in PORT.findall(own(name, text)):
            ports.append(f"{direction} {width} {name}__{port}")
            links.append(f".{port}({name}__{port})")
        bodies.append(f"{name} u_{name} ({', '.join(links)});")
    return f"module {top} ({', '.join(ports)});\n" + "\n".join(bodies) + "\nendmodule\n"


PORT = re.compile(r"^  (input|output) (\[\d+:0\])? ?(\w+);", re.MULTILINE)


def own(name: str, text: str) -> str:
    """The text of one module of a file."""
    start = text.index(f"module {name}(")
    return text[start : text.index("endmodule", start)]


def _read(modules: Mapping[str, Any], name: str, family: str) -> Synthesis:
    cells = dict(sorted(_cells(modules, name).items()))
    found = counted(cells)
    if family == "ecp5":
        logic = sum(LUT4S.get(cell, 0) * n for cell, n in cells.items())
    else:
        logic = modules[name]["estimated_num_lc"]  # submodules included
    return Synthesis(lut=logic + found["lutram"], cells=cells, **found)


def counted(cells: Mapping[str, int]) -> dict[str, int]:
    """What primitives are, LUTs of logic apart."""
    return {
        "lutram": sum(LUTRAM.get(cell, 0) * n for cell, n in cells.items()),
        "ff": sum(n for cell, n in cells.items() if FF.fullmatch(cell)),
        "dsp": sum(n for cell, n in cells.items() if DSP.fullmatch(cell)),
        "bram18": sum(BRAM18.get(cell, 0) * n for cell, n in cells.items()),
        "uram": cells.get("URAM288", 0),
    }


def lut_parts(cells: Mapping[str, int], lut_inputs: int) -> tuple[int, int]:
    """LUTs of three inputs and more, and halves of LUTs (cost.fpga.HALVES); of logic alone.

    Yosys' estimate of LCs (`stat -tech xilinx`) is the larger of the first and half the second.
    Families of four inputs have LUT4s only.
    """
    if lut_inputs < 6:
        return sum(LUT4S.get(cell, 0) * n for cell, n in cells.items()), 0
    two, three, four, five, six = (cells.get(f"LUT{n}", 0) for n in range(2, 7))
    return three + four + five + six, two + three + four + 2 * (five + six)


def _cells(modules: Mapping[str, Any], name: str) -> Counter[str]:
    """Primitives of a module and of what it contains."""
    found: Counter[str] = Counter()
    for cell, count in modules[name]["num_cells_by_type"].items():
        inner = cell.removeprefix("\\")
        if inner in modules:
            found.update({name: n * count for name, n in _cells(modules, inner).items()})
        else:
            found[cell] += count
    return found


def _key(name: str, text: str, family: str) -> str:
    what = "\n".join((yosys.version(), COMMANDS[family], STAT[family], name, text))
    return hashlib.sha256(what.encode()).hexdigest()[:32]


def _load(path: Path) -> Synthesis | None:
    if not path.exists():
        return None
    try:
        found = records.load(path, Synthesis)
        wrong = _contradiction(found)
        if wrong:
            raise InputError(f"{path.name}: {wrong}")
    except InputError as error:
        raise InputError(f"{error}; delete it to synthesise again") from None
    return found


def _contradiction(found: Synthesis) -> str:
    """Where the counts of a result are not those of its cells."""
    for cell, count in found.cells.items():
        if count < 0:
            return f"cells.{one_line(cell)} must not be negative, got {count}"
    for name, count in counted(found.cells).items():
        if getattr(found, name) != count:
            return f"{name} must be {count}, which its cells are, got {getattr(found, name)}"
    logic = {cell: n for cell, n in found.cells.items() if LOGIC.fullmatch(cell)}
    most = found.lutram + sum(n * LUT4S.get(cell, 1) for cell, n in logic.items())
    if not found.lutram <= found.lut <= most:
        return f"lut must be {found.lutram} to {most} by its cells, got {found.lut}"
    return ""


def _save(path: Path, result: Synthesis) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    records.write_json(path, asdict(result))
