"""Verilog of components: one file each, simulatable and synthesisable by itself."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.back import rtlil
from amaranth.lib.wiring import Component

from syq_dse.rtl import dsp, yosys


def emit(components: Mapping[str, Component]) -> dict[str, str]:
    """The Verilog of each component by the name of its module; ports clk and rst besides its own.

    Flat but for tables in LUTs, what else is mapped by itself, and products in DSPs: the primitives
    of a family for a reader that defines SYNTHESIS (as Yosys does), else plain arithmetic.

    Raises:
        InputError: Yosys is missing or broken.
    """
    files = {
        f"{name}.il": rtlil.convert(unit, name=name, platform=dsp.VERILOG)
        for name, unit in components.items()
    }
    lines = []
    for name in components:
        lines += [
            "design -reset",
            f"read_rtlil {name}.il",
            "proc -noopt",
            "setattr -mod -set keep_hierarchy 1 *.table_* *.mapped_*",
            "flatten",
            "opt_clean -purge",
            "memory_collect",
            "opt_clean -purge",
            "setattr -unset src */* */t:* */m:*",
            "setattr -mod -unset src -unset generator -unset top *",
            f"write_verilog {name}.v",
        ]
    out = yosys.run(lines, files, results=[f"{name}.v" for name in components])
    return {name: dsp.define(out[f"{name}.v"], name) for name in components}
