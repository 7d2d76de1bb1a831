"""A priced design as the JSON document that `syq-dse estimate --json` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from syq_dse.cost.estimate import Cost, LayerCost, capacity, tightest, utilization
from syq_dse.cost.fpga import Pricing
from syq_dse.cost.prices import LutPrices

RESOURCES = ("lut", "ff", "dsp", "bram18", "uram")
"""Columns that every table of a board shows, in this order."""


def document(
    pricing: Pricing,
    network: str,
    cost: Cost,
    interval: int,
    clock_mhz: float,
    limit: float,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The document of one design, with the units in the names of the keys.

    Args:
        interval: what the design's streams are sized for [cycles].
        limit: share of each resource that may be filled, for `fits`.
        warnings: of units outside of what was synthesised (cost/parameters.py).
    """
    offered = capacity(pricing, interval, clock_mhz)
    used = utilization(cost.total, offered)
    return {
        "network": network,
        "target": pricing.board.name,
        "clock_mhz": clock_mhz,
        "interval_cycles": cost.interval_cycles,
        "fps": clock_mhz * 1e6 / cost.interval_cycles,
        "latency_us": cost.latency_cycles / clock_mhz,
        "total": {
            **{name: cost.total[name] for name in RESOURCES},
            "energy_uj": cost.total["energy_pj"] / 1e6,
            "lutram": cost.total["lutram"],
            "dram_bits": cost.total["dram_bits"],
        },
        "capacity": offered,
        "utilization": {name: _finite(value) for name, value in used.items()},
        "limit": limit,
        "fits": all(value <= limit for value in used.values()),
        "tightest": tightest(used),
        "sized_for_cycles": interval,
        "provenance": provenance(pricing),
        "warnings": list(warnings),
        "layers": [_layer(layer) for layer in cost.layers],
    }


def provenance(pricing: Pricing) -> dict[str, str]:
    """Where each kind of price comes from, and whether it was fitted to synthesis."""
    lut, energy = pricing.lut, pricing.energy
    exact = "exact count, mapped by the part's shapes"
    return {
        "lut": f"{lut.status}: {lut.source}{_held_out(lut)}",
        "ff": f"{exact}; {lut.status} against synthesis",
        "dsp": exact,
        "bram18": exact,
        "uram": exact,
        "energy": f"{energy.status}: {energy.source}",
    }


def _held_out(lut: LutPrices) -> str:
    """The error that a unit's LUTs had where prices were fitted without it."""
    means = {name: unit.error.get("lut_mean", 0.0) for name, unit in lut.units.items() if unit.runs}
    worst = max(
        (unit.error.get("lut_worst", 0.0) for unit in lut.units.values() if unit.runs), default=0.0
    )
    if not means:
        return ""
    each = ", ".join(f"{name} {100 * mean:.1f}" for name, mean in means.items())
    return f"; mean error of a unit [%]: {each}; worst {100 * worst:.0f} %"


def _layer(layer: LayerCost) -> dict[str, Any]:
    scheme, fold = layer.scheme, layer.folding
    return {
        "name": layer.name,
        "weights": scheme.weights if scheme else None,
        "granularity": scheme.granularity if scheme else None,
        "scale": scheme.scale if scheme else None,
        "input_bits": layer.input_bits,
        "output_bits": layer.output_bits,
        "pe": fold.pe if fold else None,
        "simd": fold.simd if fold else None,
        "res_type": fold.res_type if fold else None,
        "ram_style": fold.ram_style if fold else None,
        "cycles": layer.cycles,
        "units": {name: _unit(unit) for name, unit in layer.units.items()},
        "total": _unit(layer.total),
    }


def _unit(unit: Mapping[str, int]) -> dict[str, int]:
    return {name: unit[name] for name in (*RESOURCES, "lutram", "dram_bits", "energy_pj")}


def _finite(value: float) -> float | None:
    """JSON has no infinity: the share of a resource that the part has not is null."""
    return value if math.isfinite(value) else None
