"""Prices: what a bit of each kind of logic or work costs on a device family, and who says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from syq_dse import catalogue, records
from syq_dse.errors import InputError

Status = Literal["calibrated", "uncalibrated"]


def _check_prices(name: str, prices: Mapping[str, float]) -> None:
    for key, value in prices.items():
        if value < 0:
            raise InputError(f"{name}.{key} must not be negative, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LutPrices:
    """LUTs of a family, by what they do (`Counts.lut`) and a constant a unit."""

    family: str
    status: Status
    source: str
    lut_per_bit: dict[str, float]
    lut_per_unit: dict[str, float]

    def __post_init__(self) -> None:
        _check_prices("lut_per_bit", self.lut_per_bit)
        _check_prices("lut_per_unit", self.lut_per_unit)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPrices:
    """Energy of one bit of each kind of work (`Counts.work`) [pJ]."""

    name: str
    status: Status
    source: str
    pj_per_bit: dict[str, float]

    def __post_init__(self) -> None:
        _check_prices("pj_per_bit", self.pj_per_bit)


@cache
def load_lut(family: str) -> LutPrices:
    """The LUT prices of a device family."""
    path = catalogue.find("calibration", family, "hwmodels", ("calibration",))
    return records.load(path, LutPrices)


@cache
def load_energy(name: str = "energy-fpga") -> EnergyPrices:
    """The energy prices of a technology."""
    path = catalogue.find("calibration", name, "hwmodels", ("calibration",))
    return records.load(path, EnergyPrices)
