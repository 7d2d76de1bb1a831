"""What is asked of a table: objectives, limits, and an additive loss of accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from syq_dse.cost.asic import Pricing as AsicPricing
from syq_dse.cost.estimate import LIMIT
from syq_dse.cost.fpga import Pricing as FpgaPricing
from syq_dse.cost.integers import Ints, ints
from syq_dse.cost.pricing import Pricing
from syq_dse.cost.table import Prices, Table, price
from syq_dse.errors import InputError, unknown
from syq_dse.search.losses import LOSS_UNIT, Losses

LINEAR = {**FpgaPricing.sums, **AsicPricing.sums}
"""Objectives that are sums over layers, and their columns; which of them there are the target
says."""

OBJECTIVES = ("accuracy", "fps", "utilization", "latency", *LINEAR)

UNITS = {"energy": 1e6, "area": 1e6}
"""What an objective is shown in, of its column's unit: uJ of pJ, um2 of nm2."""

MAXIMISED = ("accuracy", "fps")


@dataclass(frozen=True, slots=True, kw_only=True)
class Goals:
    """What a design must reach, and what is better."""

    objectives: tuple[str, ...] = ("accuracy", "fps")
    limit: float = LIMIT  # share of each resource that may be filled
    clock_mhz: float
    fps: float | None = None  # least images a second
    bounds: Mapping[str, float] = field(default_factory=dict)  # objective to its worst value

    def __post_init__(self) -> None:
        for name in self.objectives:
            if name not in OBJECTIVES:
                raise InputError(unknown("objective", name, OBJECTIVES))
        if not 2 <= len(self.objectives) <= 4 or len(set(self.objectives)) < len(self.objectives):
            got = ", ".join(self.objectives)
            raise InputError(f"two to four different objectives are needed, got {got}")
        if not 0 < self.limit <= 1:
            raise InputError(f"limit must be above 0 and at most 1, got {self.limit}")
        if not 1 <= self.clock_mhz <= 2000:
            raise InputError(f"clock_mhz must be 1 to 2000, got {self.clock_mhz}")
        if self.fps is not None and not self.fps > 0:
            raise InputError(f"fps must be positive, got {self.fps}")


@dataclass(frozen=True)
class Problem:
    """A table, a loss and goals."""

    table: Table
    losses: Losses
    goals: Goals

    def __post_init__(self) -> None:
        check_objectives(self.table.pricing, self.goals.objectives)

    @property
    def limited(self) -> tuple[str, ...]:
        """The columns that the target limits, the first of a row."""
        return self.table.pricing.limited

    def limits(self, t: int) -> Ints:
        """Most of each limited column at the interval of index t."""
        offered = self.table.pricing.capacity(self.table.intervals[t], self.goals.clock_mhz)
        share = self.goals.limit
        return ints([int(offered[name] * share + 1e-9) for name in self.limited])

    def loss(self, designs: npt.NDArray[np.integer]) -> Ints:
        """Loss of accuracy of designs [LOSS_UNIT], shape (designs,)."""
        column = {name: i for i, name in enumerate(self.table.variables)}
        total = np.zeros(len(designs), np.int64)
        for name, losses in self.losses.engines.items():
            total += losses[designs[:, column[name]]]
        for name, losses in self.losses.tensors.items():
            total += losses[designs[:, column[f"bits.{name}"]]]
        return total

    def values(self, designs: npt.NDArray[np.integer], prices: Prices) -> npt.NDArray[np.float64]:
        """The objectives of designs, shape (designs, objectives), each as the user sees it."""
        return np.column_stack([self._value(n, designs, prices) for n in self.goals.objectives])

    def excess(self, designs: npt.NDArray[np.integer], prices: Prices) -> npt.NDArray[np.float64]:
        """How far each limited column is over its limit, in parts of it: feasible up to 0."""
        limits = np.stack([self.limits(t) for t in range(len(self.table.intervals))])
        most = np.maximum(limits[designs[:, 0]], 1)
        over = (prices.total[:, : len(self.limited)] - limits[designs[:, 0]]) / most
        return np.asarray(over, dtype=np.float64)

    def utilization(
        self, designs: npt.NDArray[np.integer], prices: Prices
    ) -> npt.NDArray[np.float64]:
        """The fullest resource as a share of what the part has; infinite where it has none."""
        offered = np.stack(
            [
                [
                    self.table.pricing.capacity(t, self.goals.clock_mhz)[name]
                    for name in self.limited
                ]
                for t in self.table.intervals
            ]
        )[designs[:, 0]]
        used = prices.total[:, : len(self.limited)]
        share = np.where(offered > 0, used / np.maximum(offered, 1), np.where(used > 0, np.inf, 0))
        return np.asarray(share.max(axis=1), dtype=np.float64)

    def _value(
        self, name: str, designs: npt.NDArray[np.integer], prices: Prices
    ) -> npt.NDArray[np.float64]:
        match name:
            case "accuracy":
                lost = self.loss(designs).astype(np.float64) * LOSS_UNIT
                return np.asarray(self.losses.base - lost, dtype=np.float64)
            case "fps":
                rate = self.goals.clock_mhz * 1e6 / prices.interval_cycles
                return np.asarray(rate, dtype=np.float64)
            case "latency":
                return np.asarray(prices.latency_cycles / self.goals.clock_mhz)  # us
            case "utilization":
                return self.utilization(designs, prices)
        columns = self.table.pricing.columns
        found = prices.total[:, columns.index(LINEAR[name])].astype(np.float64)
        return found / UNITS.get(name, 1.0)

    def minimised(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """The same values with every objective to be minimised."""
        sign = [-1.0 if name in MAXIMISED else 1.0 for name in self.goals.objectives]
        return np.asarray(values * np.asarray(sign), dtype=np.float64)


def check_objectives(pricing: Pricing, objectives: Sequence[str]) -> None:
    """Refuse objectives that the target has not.

    Raises:
        InputError: names one, and those that there are.
    """
    for name in objectives:
        if name in LINEAR and name not in pricing.sums:
            known = ", ".join(n for n in OBJECTIVES if n not in LINEAR or n in pricing.sums)
            raise InputError(f"objective '{name}': {pricing.target.name} has none; it has {known}")


def feasible(excess: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which designs keep every limit."""
    return np.asarray((excess <= 0).all(axis=1))


def price_all(problem: Problem, designs: Sequence[Sequence[int]]) -> tuple[Ints, Prices]:
    """Designs as an array and their cost."""
    array = ints(designs).reshape(-1, len(problem.table.variables))
    return array, price(problem.table, array)
