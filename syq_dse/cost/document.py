"""A priced design as the JSON document that `syq-dse estimate --json` prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from syq_dse.cost.clock import Reach
from syq_dse.cost.estimate import Cost, LayerCost, tightest, utilization
from syq_dse.cost.pricing import Pricing


def document(
    pricing: Pricing,
    network: str,
    cost: Cost,
    interval: int,
    clock_mhz: float,
    limit: float,
    warnings: Sequence[str] = (),
    reach: Reach | None = None,
) -> dict[str, Any]:
    """The document of one design, with the units in the names of the keys.

    Args:
        interval: what the design's streams are sized for [cycles].
        limit: share of each resource that may be filled, for `fits`.
        warnings: of units outside of what was synthesised (cost/parameters.py).
        reach: the fastest clock; None: of a board, which is not timed.
    """
    offered = pricing.capacity(interval, clock_mhz)
    used = {
        pricing.shown_as.get(name, name): share
        for name, share in utilization(cost.total, offered).items()
    }
    return {
        "network": network,
        "target": pricing.target.name,
        "clock_mhz": clock_mhz,
        "interval_cycles": cost.interval_cycles,
        "fps": clock_mhz * 1e6 / cost.interval_cycles,
        "latency_us": cost.latency_cycles / clock_mhz,
        "total": {
            **pricing.totals(cost.total),
            "energy_uj": cost.total["energy_pj"] / 1e6,
        },
        "capacity": pricing.shown_capacity(offered),
        "utilization": {name: _finite(value) for name, value in used.items()},
        "limit": limit,
        **({} if reach is None else {"reach": _reach(reach)}),
        "fits": all(value <= limit for value in used.values()),
        "tightest": tightest(used),
        "sized_for_cycles": interval,
        "provenance": pricing.provenance(),
        "warnings": [*warnings, *_too_fast(clock_mhz, reach)],
        "layers": [_layer(pricing, layer) for layer in cost.layers],
    }


def _reach(reach: Reach) -> dict[str, Any]:
    return {
        "clock_mhz": reach.mhz,
        "path_ns": reach.path_ns,
        "layer": reach.layer,
        "unit": reach.unit,
        "worst_error": reach.worst,
    }


def _too_fast(clock_mhz: float, reach: Reach | None) -> list[str]:
    if reach is None or clock_mhz <= reach.mhz:
        return []
    return [
        f"clock: {clock_mhz:g} MHz are more than the {reach.mhz:.0f} MHz of the longest path, "
        f"{reach.path_ns:.3g} ns in the {reach.unit} of {reach.layer}; remedy: --clock "
        f"{reach.mhz:.0f}"
    ]


def _layer(pricing: Pricing, layer: LayerCost) -> dict[str, Any]:
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
        "units": {name: _unit(pricing, unit) for name, unit in layer.units.items()},
        "total": _unit(pricing, layer.total),
    }


def _unit(pricing: Pricing, unit: Mapping[str, int]) -> dict[str, float]:
    return {**pricing.totals(unit), "energy_pj": unit["energy_pj"]}


def _finite(value: float) -> float | None:
    """JSON has no infinity: the share of a resource that the part has not is null."""
    return value if math.isfinite(value) else None
