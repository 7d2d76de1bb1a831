"""Prices: what a user reads when one is wrong, and what a design is charged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse import catalogue, network, records, scheme, target
from syq_dse.cost import fpga, prices
from syq_dse.cost.counts import Counts
from syq_dse.cost.estimate import choose, estimate
from syq_dse.cost.fpga import FF, HALVES, LUT, Pricing
from syq_dse.cost.prices import LutPrices, UnitPrices
from syq_dse.errors import InputError

CALIBRATION = catalogue.folder("hwmodels") / "calibration"
FAMILIES = ["ecp5", "xc7", "xcup"]

TEXT = """
family = "xcup"
status = "calibrated"
source = "two runs"
tool = "yosys 0.70 synth_xilinx"

[units.mac]
runs = 60
lut = { unit = [4.5, 9.0], and_bits = [0.5, 1.0], adder_bits = [1.0, 2.0] }
valid = { pe = [1, 64], simd = [2, 288] }
error = { lut_mean = 0.021, lut_worst = 0.1 }
"""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_priced_under_its_own_name(family: str) -> None:
    found = prices.load_lut(family)
    assert found.family == family
    assert found.source
    assert list(found.units) == list(prices.UNITS)
    assert prices.load_lut(family) is found  # read once
    assert records.structure(records.plain(found), LutPrices, family) == found


def test_every_unit_of_an_engine_has_prices() -> None:
    found: set[str] = set()
    for name in ("resnet8", "fmnist-vgg"):
        net = network.load(name)
        wanted = scheme.parse_uniform(net, "ternary,4,pixel")
        pricing = fpga.pricing(target.load("zcu102"))
        chosen = choose(pricing, net, wanted, 100_000)
        for layer in estimate(pricing, net, wanted, 100_000, chosen).layers:
            found |= set(layer.units)
    assert found == set(prices.UNITS)


def test_energy_says_that_it_is_not_calibrated() -> None:
    assert prices.load_energy().status == "uncalibrated"


def wrong(tmp_path: Path, name: str, text: str, record: type) -> str:
    """The message for a file."""
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        records.load(path, record)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        (
            "adder_bits = [1.0",
            "adder_bits = [-1.0",
            "units.mac: lut.adder_bits must not be negative, got -1.0",
        ),
        ("unit = [4.5", "unit = [-10", "units.mac: lut.unit must not be negative, got -10.0"),
        (
            "adder_bits = [1.0",
            "adder_bits = [100.5",
            "units.mac: lut.adder_bits must be at most 100 LUTs, got 100.5",
        ),
        ("9.0", "1e6", "units.mac: lut.unit must be at most 10000 LUTs, got 1000000"),
        ("unit = [4.5, 9.0], ", "", "units.mac: lut: the key 'unit' is missing"),
        (
            "and_bits = [0.5",
            "and_bits = [nan",
            "units.mac.lut.and_bits[0]: must be a finite number, got nan",
        ),
        (
            "pe = [1, 64]",
            "pe = [64, 1]",
            "units.mac: valid.pe must be [least, most], got [64, 1]",
        ),
        ("pe = [1, 64]", "pe = [1]", "units.mac.valid.pe: must have 2 items, got 1"),
        (
            "lut_mean = 0.021",
            "lut_mean = -1",
            "units.mac: error.lut_mean must not be negative, got -1.0",
        ),
        ("runs = 60", "runs = -1", "units.mac: runs must not be negative, got -1"),
        ("runs = 60", "", "status: calibrated needs runs of every unit, got none of mac"),
        (
            '"calibrated"',
            '"guessed"',
            "status: must be one of calibrated, uncalibrated, got 'guessed'",
        ),
    ],
)
def test_message_for_a_wrong_price(tmp_path: Path, line: str, instead: str, message: str) -> None:
    assert line in TEXT
    found = wrong(tmp_path, "xcup.toml", TEXT.replace(line, instead), LutPrices)
    assert found.startswith(f"xcup.toml: {message}")


def test_message_for_a_wrong_price_of_energy(tmp_path: Path) -> None:
    text = (CALIBRATION / "energy-fpga.toml").read_text(encoding="utf-8")
    text = text.replace("sram_bits = 0.15625", "sram_bits = -0.15625")
    assert wrong(tmp_path, "energy-fpga.toml", text, prices.EnergyPrices) == (
        "energy-fpga.toml: pj_per_bit.sram_bits must not be negative, got -0.15625"
    )


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        ('family = "xcup"', 'family = "ecp5"', "family must be 'xcup', got 'ecp5'"),
        ("tool = ", 'tool = "" # ', "tool must say what synthesised the units, got ''"),
        ("valid = {", "valid = {} # {", "units.window.valid: must not be empty"),
        ("error = {", "error = {} # {", "units.window.error: must not be empty"),
        ("runs = 100", "runs = x", "does not parse as TOML"),
    ],
)
def test_a_calibration_that_is_none_is_refused_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, instead: str, message: str
) -> None:
    text = (CALIBRATION / "xcup.toml").read_text("utf-8")
    assert line in text
    path = tmp_path / "xcup.toml"
    path.write_text(text.replace(line, instead, 1))
    monkeypatch.setattr(prices.catalogue, "find", lambda *_: path)
    prices.load_lut.cache_clear()
    try:
        with pytest.raises(InputError) as caught:
            prices.load_lut("xcup")
    finally:
        prices.load_lut.cache_clear()
    assert message in str(caught.value)
    assert str(caught.value).endswith("or `syq-dse calibrate --family xcup`")


def test_not_a_number_is_no_price() -> None:
    with pytest.raises(InputError, match=r"^lut\.unit must not be negative, got nan$"):
        UnitPrices(lut={"unit": (1.0, float("nan"))})


def test_message_for_a_family_without_prices() -> None:
    with pytest.raises(InputError) as caught:
        prices.load_lut("xcvu")
    assert str(caught.value) == (
        "unknown calibration 'xcvu'; known: ecp5, energy-fpga, xc7, xcup (did you mean 'xcup'?); "
        "a path to a .toml file works too"
    )


NAMES = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=1, max_size=8)
PRICE = st.floats(0, 100).map(lambda value: float(f"{value:.4g}"))


@settings(max_examples=40, deadline=None)
@given(
    unit=NAMES,
    source=NAMES,
    lut=st.dictionaries(NAMES, st.tuples(PRICE, PRICE), max_size=4),
    valid=st.dictionaries(NAMES, st.tuples(st.integers(-9, 0), st.integers(0, 999)), max_size=3),
)
def test_the_text_of_prices_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    unit: str,
    source: str,
    lut: dict[str, tuple[float, float]],
    valid: dict[str, tuple[int, int]],
) -> None:
    of = UnitPrices(runs=3, lut={"unit": (1.5, 2.5)} | lut, valid=valid, error={"lut_mean": 0.01})
    made = LutPrices(
        family="xcup", status="calibrated", source=source, tool="t", units={unit: of, "mac": of}
    )
    path = tmp_path_factory.mktemp("prices") / "xcup.toml"
    path.write_text(prices.lut_text(made), encoding="utf-8")
    assert records.load(path, LutPrices) == made


def test_parameters_outside_of_the_calibration_are_told(tmp_path: Path) -> None:
    path = tmp_path / "xcup.toml"
    path.write_text(TEXT, encoding="utf-8")
    found = records.load(path, LutPrices)
    inside: dict[str, int | str] = {"pe": 64, "simd": 2, "weights": "binary", "other": 10**6}
    assert prices.warnings(found, "mac", inside) == []
    assert prices.warnings(found, "mac", {"pe": 65, "simd": 1}) == [
        "mac: pe=65 is outside 1..64 of the calibration (xcup.toml)",
        "mac: simd=1 is outside 2..288 of the calibration (xcup.toml)",
    ]
    assert prices.warnings(found, "pool", {"pe": 10**6}) == []


# What a design is charged


def priced(lut: dict[str, tuple[float, float]]) -> Pricing:
    """The pricing of a board on which one unit, mac, has these prices."""
    pricing = fpga.pricing(target.load("zcu102"))
    return replace(pricing, lut=replace(pricing.lut, units={"mac": UnitPrices(runs=1, lut=lut)}))


def test_luts_are_rounded_up_and_a_unit_has_its_constant() -> None:
    pricing = priced({"unit": (8.0, 9.0), "compare_bits": (0.5, 0.25)})
    for bits in (0, 1, 2, 3, 7):
        row = fpga.resources("mac", Counts(lut={"compare_bits": bits}, ff=bits), pricing)
        assert int(row[LUT]) == (-(-bits // 2) + 8 if bits else 0)
        assert int(row[HALVES]) == (-(-bits // 4) + 9 if bits else 0)
        assert int(row[FF]) == bits
    assert not fpga.resources("mac", Counts(lut={}, ff=0), pricing).any()


def test_logic_that_is_free_still_has_the_constant() -> None:
    pricing = priced({"unit": (8.0, 0.0), "select_bits": (0.0, 0.0)})
    row = fpga.resources("mac", Counts(lut={"select_bits": 3}, ff=0), pricing)
    assert int(row[LUT]) == 8


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=6))
def test_many_foldings_at_once_are_each_by_itself(sizes: list[tuple[int, int]]) -> None:
    pricing = priced({"unit": (2.25, 1.0), "and_bits": (0.3, 0.1), "adder_bits": (1.01, 2.0)})
    both = np.array(sizes)
    counts = Counts(lut={"and_bits": both[:, 0], "adder_bits": both[:, 1]}, ff=both[:, 0])
    rows = fpga.resources("mac", counts, pricing)
    for row, (a, b) in zip(rows, sizes, strict=True):
        alone = Counts(lut={"and_bits": a, "adder_bits": b}, ff=a)
        assert (row == fpga.resources("mac", alone, pricing)).all()
        whole = np.ceil(0.3 * a + 1.01 * b + 2.25 * bool(a or b) - 1e-9)
        assert int(row[LUT]) == whole


@pytest.mark.parametrize(
    ("unit", "message"),
    [
        (
            "mac",
            "xcup.toml: units.mac.lut: no price of 'carrier_pigeons'; known: unit, adder_bits; "
            "remedy: syq-dse calibrate --family xcup --unit mac",
        ),
        (
            "pool",
            "xcup.toml: units: no prices of the unit 'pool'; "
            "remedy: syq-dse calibrate --family xcup --unit pool",
        ),
    ],
)
def test_a_count_without_a_price_is_no_silent_zero(unit: str, message: str) -> None:
    pricing = priced({"unit": (1.0, 1.0), "adder_bits": (1.0, 1.0)})
    with pytest.raises(InputError) as caught:
        fpga.resources(unit, Counts(lut={"carrier_pigeons": 1}, ff=0), pricing)
    assert str(caught.value) == message


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 300)), min_size=1, max_size=5))
def test_luts_that_units_share_count_once(units: list[tuple[int, int]]) -> None:
    rows = np.zeros((len(units), HALVES + 1), dtype=np.int64)
    rows[:, [LUT, HALVES]] = units
    alone = fpga.settled(rows)[:, LUT]
    assert alone.tolist() == [max(luts, -(-halves // 2)) for luts, halves in units]
    together = int(fpga.settled(rows.sum(axis=0))[LUT])
    assert max(alone) <= together <= alone.sum()
