"""Energy of silicon in a cycle: of gates by unit, of flip-flops' clocks, of SRAM."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache

from syq_dse import records
from syq_dse.cost.gates import calibrating, check_technology, price_file
from syq_dse.cost.prices import Status
from syq_dse.errors import InputError

MOST_FJ = 1e9
"""Energy that a gate may take; more is a slip of the pen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitEnergy:
    """Energy of one gate equivalent of a unit in a cycle in which words go through [fJ]."""

    runs: int  # units that were simulated
    fj: float  # the median
    low: float  # of all but the lowest and the highest tenth
    high: float
    toggles: float  # of a net a cycle, mean

    def __post_init__(self) -> None:
        if not (0 <= self.low <= self.fj <= self.high <= MOST_FJ and self.fj):
            raise InputError(
                f"fj must be positive, between low and high, at most {MOST_FJ:g}, got low "
                f"{self.low}, fj {self.fj}, high {self.high}"
            )
        if not 0 <= self.toggles <= 1e6:
            raise InputError(f"toggles must be 0 to 1e6, got {self.toggles}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CycleEnergy:
    """Energy of a technology."""

    technology: str
    status: Status
    source: str
    tool: str
    volts: float
    flip_flop_fj: float  # of a flip-flop's clock pin, both edges
    units: dict[str, UnitEnergy]

    def __post_init__(self) -> None:
        for name in ("volts", "flip_flop_fj"):
            if not 0 < getattr(self, name) <= MOST_FJ:
                value = getattr(self, name)
                raise InputError(f"{name} must be above 0 and at most {MOST_FJ:g}, got {value}")
        if not self.units:
            raise InputError("units must have at least one, got {}")

    def of(self, unit: str) -> float:
        """Of one gate of a unit in a cycle [fJ].

        Raises:
            InputError: the unit was not simulated.
        """
        if unit not in self.units:
            raise InputError(
                f"{self.technology}-energy.toml: units: no energy of the unit '{unit}'; remedy: "
                f"syq-dse calibrate --technology {self.technology} --energy"
            )
        return self.units[unit].fj

    def scaled(self, factor: float, volts: float) -> CycleEnergy:
        """The same by a factor, at another supply."""
        return replace(
            self,
            volts=volts,
            flip_flop_fj=self.flip_flop_fj * factor,
            units={
                name: replace(
                    unit, fj=unit.fj * factor, low=unit.low * factor, high=unit.high * factor
                )
                for name, unit in self.units.items()
            },
        )

    def provenance(self) -> str:
        """Where it comes from and how far it ranges."""
        ratios = [
            (unit.low / unit.fj, unit.high / unit.fj) for unit in self.units.values() if unit.fj
        ]
        toggles = [unit.toggles for unit in self.units.values()]
        activity = f"a net toggles {min(toggles):.2g} to {max(toggles):.2g} times a cycle, by unit"
        low, high = min(r[0] for r in ratios), max(r[1] for r in ratios)
        return (
            f"{self.status}: {self.source}; a unit's gates take {low:.2g} to {high:.2g} times the "
            f"figure (nine in ten units); {activity}; clocks never stop, SRAM is accessed in each "
            "active cycle"
        )


@cache
def load(technology: str, folder: str | None = None) -> CycleEnergy:
    """The energy of a technology.

    Args:
        folder: that `syq-dse calibrate` has left; None: the shipped.
    """
    remedy = calibrating(technology, folder, " --energy")
    path = price_file(f"{technology}-energy", folder, remedy)
    found = records.load(path, CycleEnergy)
    check_technology(path, found.technology, technology)
    return found


def text(energy: CycleEnergy) -> str:
    """Energy as the text of its TOML file."""
    names = ("technology", "status", "source", "tool", "volts", "flip_flop_fj")
    lines = [f"{name} = {json.dumps(getattr(energy, name))}" for name in names]
    for name, unit in energy.units.items():
        lines += ["", f"[units.{name}]"]
        lines += [f"{key} = {value}" for key, value in records.plain(unit).items()]
    return "\n".join(lines) + "\n"
