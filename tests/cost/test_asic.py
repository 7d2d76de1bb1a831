"""Silicon: what memories and units take, and that both ways of pricing a design agree."""

from __future__ import annotations

import csv
import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syq_dse import catalogue, network, technology
from syq_dse.cost import asic, clock, cycle_energy, design, gates, pricing, sram
from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.estimate import LIMIT, estimate
from syq_dse.cost.integers import ints
from syq_dse.cost.table import CYCLES, build, price
from syq_dse.cost.units import requant
from syq_dse.errors import InputError
from syq_dse.rtl import gate_calibration

TECHNOLOGIES = catalogue.names("hwmodels", "asic")
SHIPPED = catalogue.folder("hwmodels") / gates.FOLDER


def test_flip_flops_of_memories_of_one_word_are_their_units() -> None:
    counts = Counts(
        lut={"adder_bits": 7},
        ff=3,
        memories=(
            Memory(width=5, depth=1, banks=2),  # a register
            Memory(width=5, depth=9),  # a memory by itself
            Memory(width=4, depth=600, banks=3, constant=True),  # three tables, two multiplexers
            Memory(width=4, depth=256, constant=True),  # one table, the register is its
        ),
    )
    found = gates.logic(counts)
    assert int(found["adder_bits"]) == 7
    assert int(found[gates.FLIP_FLOPS]) == 3 + 10 + 12
    assert int(found[gates.JOINS]) == 4 * 3 * 2


def test_gates_stand_for_lut_where_both_are_given() -> None:
    assert set(gates.logic(Counts(lut={"a": 1}, ff=0, gates=lambda: {"b": 2}))) == {
        "b",
        gates.FLIP_FLOPS,
        gates.JOINS,
    }


@pytest.mark.parametrize("depth", [2, 3, 4, 6, 8, 15, 16, 17, 100, 256, 257, 700])
def test_columns_and_octets_of_a_table_by_its_words(depth: int) -> None:
    found = gates.table(Memory(width=16, depth=depth, constant=True, different=11))
    wanted = dict.fromkeys(found, 0.0)
    # registers of equal columns are one; of a column's functions two are constant
    functions = 2.0**depth - 2
    wanted[gates.FLIP_FLOPS] = functions * -math.expm1(16 * math.log1p(-(2.0**-depth)))
    octets = 11 * depth / 8
    if depth < 16:
        low = max(words for words in gates.DEPTHS if words <= depth)
        part = (depth - low) / low
        wanted[f"columns_{low}"] = 11 * (1 - part)
        wanted[f"columns_{2 * low}"] = 11 * part
    else:
        # each octet is one of 124 functions, as likely as every other
        wanted["octets_made"] = 124 * (1 - math.exp(-octets / 124))
        wanted["selections"] = octets - 11
        wanted["first_selections"] = 2000 * (1 - math.exp(-(octets - 11) / 2000))
    found = {name: float(count) for name, count in found.items()}
    assert found == pytest.approx(wanted, rel=1e-3)


def test_a_table_without_a_register_has_none() -> None:
    found = gates.table(Memory(width=16, depth=40, constant=True, registered=False))
    assert float(found[gates.FLIP_FLOPS]) == 0


def test_registers_count_bits_and_words() -> None:
    found = gates.registers(Memory(width=6, depth=5, banks=2))
    assert {name: int(count) for name, count in found.items()} == {
        "bits": 60,
        "read_bits": 48,
        "words": 10,
        gates.FLIP_FLOPS: 12,
    }


def test_macros_are_within_what_was_fitted() -> None:
    prices = sram.load("ihp-sg13g2")
    depth = np.array([2, 64, 100, 1024, 8192, 8193, 20_000, 65])
    width = np.array([1, 64, 65, 7, 32, 200, 1000, 8])
    found = sram.macros(prices, depth, width)
    rows = found.depth // found.mux
    assert (found.depth % found.mux == 0).all()
    assert ((rows >= prices.rows[0]) & (rows <= prices.rows[1])).all()
    assert ((found.width >= prices.width[0]) & (found.width <= prices.width[1])).all()
    assert (found.count * found.depth * found.width >= depth * width).all()


