"""The design space: what each layer, each tensor and the interval may be."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from syq_dse.cost import design, table
from syq_dse.cost.pricing import Pricing
from syq_dse.cost.table import Choice, Table
from syq_dse.errors import InputError
from syq_dse.network import Network, Node
from syq_dse.scheme import (
    Granularity,
    LayerScheme,
    Scale,
    Weights,
    fixed_bits,
    normal,
    tensors,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """What is searched. First and last layer are int8 and read 8 bits, residual branches have 8."""

    weights: tuple[Weights, ...] = ("binary", "ternary", "int4", "int8")
    granularity: tuple[Granularity, ...] = ("layer", "row", "pixel")
    scale: tuple[Scale, ...] = ("fixed8", "shift")
    bits: tuple[int, ...] = (1, 2, 3, 4, 8)
    intervals: int | None = None  # points of the grid of initiation intervals; None: by size

    def __post_init__(self) -> None:
        for name in ("weights", "granularity", "scale", "bits"):
            values = getattr(self, name)
            if not values or len(set(values)) != len(values):
                raise InputError(f"{name} must list at least one value, none twice, got {values}")
        if not all(1 <= bits <= 8 for bits in self.bits):
            raise InputError(f"bits must be 1 to 8, got {list(self.bits)}")
        if self.intervals is not None and not 1 <= self.intervals <= 1024:
            raise InputError(f"intervals must be 1 to 1024, got {self.intervals}")


def points(space: Space, network: Network) -> int:
    """Points of the grid of intervals: more for a small network, which costs little time."""
    if space.intervals is not None:
        return space.intervals
    return min(96, max(24, 480 // len(network.engines)))


def schemes(space: Space, network: Network, node: Node) -> tuple[LayerScheme, ...]:
    """The schemes that a layer may have, each thing once."""
    if node in (network.engines[0], network.engines[-1]):
        return (LayerScheme(),)
    found = itertools.product(space.weights, space.granularity, space.scale)
    every = (LayerScheme(weights=w, granularity=g, scale=s) for w, g, s in found)
    return tuple(dict.fromkeys(normal(node, layer) for layer in every))


def choices(space: Space, network: Network, pricing: Pricing) -> dict[str, tuple[Choice, ...]]:
    """Every scheme of every engine with every way to build it that the part has."""
    return {
        node.name: design.every_choice(pricing, network, node, schemes(space, network, node))
        for node in network.engines
    }


def bits(space: Space, network: Network) -> dict[str, tuple[int, ...]]:
    """The precisions of every tensor; one where the space holds it fixed."""
    fixed = fixed_bits(network)
    names = {tensor.name: tensor for tensor in tensors(network).values()}
    return {
        name: (fixed[name],) if name in fixed else tuple(sorted(space.bits))
        for name, tensor in names.items()
        if tensor.kind != "result"
    }


def build(
    space: Space,
    network: Network,
    pricing: Pricing,
    longest: int | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Table:
    """The table of every choice in the space."""
    return table.build(
        pricing,
        network,
        design.grid(network, points(space, network), longest),
        choices(space, network, pricing),
        bits(space, network),
        progress,
    )
