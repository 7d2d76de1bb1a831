"""Units drawn with seeds that no calibration saw, synthesised, against what is counted for them."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from syq_dse import target
from syq_dse.cost import fpga
from syq_dse.errors import InputError
from syq_dse.rtl import synthesis, yosys
from syq_dse.rtl.verilog import emit
from syq_dse.target import load_family

UNITS = ("mac", "weights", "fifo", "add")


def small(unit: str, seed: int):
    """A drawn unit of moderate size: large ones take long to synthesise."""
    draw = import_module(f"syq_dse.rtl.samples.{unit}").draw
    rng = np.random.default_rng(seed)
    while True:
        sample = draw(rng, load_family("xcup"))
        bits = sum(int(np.max(m.width * m.depth)) for m in sample.counts.memories)
        if int(np.max(sample.counts.ff)) < 300 and bits < 4000:
            return sample


def test_counts_are_those_of_synthesis() -> None:
    prices = fpga.pricing(target.load("zcu102"))
    samples = {unit: small(unit, 20_261) for unit in UNITS}
    made = synthesis.synthesise(emit({u: s.unit for u, s in samples.items()}), "xcup")
    for unit, sample in samples.items():
        style = sample.styles[0] if sample.styles else None
        taken = fpga.resources(unit, sample.counts, prices, style).reshape(-1)
        row = fpga.as_mapping(fpga.settled(taken))
        for name in ("dsp", "bram18", "uram", "lutram"):
            assert row[name] == getattr(made[unit], name), (unit, sample.parameters, name)
        assert abs(row["ff"] - made[unit].ff) <= 0.08 * made[unit].ff, (unit, sample.parameters)
        # 12 % is the bar of a unit; below 50 LUTs a few LUTs of control decide
        allowed = 0.12 * made[unit].lut + 8
        assert abs(row["lut"] - made[unit].lut) <= allowed, (unit, sample.parameters)


def test_results_are_kept_and_a_broken_one_is_named(tmp_path: Path) -> None:
    text = "module one(clk, q);\n  input clk;\n  output q;\n  reg q = 0;\n"
    text += "  always @(posedge clk) q <= ~q;\nendmodule\n"
    first = synthesis.synthesise({"one": text}, "ecp5", tmp_path)
    assert first["one"].ff == 1
    (entry,) = tmp_path.glob("*.json")
    assert synthesis.synthesise({"one": text}, "ecp5", tmp_path) == first
    kept = entry.read_text()
    for made, edited, message in (
        ('"ff": 1', '"ff": 7', "ff must be 1, which its cells are, got 7"),
        ('"dsp": 0', '"dsp": 4000', "dsp must be 0, which its cells are, got 4000"),
        ('"lut": 1', '"lut": 5000000', r"lut must be 0 to \d+ by its cells, got 5000000"),
        ('"lut": 1', '"lut": -5', r"lut must be 0 to \d+ by its cells, got -5"),
        ('"TRELLIS_FF": 1', '"TRELLIS_FF": -1', "cells.TRELLIS_FF must not be negative, got -1"),
    ):
        assert made in kept
        entry.write_text(kept.replace(made, edited))
        with pytest.raises(InputError, match=f"{message}; delete it to synthesise again"):
            synthesis.synthesise({"one": text}, "ecp5", tmp_path)
    entry.write_text("{")
    with pytest.raises(InputError, match="delete it to synthesise again"):
        synthesis.synthesise({"one": text}, "ecp5", tmp_path)


def test_a_failure_of_yosys_is_one_line() -> None:
    with pytest.raises(InputError, match=r"yosys: .*ERROR"):
        yosys.run(["read_verilog nothing.v"], {}, [])


def test_a_time_limit_is_kept() -> None:
    with pytest.raises(InputError, match=r"exceeded its time limit of 0\.01 s"):
        yosys.run(["help"], {}, [], timeout_s=0.01)
