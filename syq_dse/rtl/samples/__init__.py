"""Units with drawn parameters, and what the cost model counts for them: what calibration runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from amaranth.lib.wiring import Component

from syq_dse.cost.counts import Counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One unit to synthesise."""

    parameters: Mapping[str, int | str]
    unit: Component
    counts: Counts
    styles: tuple[str, ...] = ()  # how each of `counts.memories` is built