def test_the_formula_says_what_the_macros_have() -> None:
    prices = sram.load("ihp-sg13g2")
    with (SHIPPED / "ihp-sg13g2-sram.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == prices.macros == 18
    for figure, (mean, worst) in prices.error.items():
        off = [
            prices.figure(figure, int(r["depth"]), int(r["width"]), int(r["mux"])).item()
            / float(r[figure])
            - 1
            for r in rows
        ]
        assert np.mean(np.abs(off)) <= mean * 1.01 + 1e-5  # held out is never better in the mean
        assert np.max(np.abs(off)) <= worst * 1.05 + 1e-5


@pytest.mark.parametrize("name", TECHNOLOGIES)
def test_errors_are_those_of_the_samples(name: str) -> None:
    prices = gates.load(name)
    runs = gate_calibration.read(SHIPPED / f"{name}_samples.csv")
    assert prices.status == "calibrated"
    assert set(prices.units) == set(gates.PRICED) == {run.unit for run in runs}
    for unit, found in prices.units.items():
        own = [run for run in runs if run.unit == unit]
        assert found.runs == len(own)
        large = [run for run in own if run.gates >= gate_calibration.SMALL]
        off = [abs(run.held_out / run.gates - 1) for run in large]
        if off:
            assert found.error["mean"] == pytest.approx(np.mean(off), rel=2e-3, abs=1e-4)
            assert found.error["worst"] == pytest.approx(np.max(off), rel=2e-3, abs=1e-4)
        for run in own:
            made = run.area_um2 / prices.nand2_um2
            assert run.gates == pytest.approx(made, rel=2e-3, abs=0.006)


@pytest.mark.parametrize("name", TECHNOLOGIES)
def test_energy_is_there_for_every_unit(name: str) -> None:
    assert set(cycle_energy.load(name).units) == set(gates.PRICED)


def test_estimate_and_table_agree_in_silicon() -> None:
    prices = pricing.load("ihp-sg13g2")
    net = network.load("lenet5")
    rng = np.random.default_rng(0)
    for text in ("ternary,2,pixel", "binary,1,layer", "int4,8,row"):
        asked = design.uniform(net, text)
        interval = int(rng.integers(2_000, 100_000))
        settled = design.settle(prices, net, asked, interval, None, None, LIMIT)
        one = estimate(prices, net, settled.scheme, interval, settled.folding)
        made = build(
            prices,
            net,
            [interval],
            {
                node.name: design.every_choice(
                    prices, net, node, (settled.scheme.layers[node.name],)
                )
                for node in net.engines
            },
            {name: (bits,) for name, bits in settled.scheme.bits.items()},
        )
        every = itertools.product(*(range(len(options)) for options in made.choices.values()))
        designs = np.array([[0, *row, *[0] * len(made.bits)] for row in every])
        area = price(made, designs).total
        best = int(area[:, 0].argmin())
        assert area[best].tolist() == list(one.total.values())
        assert one.total["area_nm2"] == sum(
            unit["area_nm2"] for layer in one.layers for unit in layer.units.values()
        )
        assert len(prices.columns) == CYCLES


def test_more_cycles_cost_more_energy_and_less_area() -> None:
    prices = pricing.load("ihp-sg13g2")
    net = network.load("lenet5")
    asked = design.uniform(net, "ternary,4,layer")
    areas = []
    for interval in (5_000, 50_000):
        settled = design.settle(prices, net, asked, interval, None, None, LIMIT)
        total = estimate(prices, net, settled.scheme, interval, settled.folding).total
        assert total["energy_pj"] > 0
        areas.append(total["area_nm2"])
    assert areas[1] < areas[0]


def test_logic_that_waits_for_a_word_takes_energy_once_a_word() -> None:
    prices = pricing.load("ihp-sg13g2")
    assert isinstance(prices, asic.Pricing)
    found = []
    for period in (1, 64):
        counts = requant.multiply(12, 4, 16, ints([1]), ints([period]), False, 18)
        (row,) = prices.resources("requant", counts)
        clocks = row[asic.FF] * prices.energy.flip_flop_fj
        found.append((row[asic.GATES], row[asic.CYCLE] - clocks))
    (gates_1, always), (gates_64, seldom) = found
    assert gates_1 == gates_64
    assert seldom == pytest.approx(always / 64, rel=0.02, abs=2)


def test_other_technologies_scale_the_macros_that_are_known() -> None:
    own, other = pricing.load("ihp-sg13g2"), pricing.load("osu018")
    assert isinstance(own, asic.Pricing)
    assert isinstance(other, asic.Pricing)
    assert own.scale == own.energy_scale == 1
    assert other.scale == pytest.approx(other.gates.nand2_um2 / own.gates.nand2_um2)
    assert "extrapolated" in other.provenance()["sram"]
    assert "extrapolated" not in own.provenance()["sram"]


def test_a_memory_takes_gates_clocks_or_sram() -> None:
    """Energy of a cycle is that of gates and of every flip-flop's clock, and is added up; a table
    has no SRAM, since macros start empty; one word is its unit's register."""
    prices = pricing.load("ihp-sg13g2")
    assert isinstance(prices, asic.Pricing)
    memory = Memory(width=6, depth=40, banks=2)
    assert prices.styles(memory) == ("distributed", "ultra")
    assert prices.styles(replace(memory, in_luts=True)) == ("distributed",)
    assert prices.styles(replace(memory, constant=True)) == ("distributed",)
    none = Counts(lut={}, ff=0, memories=(memory,))
    registers = prices.resources("fifo", none, "distributed")
    assert registers[asic.FF] == 6 * (40 + 1) * 2  # words, and what was read
    clocks = registers[asic.FF] * prices.energy.flip_flop_fj
    gates_fj = registers[asic.GATES] * prices.energy.units[gates.REGISTERS].fj
    assert registers[asic.CYCLE] == pytest.approx(clocks + gates_fj, abs=2)
    nand2s = registers[asic.GATES] * prices.gates.nand2_um2 * asic.NM2
    assert registers[asic.AREA] == pytest.approx(nand2s, abs=1)
    assert registers[asic.SRAM_BITS] == registers[asic.SRAM_AREA] == 0
    macros = prices.resources("fifo", none, "ultra")
    assert macros[asic.SRAM_BITS] >= 6 * 40 * 2
    assert macros[asic.AREA] == macros[asic.SRAM_AREA] > 0
    best = prices.resources("fifo", none)
    smaller = min((registers, macros), key=lambda row: int(row[asic.AREA]))
    assert best.tolist() == smaller.tolist()
    assert prices.chosen_style(memory) == ("ultra" if smaller is macros else "distributed")
    word = prices.resources("fifo", Counts(lut={}, ff=7, memories=(replace(memory, depth=1),)))
    assert word[asic.FF] == 7
    assert word[asic.SRAM_BITS] == 0


def test_sram_of_constants_is_read_at_the_macros_energy() -> None:
    """Of 64 words of 64 bits there is a macro; what is written while it is read has words of two,
    is read and written every other cycle, and has registers beside."""
    prices = pricing.load("ihp-sg13g2")
    assert isinstance(prices, asic.Pricing)
    with (SHIPPED / "ihp-sg13g2-sram.csv").open() as stream:
        macro = next(r for r in csv.DictReader(stream) if (r["depth"], r["width"]) == ("64", "64"))
    _, worst = prices.sram.error["read_pj"]
    held = Memory(width=64, depth=64, constant=True)
    row = prices.resources("weights", Counts(lut={}, ff=0, memories=(held,)), "ultra")
    assert row[asic.CYCLE] == pytest.approx(1000 * float(macro["read_pj"]), rel=1.5 * worst + 0.01)
    assert row[asic.SRAM_BITS] == 64 * 64
    worst = prices.sram.error["area_um2"][1]
    assert row[asic.AREA] / asic.NM2 == pytest.approx(float(macro["area_um2"]), rel=1.5 * worst)
    two = replace(held, banks=2)
    both = prices.resources("weights", Counts(lut={}, ff=0, memories=(two,)), "ultra")
    assert both[asic.CYCLE] == pytest.approx(2 * row[asic.CYCLE], abs=2)
    written = Memory(width=32, depth=128)
    row = prices.resources("fifo", Counts(lut={}, ff=0, memories=(written,)), "ultra")
    access = (float(macro["read_pj"]) + float(macro["write_pj"])) / 2
    assert row[asic.CYCLE] == pytest.approx(1000 * access, rel=1.5 * worst + 0.01)
    beside = row[asic.AREA] / asic.NM2 - float(macro["area_um2"])
    flip_flops = prices.gates.units[gates.REGISTERS].gates[gates.FLIP_FLOPS]
    assert beside >= 2 * 32 * flip_flops * prices.gates.nand2_um2 * 0.5


@pytest.mark.parametrize("name", TECHNOLOGIES)
def test_provenance_has_the_errors_of_the_prices(name: str) -> None:
    prices = pricing.load(name)
    assert isinstance(prices, asic.Pricing)
    found = prices.provenance()
    assert set(found) == {"area", "sram", "ff", "energy", "clock"}
    means, worst = re.search(
        r"mean error of a unit \[%\]: (.*); worst (\d+) %", found["area"]
    ).groups()
    units = {key: unit.error for key, unit in prices.gates.units.items() if "mean" in unit.error}
    shown = dict(one.split() for one in means.split(", "))
    assert {key: float(value) for key, value in shown.items()} == pytest.approx(
        {key: 100 * error["mean"] for key, error in units.items()}, abs=0.051
    )
    largest = max(error["worst"] for error in units.values())
    assert float(worst) == pytest.approx(100 * largest, abs=0.51)
    mean, most = prices.sram.error["area_um2"]
    off = re.search(r"area ([\d.]+) % off in the mean, ([\d.]+) % at most", found["sram"]).groups()
    assert tuple(map(float, off)) == pytest.approx((100 * mean, 100 * most), abs=0.051)


@pytest.mark.parametrize(
    ("load", "option"),
    [(gates.load, ""), (cycle_energy.load, " --energy"), (clock.load, " --clock")],
)
def test_message_of_prices_that_are_not_there(load: Any, option: str, tmp_path: Path) -> None:
    own = str(tmp_path)
    for folder, name, place, message in (
        (None, "mine", "FOLDER", "unknown calibration 'mine"),
        (own, "mine.toml", own, "no such file"),
    ):
        command = f"syq-dse calibrate --technology {name}{option} --liberty FILE -o {place}"
        with pytest.raises(InputError, match=message) as caught:
            load("mine", folder)
        assert str(caught.value).endswith(f"remedy: `{command}`")


@pytest.mark.parametrize("area", [0.0, -1.0, float("nan"), 1e6])
def test_message_of_a_budget_that_is_none(area: float) -> None:
    with pytest.raises(InputError, match="area_mm2 must be above 0 and at most 100000"):
        asic.pricing(technology.load("ihp-sg13g2"), area)


def test_message_of_a_price_that_is_missing() -> None:
    found = gates.load("ihp-sg13g2")
    with pytest.raises(InputError, match=r"ihp-sg13g2\.toml: units\.mac\.gates: no price of 'x'"):
        found.of("mac", {"x": 1})
    with pytest.raises(InputError, match="no prices of the unit 'y'; remedy: syq-dse calibrate"):
        found.of("y", {})


def test_prices_are_written_as_they_are_read(tmp_path: Path) -> None:
    for name in TECHNOLOGIES:
        assert gates.text(gates.load(name)) == (SHIPPED / f"{name}.toml").read_text()
        energy = cycle_energy.load(name)
        assert cycle_energy.text(energy) == (SHIPPED / f"{name}-energy.toml").read_text()
    assert sram.text(sram.load("ihp-sg13g2")) == (SHIPPED / "ihp-sg13g2-sram.toml").read_text()
