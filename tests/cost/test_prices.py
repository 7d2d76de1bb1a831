"""Price files: what a user reads when one is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from syq_dse import catalogue, records
from syq_dse.cost import prices
from syq_dse.errors import InputError

CALIBRATION = catalogue.folder("hwmodels") / "calibration"


@pytest.mark.parametrize("family", ["ecp5", "xc7", "xcup"])
def test_a_family_is_priced_under_its_own_name(family: str) -> None:
    found = prices.load_lut(family)
    assert found.family == family
    assert found.source
    assert prices.load_lut(family) is found  # read once
    assert records.structure(records.plain(found), prices.LutPrices, family) == found


def test_energy_says_that_it_is_not_calibrated() -> None:
    assert prices.load_energy().status == "uncalibrated"


@pytest.mark.parametrize(
    ("name", "record", "line", "instead", "message"),
    [
        (
            "xcup.toml",
            prices.LutPrices,
            "adder_bits = 1.0 ",
            "adder_bits = -1.0 ",
            "xcup.toml: lut_per_bit.adder_bits must not be negative, got -1.0",
        ),
        (
            "xcup.toml",
            prices.LutPrices,
            "window = 10.0",
            "window = -10",
            "xcup.toml: lut_per_unit.window must not be negative, got -10.0",
        ),
        (
            "energy-fpga.toml",
            prices.EnergyPrices,
            "sram_bits = 0.15625",
            "sram_bits = -0.15625",
            "energy-fpga.toml: pj_per_bit.sram_bits must not be negative, got -0.15625",
        ),
        (
            "xcup.toml",
            prices.LutPrices,
            'status = "uncalibrated"',
            'status = "guessed"',
            "xcup.toml: status: must be one of calibrated, uncalibrated, got 'guessed'",
        ),
        (
            "xcup.toml",
            prices.LutPrices,
            "clip_bits = 1.0",
            "clip_bits = nan",
            "xcup.toml: lut_per_bit.clip_bits: must be a finite number, got nan",
        ),
    ],
)
def test_message_for_a_wrong_price(
    tmp_path: Path, name: str, record: type, line: str, instead: str, message: str
) -> None:
    text = (CALIBRATION / name).read_text(encoding="utf-8")
    assert line in text
    path = tmp_path / name
    path.write_text(text.replace(line, instead), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        records.load(path, record)
    assert str(caught.value) == message


def test_message_for_a_family_without_prices() -> None:
    with pytest.raises(InputError) as caught:
        prices.load_lut("xcvu")
    assert str(caught.value) == (
        "unknown calibration 'xcvu'; known: ecp5, energy-fpga, xc7, xcup (did you mean 'xcup'?); "
        "a path to a .toml file works too"
    )
