"""From counts to silicon: gate equivalents, area, SRAM and energy of a technology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from syq_dse import technology as technologies
from syq_dse.cost import clock, cycle_energy, gates, node, sram
from syq_dse.cost.clock import Delays
from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.cycle_energy import CycleEnergy
from syq_dse.cost.folding import Geometry, RamStyle, ResType
from syq_dse.cost.fpga import HALVES, least
from syq_dse.cost.gates import GatePrices
from syq_dse.cost.integers import Ints, cdiv, ints
from syq_dse.cost.node import Scaling
from syq_dse.cost.prices import outside
from syq_dse.errors import InputError
from syq_dse.target import Family
from syq_dse.technology import FAMILY, Technology

COLUMNS = (
    *("area_nm2", "gates", "ff", "sram_bits", "sram_nm2", "cycle_fj"),
    *("dram_bits", "energy_pj"),
)
"""The last axis of every array of resources, as many as a board's. Area is in 10^-6 um2, so that
sums are exact."""

AREA, GATES, FF, SRAM_BITS, SRAM_AREA, CYCLE, DRAM, ENERGY = range(len(COLUMNS))

NM2 = 1_000_000
"""nm2 of one um2."""

MM2 = 10**12
"""nm2 of one mm2."""

Resources = Ints


@dataclass(frozen=True)
class Pricing:
    """All that turns counts into area and energy of one technology.

    Memories of style "ultra" are SRAM, loaded at start-up where they hold constants; those of style
    "distributed" flip-flops or tables of gates. Multipliers are gates.
    """

    target: Technology
    area_mm2: float  # budget
    family: Family
    gates: GatePrices
    sram: sram.SramPrices
    energy: CycleEnergy
    delays: Delays
    scaling: Scaling | None = None  # to another node; prices, energies and delays have it already

    columns = COLUMNS
    limited = COLUMNS[:1]
    sums: ClassVar[Mapping[str, str]] = {"area": "area_nm2", "energy": "energy_pj"}

    units: ClassVar[Mapping[str, tuple[int, str]]] = {"area_nm2": (NM2, "um2 of area")}
    whole = "area (--area-mm2)"
    shown_as: ClassVar[Mapping[str, str]] = {"area_nm2": "area_um2"}

    @cached_property
    def scale(self) -> float:
        """Area of an SRAM in this technology, by that of the one that the macros are of.

        As its NAND2s: a library's cells and its SRAM shrink alike, to some tens of percent.
        """
        if self.sram.technology == self.target.name:
            return 1.0 if self.scaling is None else self.scaling.area
        return self.gates.nand2_um2 / gates.load(self.sram.technology).nand2_um2

    @cached_property
    def energy_scale(self) -> float:
        """Energy of an SRAM in this technology, by that of the one that the macros are of: as that
        of a flip-flop's clock pin."""
        if self.sram.technology == self.target.name:
            return 1.0 if self.scaling is None else self.scaling.energy
        other = cycle_energy.load(self.sram.technology)
        return self.energy.flip_flop_fj / other.flip_flop_fj

    def settled(self, rows: Resources, cycles: Ints | int = 0) -> Resources:
        """Rows of counts as they add up, with the energy of an image.

        Args:
            cycles: an image, in which words go through.
        """
        out = rows[..., :HALVES].copy()
        out[..., ENERGY] += (rows[..., CYCLE] * cycles + 500) // 1000
        return out

    def share_of(self, rows: Resources) -> Ints:
        """What orders alternatives: area [nm2]."""
        found: Ints = rows[..., AREA]
        return found

    def cheapest(self, options: Sequence[Resources]) -> tuple[Resources, Ints]:
        """Row by row the option of the least area, and which one that is."""
        return least(options, self.share_of)

    def capacity(self, interval: int, clock_mhz: float) -> dict[str, int]:
        """The budget."""
        return {"area_nm2": round(self.area_mm2 * MM2)}

    def ram_styles(self, geo: Geometry) -> tuple[RamStyle, ...]:
        """Where weights can be: gates, or SRAM that is loaded at start-up."""
        return ("distributed", "ultra")

    def res_types(self) -> tuple[ResType, ...]:
        """What can multiply: gates."""
        return ("lut",)

    def styles(self, memory: Memory) -> tuple[RamStyle, ...]:
        """The styles that a memory may have where none is asked for: tables are gates."""
        return ("distributed",) if memory.constant or memory.in_luts else ("distributed", "ultra")

    def chosen_style(self, memory: Memory) -> RamStyle:
        """The style of one memory that takes the least area."""
        options = self.styles(memory)
        rows = [self._memory(memory, style).reshape(-1) for style in options]
        return options[int(self.cheapest(rows)[1])]

    def resources(self, unit: str, counts: Counts, ram_style: RamStyle | None = None) -> Resources:
        """Resources of one unit, shape (foldings, COLUMNS and one more); gates are rounded up.

        Args:
            ram_style: of its memories; None takes the one of the least area.

        Raises:
            InputError: the calibration has no price of the unit or of one of its counts.
        """
        styles = ["whole"] * len(counts.memories)  # a table has the price of all that belongs to it
        made = self.gates.of(unit, gates.logic(counts, styles))
        size = np.broadcast(np.asarray(made), counts.ff).shape
        out = np.zeros((*size, HALVES + 1), dtype=np.int64)
        out[..., GATES] = np.ceil(np.asarray(made) - 1e-9)
        out[..., FF] = counts.ff
        active = np.broadcast_to(counts.active, size)
        out[..., CYCLE] = np.rint(
            out[..., GATES] * self.energy.of(unit) * active
            + out[..., FF] * self.energy.flip_flop_fj
        )
        out[..., AREA] = np.rint(out[..., GATES] * self.gates.nand2_um2 * NM2)
        for memory in counts.memories:
            row = np.broadcast_to(self._best(memory, ram_style), out.shape).copy()
            clocks = np.rint(row[..., FF] * self.energy.flip_flop_fj).astype(np.int64)
            row[..., CYCLE] = clocks + np.rint((row[..., CYCLE] - clocks) * active)
            out = out + row
        return out

    def _best(self, memory: Memory, style: RamStyle | None) -> Resources:
        if style in ("distributed", "ultra") and (ints(memory.depth) > 1).any():
            return self._memory(memory, style)
        return self.cheapest([self._memory(memory, option) for option in self.styles(memory)])[0]

    def _memory(self, memory: Memory, style: RamStyle) -> Resources:
        """One memory; of one word it is a register, which its unit counts, or a constant."""
        width, depth, banks = ints(memory.width), ints(memory.depth), ints(memory.banks)
        shape = np.broadcast_shapes(width.shape, depth.shape, banks.shape)
        out = np.zeros((*shape, HALVES + 1), dtype=np.int64)
        there = depth > 1
        if style == "ultra":
            self._in_sram(out, memory, width, depth, banks)
        elif memory.constant:
            found = self.gates.of(gates.TABLE, gates.table(memory))
            out[..., GATES] = np.ceil(found - 1e-9)
            out[..., CYCLE] = np.rint(out[..., GATES] * self.energy.of(gates.TABLE))
            out[..., FF] = width * banks * memory.registered
        else:
            found = self.gates.of(gates.REGISTERS, gates.registers(memory))
            out[..., GATES] = np.ceil(found - 1e-9)
            out[..., FF] = width * (depth + 1) * banks
            out[..., CYCLE] = np.rint(out[..., GATES] * self.energy.of(gates.REGISTERS))
        out[..., AREA] += np.rint(out[..., GATES] * self.gates.nand2_um2 * NM2).astype(np.int64)
        out[..., CYCLE] += np.rint(out[..., FF] * self.energy.flip_flop_fj).astype(np.int64)
        out *= there[..., None]
        return out

    def _in_sram(
        self, out: Resources, memory: Memory, width: Ints, depth: Ints, banks: Ints
    ) -> None:
        """Single-port macros. What is written while it is read has words of two, half as many, and
        registers for what waits to be written and for what was read too early: they count as the
        SRAM's area."""
        beside: Any = 0.0
        if memory.constant:
            deep, wide = depth, width
        else:
            deep, wide = np.maximum(1, cdiv(depth, 2)), 2 * width
            found = self.gates.of(gates.REGISTERS, {gates.FLIP_FLOPS: 2 * width})
            beside = found * self.gates.nand2_um2
        of = sram.macros(self.sram, deep, wide)
        area = self.sram.figure("area_um2", of.depth, of.width, of.mux) * of.count * self.scale
        out[..., SRAM_AREA] = np.rint((area + beside) * NM2).astype(np.int64) * banks
        out[..., SRAM_BITS] = of.depth * of.width * of.count * banks
        out[..., AREA] = out[..., SRAM_AREA]
        read, write = (
            self.sram.figure(figure, of.depth, of.width, of.mux)
            for figure in ("read_pj", "write_pj")
        )
        # one stack of macros is read a cycle; of words of two, every other cycle, and written
        access = read if memory.constant else (read + write) / 2
        columns = np.maximum(1, cdiv(wide, self.sram.width[1]))
        pj = access * columns * banks * self.energy_scale
        out[..., CYCLE] = np.rint(1000 * pj).astype(np.int64)

    def access_ns(self, width: int, depth: int) -> float:
        """Access time of an SRAM of constants [ns], as a flip-flop's where it is another's."""
        of = sram.macros(self.sram, depth, width)
        found = self.sram.figure("access_ns", of.depth, of.width, of.mux)
        if self.sram.technology != self.target.name:
            found = found * self.delays.register_ns / clock.load(self.sram.technology).register_ns
        elif self.scaling is not None:
            found = found * self.scaling.delay
        return float(found)

    def warnings(self, unit: str, parameters: Mapping[str, int | str]) -> list[str]:
        """One line for each parameter of a unit that lies outside of what was synthesised."""
        valid = self.gates.units[unit].valid if unit in self.gates.units else {}
        return outside(unit, parameters, valid, f"{self.gates.technology}.toml")

    def totals(self, total: Mapping[str, int]) -> dict[str, float]:
        """What documents show of a row of COLUMNS."""
        return {
            "area_um2": total["area_nm2"] / NM2,
            "gate_equivalents": total["gates"],
            "ff": total["ff"],
            "sram_bits": total["sram_bits"],
            "sram_um2": total["sram_nm2"] / NM2,
        }

    shown = ("area_um2", "gate_equivalents", "ff", "sram_bits", "sram_um2")

    def shown_capacity(self, offered: Mapping[str, int]) -> dict[str, float]:
        """What documents show of the budget."""
        return {"area_um2": offered["area_nm2"] / NM2}

    def provenance(self) -> dict[str, str]:
        """Where each kind of price comes from, and how far it is off."""
        own, macros = self.gates, self.sram
        means = ", ".join(
            f"{name} {100 * unit.error['mean']:.1f}"
            for name, unit in own.units.items()
            if "mean" in unit.error
        )
        worst = max((unit.error.get("worst", 0.0) for unit in own.units.values()), default=0.0)
        mean, most = macros.error["area_um2"]
        scaled = (
            ""
            if self.scale == 1
            else (
                f"extrapolated by NAND2 area x {self.scale:.3g}, energy by a flip-flop's clock x "
                f"{self.energy_scale:.3g}, from "
            )
        )
        return {
            "area": (
                f"{own.status}: {own.source}, {own.tool}, {own.nand2} of {own.nand2_um2:g} um2; "
                f"cells alone, no wires; mean error of a unit [%]: {means}; worst "
                f"{100 * worst:.0f} %"
            ),
            "sram": (
                f"{scaled}{macros.technology}: {macros.source}; area {100 * mean:.1f} % off in "
                f"the mean, {100 * most:.1f} % at most"
            ),
            "ff": "exact count",
            "energy": self.energy.provenance(),
            "clock": self.delays.provenance(),
            **({} if self.scaling is None else {"node": self._node()}),
        }

    def _node(self) -> str:
        """What was scaled, by how much, and how far such scaling was off where it can be seen."""
        assert self.scaling is not None
        of = self.scaling
        seen = "; ".join(
            f"{one.source} to {one.target}: area {one.area:.2g}, energy {one.energy:.2g}, delay "
            f"{one.delay:.2g}"
            for one in seen_scalings()
        )
        return (
            f"extrapolated from {of.from_nm:g} to {of.to_nm:g} nm at {of.volts:.2g} V: area x "
            f"{of.area:.3g}, energy x {of.energy:.3g}, delay x {of.delay:.3g}; {node.SOURCE}; "
            f"such figures over those of a library of the node: {seen}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenScaling:
    """Figures scaled from a technology to the node of another, over the other's own."""

    source: str
    target: str
    area: float  # of a NAND2
    energy: float  # of a flip-flop's clock pin
    delay: float  # of a flip-flop


SEEN = (("ihp-sg13g2", "asap7"), ("sky130hd", "asap7"), ("osu018", "ihp-sg13g2"))
"""From and to which technologies scaling is tried."""


def seen_scalings() -> list[SeenScaling]:
    """Scaling between shipped technologies, beside what their libraries have."""
    found = []
    for source, target in SEEN:
        here, there = technologies.load(source), technologies.load(target)
        by = node.scaling(here.node_nm, here.supply_v, there.node_nm)
        area, energy, delay = (
            own / other
            for own, other in (
                (gates.load(source).nand2_um2, gates.load(target).nand2_um2),
                (cycle_energy.load(source).flip_flop_fj, cycle_energy.load(target).flip_flop_fj),
                (clock.load(source).register_ns, clock.load(target).register_ns),
            )
        )
        found.append(
            SeenScaling(
                source=source,
                target=target,
                area=area * by.area,
                energy=energy * by.energy,
                delay=delay * by.delay,
            )
        )
    return found


SRAM_OF = "ihp-sg13g2"
"""The technology whose macros are known; others are scaled from it."""


def pricing(
    technology: Technology, area_mm2: float | None = None, node_nm: float | None = None
) -> Pricing:
    """The prices of a technology, read from their files.

    Args:
        area_mm2: budget; None: the technology's.
        node_nm: that all of it is scaled to; None: its own.
    """
    budget = technology.area_mm2 if area_mm2 is None else area_mm2
    if not 0 < budget <= 1e5:
        raise InputError(f"area_mm2 must be above 0 and at most 100000, got {budget:g}")
    own = Pricing(
        technology,
        budget,
        FAMILY,
        gates.load(technology.name, technology.calibration),
        sram.load(SRAM_OF),
        cycle_energy.load(technology.name, technology.calibration),
        clock.load(technology.name, technology.calibration),
    )
    if node_nm in (None, technology.node_nm):
        return own
    assert node_nm is not None
    to = node.scaling(technology.node_nm, technology.supply_v, node_nm)
    return replace(
        own,
        target=replace(
            technology,
            node_nm=node_nm,
            supply_v=to.volts,
            clock_mhz=float(f"{technology.clock_mhz / to.delay:.2g}"),
        ),
        gates=replace(own.gates, nand2_um2=own.gates.nand2_um2 * to.area),
        energy=own.energy.scaled(to.energy, to.volts),
        delays=own.delays.scaled(to.delay),
        scaling=to,
    )
