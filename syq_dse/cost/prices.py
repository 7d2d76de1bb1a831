"""Prices: what each kind of logic or work costs on a device family, and who says so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Literal

from syq_dse import catalogue, records
from syq_dse.errors import InputError, one_line

Status = Literal["calibrated", "uncalibrated"]

UNITS = ("window", "weights", "mac", "scale", "requant", "pool", "add", "fifo")
"""The hardware units: each has prices of its own."""

CONSTANT = "unit"
"""Price of what a unit has besides what its counts name: handshake, state."""

MOST_LUT = 100.0
"""LUTs of one bit of anything; what costs more is a slip of the pen."""

MOST_LUT_UNIT = 10_000.0
"""LUTs of a unit's constant."""


Pair = tuple[float, float]
"""LUTs of three inputs and more, and halves (cost.fpga.HALVES), of one bit of something."""


def _check_positive(name: str, values: Mapping[str, float]) -> None:
    for key, value in values.items():
        if not value >= 0:  # NaN neither
            raise InputError(f"{name}.{one_line(key)} must not be negative, got {value}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitPrices:
    """LUTs of one unit, by what its counts name and a constant; from how many runs, how good."""

    runs: int = 0  # units that were synthesised; 0: nothing was fitted
    lut: dict[str, Pair]  # a bit of `Counts.lut`, and CONSTANT
    # least and most of each parameter that was synthesised
    valid: dict[str, tuple[int, int]] = field(default_factory=dict)
    # of counts against synthesis, on runs that the fit had not seen; see rtl/fit.py
    error: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.runs < 0:
            raise InputError(f"runs must not be negative, got {self.runs}")
        for place in (0, 1):
            _check_positive("lut", {name: pair[place] for name, pair in self.lut.items()})
        for name, pair in self.lut.items():
            limit = MOST_LUT_UNIT if name == CONSTANT else MOST_LUT
            if max(pair) > limit:
                raise InputError(
                    f"lut.{one_line(name)} must be at most {limit:g} LUTs, got {max(pair)}"
                )
        if CONSTANT not in self.lut:
            raise InputError(f"lut: the key '{CONSTANT}' is missing")
        for name, (least, most) in self.valid.items():
            if least > most:
                raise InputError(
                    f"valid.{one_line(name)} must be [least, most], got [{least}, {most}]"
                )
        _check_positive("error", self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class LutPrices:
    """LUTs of a family, unit by unit."""

    family: str
    status: Status
    source: str
    tool: str  # how the units were synthesised
    units: dict[str, UnitPrices]

    def __post_init__(self) -> None:
        unfitted = [name for name, unit in self.units.items() if not unit.runs]
        if self.status == "calibrated" and (unfitted or not self.units):
            name = one_line(unfitted[0]) if unfitted else "units"
            raise InputError(f"status: calibrated needs runs of every unit, got none of {name}")

    def of(self, unit: str, features: Iterable[str] = ()) -> dict[str, Pair]:
        """The LUT prices of one unit.

        Raises:
            InputError: there is no such unit, or it has no price for one of `features`.
        """
        place = f"{self.family}.toml: units"
        remedy = f"remedy: syq-dse calibrate --family {self.family} --unit {unit}"
        if unit not in self.units:
            raise InputError(f"{place}: no prices of the unit '{unit}'; {remedy}")
        lut = self.units[unit].lut
        for name in features:
            if name not in lut:
                raise InputError(
                    f"{place}.{unit}.lut: no price of '{name}'; known: {', '.join(lut)}; {remedy}"
                )
        return lut


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPrices:
    """Energy of one bit of each kind of work (`Counts.work`) [pJ]."""

    name: str
    status: Status
    source: str
    pj_per_bit: dict[str, float]

    def __post_init__(self) -> None:
        _check_positive("pj_per_bit", self.pj_per_bit)


@cache
def load_lut(family: str) -> LutPrices:
    """The LUT prices of a device family."""
    path = catalogue.find("calibration", family, "hwmodels", ("calibration",))
    remedy = f"remedy: install syq-dse again, or `syq-dse calibrate --family {family}`"
    try:
        found = records.load(path, LutPrices)
        _check_calibration(found, family)
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from None
    return found


def _check_calibration(found: LutPrices, family: str) -> None:
    """What `syq-dse calibrate` leaves, and a slip of the pen does not."""
    place = f"{family}.toml"
    if found.family != family:
        raise InputError(f"{place}: family must be '{family}', got '{found.family}'")
    if found.status == "uncalibrated":
        return
    if not found.tool:
        raise InputError(f"{place}: tool must say what synthesised the units, got ''")
    for name, unit in found.units.items():
        for what in ("valid", "error"):
            if not getattr(unit, what):
                raise InputError(f"{place}: units.{one_line(name)}.{what}: must not be empty")
        if not any(max(pair) for pair in unit.lut.values()):
            raise InputError(f"{place}: units.{one_line(name)}.lut: prices must not all be 0")


@cache
def load_energy(name: str = "energy-fpga") -> EnergyPrices:
    """The energy prices of a technology."""
    path = catalogue.find("calibration", name, "hwmodels", ("calibration",))
    return records.load(path, EnergyPrices)


def warnings(prices: LutPrices, unit: str, parameters: Mapping[str, int | str]) -> list[str]:
    """One line for each parameter of a unit that lies outside of what was synthesised.

    >>> mac = UnitPrices(runs=9, lut={"unit": (3.0, 4.0)}, valid={"simd": (1, 288)})
    >>> found = LutPrices(
    ...     family="xcup", status="calibrated", source="", tool="", units={"mac": mac}
    ... )
    >>> warnings(found, "mac", {"simd": 512, "weights": "binary"})
    ['mac: simd=512 is outside 1..288 of the calibration (xcup.toml)']
    """
    valid = prices.units[unit].valid if unit in prices.units else {}
    return outside(unit, parameters, valid, f"{prices.family}.toml")


def outside(
    unit: str,
    parameters: Mapping[str, int | str],
    valid: Mapping[str, tuple[int, int]],
    file: str,
) -> list[str]:
    """One line for each parameter outside of the range that a file of prices has for it."""
    lines = []
    for name, (least, most) in valid.items():
        value = parameters.get(name, least)
        if not isinstance(value, str) and not least <= value <= most:
            lines.append(
                f"{unit}: {name}={value} is outside {least}..{most} of the calibration ({file})"
            )
    return lines


def lut_text(prices: LutPrices) -> str:
    """LUT prices as the text of their TOML file, one table a unit."""
    lines = [
        f"{name} = {_text(getattr(prices, name))}"
        for name in ("family", "status", "source", "tool")
    ]
    for name, unit in prices.units.items():
        lines += [
            "",
            f"[units.{_key(name)}]",
            f"runs = {unit.runs}",
            f"lut = {inline({key: f'[{a!r}, {b!r}]' for key, (a, b) in unit.lut.items()})}",
            f"valid = {inline({key: f'[{a}, {b}]' for key, (a, b) in unit.valid.items()})}",
            f"error = {inline({key: repr(value) for key, value in unit.error.items()})}",
        ]
    return "\n".join(lines) + "\n"


def inline(items: Mapping[str, str]) -> str:
    """Texts of values by key, as an inline table of TOML."""
    pairs = ", ".join(f"{_key(key)} = {value}" for key, value in items.items())
    return f"{{ {pairs} }}" if pairs else "{}"


def _key(name: str) -> str:
    return name if name.isascii() and name.isidentifier() else _text(name)


def _text(value: str) -> str:
    return json.dumps(value).replace("\x7f", "\\u007f")  # JSON's strings, where TOML is as strict
