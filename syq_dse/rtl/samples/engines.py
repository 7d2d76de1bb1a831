"""Engines drawn at random: layers of the shipped networks with schemes and foldings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeVar

import numpy as np

from syq_dse import catalogue, network
from syq_dse.cost.folding import RES_TYPES, Folding, Geometry, foldings, geometry
from syq_dse.network import Node
from syq_dse.scheme import (
    GRANULARITIES,
    SCALES,
    WEIGHTS,
    LayerScheme,
    Weights,
    has_granularity,
    normal,
    tensors,
    weight_bits,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine to build."""

    geo: Geometry
    layer: LayerScheme
    bits: int  # of its input
    out_bits: int
    fold: Folding


@cache
def layers() -> tuple[tuple[Node, bool], ...]:
    """Every conv and dense layer of the shipped networks, and whether its input is signed."""
    found = []
    for name in catalogue.names("models"):
        net = network.load(name)
        written = tensors(net)
        found += [(node, written[node.inputs[0]].signed) for node in net.engines]
    return tuple(found)


def _one(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of some options, each as likely; `rng.choice` would lose its type."""
    return options[int(rng.integers(len(options)))]


UNROLLED = 0.2
"""Share of the units that constants change whose engine uses all of its weights at once."""

UNROLLED_BITS = 4000
"""Bits of all codes of the largest layer whose codes are constants."""


def unrolled(rng: np.random.Generator) -> Engine:
    """A layer that uses all of its weights at once."""
    while True:
        one = draw_engine(rng)
        geo = one.geo
        if geo.c_out * geo.fan_in * weight_bits(one.layer.weights) <= UNROLLED_BITS:
            return replace(one, fold=Folding(pe=geo.c_out, simd=geo.fan_in))


def draw_engine(rng: np.random.Generator, largest: int = 2048) -> Engine:
    """A layer, a scheme and a folding, small ones as likely as large ones.

    Args:
        largest: pe * simd * bits of code and activation, at most.
    """
    while True:
        node, signed = layers()[rng.integers(len(layers()))]
        geo = geometry(node, signed)
        low = rng.random() < 0.7  # few bits are what the project is for
        codebooks: tuple[Weights, ...] = ("binary", "ternary") if low else WEIGHTS
        weights = _one(rng, codebooks)
        granularity = _one(rng, GRANULARITIES)
        if not has_granularity(node) and granularity != "channel":
            granularity = "layer"
        scale = _one(rng, SCALES)
        layer = normal(node, LayerScheme(weights=weights, granularity=granularity, scale=scale))
        bits = int(rng.integers(1, 9)) if not signed else int(rng.integers(2, 9))
        pe, simd = foldings(geo, layer.granularity)
        size = pe * simd * bits * weight_bits(layer.weights)
        fits = size <= largest
        if not fits.any():
            continue
        pe, simd, size = pe[fits], simd[fits], size[fits]
        # the foldings nearest to a size drawn log-uniformly
        wanted = np.exp(rng.uniform(0, np.log(largest)))
        near = np.argsort(np.abs(np.log(size / wanted)))[:4]
        index = int(rng.choice(near))
        res = RES_TYPES[int(rng.integers(2))]
        return Engine(
            geo=geo,
            layer=layer,
            bits=bits,
            out_bits=int(rng.integers(1, 9)),
            fold=Folding(pe=int(pe[index]), simd=int(simd[index]), res_type=res),
        )
