"""Energy of silicon in a cycle: of gates by unit, of flip-flops' clocks, of SRAM."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cache

from syq_dse import records
from syq_dse.cost.gates import price_file
from syq_dse.cost.prices import Status
from syq_dse.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitEnergy:
    """Energy of one gate equivalent of a unit in a cycle in which words go through [fJ]."""

    runs: int  # units that were simulated
    fj: float  # the median
    low: float  # of all but the lowest and the highest tenth
    high: float
    toggles: float  # of a net a cycle, mean

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.fj <= self.high:
            raise InputError(
                f"fj must lie between low and high, got {self.low}, {self.fj}, {self.high}"
            )


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
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}")

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
    command = f"syq-dse calibrate --technology {technology} --energy --liberty FILE -o FOLDER"
    return records.load(
        price_file(f"{technology}-energy", folder, f"remedy: `{command}`"), CycleEnergy
    )


def text(energy: CycleEnergy) -> str:
    """Energy as the text of its TOML file."""
    names = ("technology", "status", "source", "tool", "volts", "flip_flop_fj")
    lines = [f"{name} = {json.dumps(getattr(energy, name))}" for name in names]
    for name, unit in energy.units.items():
        lines += ["", f"[units.{name}]"]
        lines += [f"{key} = {value}" for key, value in records.plain(unit).items()]
    return "\n".join(lines) + "\n"
