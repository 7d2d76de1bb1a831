"""Clock of silicon: the longest path of each unit by its parameters, and what a design reaches."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache

from syq_dse import records
from syq_dse.cost.gates import calibrating, check_technology, price_file
from syq_dse.cost.integers import ints
from syq_dse.cost.prices import Status, inline
from syq_dse.cost.units.requant import shared
from syq_dse.errors import InputError, one_line

KINDS = {"scale": "format"}
"""Of units that are different circuits: the parameter that says which."""

MEANS = ("mean", "global")
"""Kinds of pools with a divider."""


def features(unit: str, parameters: Mapping[str, int | str]) -> dict[str, float]:
    """What a unit's longest path goes by: its kind, and the logarithm of each size.

    Adders, multiplexers and what drives many pins are trees: their depth is a logarithm.

    >>> features("scale", {"format": "shift", "partial": 15})
    {'shift': 1.0, 'shift.partial': 4.0}
    """
    if unit == "requant":
        kind = _requant(parameters)
    elif unit == "pool":  # a mean divides
        kind = "mean" if parameters["kind"] in MEANS else "max"
    elif unit == "fifo":
        kind = "queue" if "words" in parameters else "converter"
    else:
        kind = str(parameters[KINDS[unit]]) if unit in KINDS else "unit"
    sizes = {
        f"{kind}.{name}": math.log2(1 + abs(value))
        for name, value in parameters.items()
        if not isinstance(value, str)
    }
    return {kind: 1.0, **sizes}


def _requant(parameters: Mapping[str, int | str]) -> str:
    """How it requantises; a product with one gain is that with a constant."""
    channels, pe, period = (int(parameters[name]) for name in ("channels", "pe", "period"))
    gains = channels // pe * int(shared(ints([pe]), ints([period]))[0])
    method = str(parameters["method"])
    return "constant" if method == "multiply" and gains == 1 else method


MOST_NS = 1e6
"""Longest path that is one; a longer one is a slip of the pen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitDelay:
    """Longest path of a unit from register to register [ns], by `features`."""

    runs: int  # units that were timed
    ns: dict[str, float]
    least_ns: float  # of those units
    most_ns: float
    error: dict[str, float]  # "mean" and "worst", relative, of runs that the fit had not seen

    def __post_init__(self) -> None:
        for name, value in self.ns.items():
            if not 0 <= value <= MOST_NS:
                raise InputError(f"ns.{one_line(name)} must be 0 to {MOST_NS:g}, got {value}")
        if not 0 < self.least_ns <= self.most_ns <= MOST_NS:
            raise InputError(
                f"least_ns must lie in 0 to most_ns, and that in 0 to {MOST_NS:g}, got "
                f"{self.least_ns} and {self.most_ns}"
            )
        for name in ("mean", "worst"):
            value = self.error.get(name, -1.0)
            if value < 0:
                raise InputError(f"error must have mean and worst, from 0 on, got {self.error}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Delays:
    """Delays of a technology."""

    technology: str
    status: Status
    source: str
    tool: str
    register_ns: float  # clock to output and set-up of a flip-flop, part of every path
    units: dict[str, UnitDelay]

    def __post_init__(self) -> None:
        if not 0 < self.register_ns <= MOST_NS:
            raise InputError(
                f"register_ns must be above 0 and at most {MOST_NS:g}, got {self.register_ns}"
            )
        if not self.units:
            raise InputError("units must have at least one, got {}")

    def path_ns(self, unit: str, parameters: Mapping[str, int | str]) -> float:
        """The longest path of a unit [ns].

        Raises:
            InputError: the unit, or its kind, was not timed.
        """
        if unit not in self.units:
            raise InputError(f"{self.technology}-clock.toml: units: no delay of the unit '{unit}'")
        found = self.units[unit]
        counts = features(unit, parameters)
        kind = next(iter(counts))
        if kind not in found.ns:
            raise InputError(
                f"{self.technology}-clock.toml: units.{unit}: no run was '{kind}'; raise --runs"
            )
        total = sum(found.ns.get(name, 0.0) * count for name, count in counts.items())
        return max(total, self.register_ns)

    def provenance(self) -> str:
        """Where it comes from and how far it is off."""
        means = ", ".join(
            f"{name} {100 * unit.error['mean']:.0f}" for name, unit in self.units.items()
        )
        worst = max(unit.error["worst"] for unit in self.units.values())
        return (
            f"{self.status}: {self.source}; mean error of a unit's path [%]: {means}; worst "
            f"{100 * worst:.0f} %"
        )

    def scaled(self, factor: float) -> Delays:
        """The same by a factor."""
        return replace(
            self,
            register_ns=self.register_ns * factor,
            units={
                name: replace(
                    unit,
                    ns={key: value * factor for key, value in unit.ns.items()},
                    least_ns=unit.least_ns * factor,
                    most_ns=unit.most_ns * factor,
                )
                for name, unit in self.units.items()
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """The fastest clock of a design, and the unit whose path limits it."""

    mhz: float
    layer: str
    unit: str
    path_ns: float
    worst: float  # how far paths of this unit were off, relative


def reach(
    delays: Delays,
    units: Iterable[tuple[str, str, Mapping[str, int | str]]],
    sram_ns: Mapping[str, float],
) -> Reach:
    """What limits the clock of a design.

    Args:
        units: layer, unit and parameters of each.
        sram_ns: access time of layers' weights that are in SRAM; what is read goes through the
            products in the same cycle.
    """
    longest = (0.0, "", "")
    for layer, unit, parameters in units:
        path = delays.path_ns(unit, parameters)
        if unit == "mac":
            path += sram_ns.get(layer, 0.0)
        longest = max(longest, (path, layer, unit))
    path, layer, unit = longest
    return Reach(
        mhz=1000 / path,
        layer=layer,
        unit=unit,
        path_ns=path,
        worst=delays.units[unit].error["worst"],
    )


@cache
def load(technology: str, folder: str | None = None) -> Delays:
    """The delays of a technology.

    Args:
        folder: that `syq-dse calibrate` has left; None: the shipped.
    """
    remedy = calibrating(technology, folder, " --clock")
    path = price_file(f"{technology}-clock", folder, remedy)
    found = records.load(path, Delays)
    check_technology(path, found.technology, technology)
    return found


def text(delays: Delays) -> str:
    """Delays as the text of their TOML file."""
    names = ("technology", "status", "source", "tool", "register_ns")
    lines = [f"{name} = {json.dumps(getattr(delays, name))}" for name in names]
    for name, unit in delays.units.items():
        lines += [
            "",
            f"[units.{name}]",
            f"runs = {unit.runs}",
            f"ns = {inline({key: repr(value) for key, value in unit.ns.items()})}",
            f"least_ns = {unit.least_ns!r}",
            f"most_ns = {unit.most_ns!r}",
            f"error = {inline({key: repr(value) for key, value in unit.error.items()})}",
        ]
    return "\n".join(lines) + "\n"
