"""Pools drawn at random: those of the shipped networks and their like."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.integers import divisors
from syq_dse.cost.units.pool import max_pool, mean_pool, steps
from syq_dse.network import AvgPool, GlobalAvgPool, MaxPool, Node, Shape
from syq_dse.rtl.pool import MaxPool as MaxUnit
from syq_dse.rtl.pool import MeanPool, Pool
from syq_dse.rtl.samples import Sample
from syq_dse.target import Family

LARGEST_WORD = 256
"""Bits of a word that are still quick to synthesise."""

MOST_OF_A_ROW = 8192
"""Channels times columns: ResNet's 64 * 112, and a little more."""

DEEPEST = 128
"""Words up to which a memory may be in LUTs."""


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """A max pool, with windows that overlap or not, a mean pool, or a mean over all pixels."""
    kind = str(rng.choice(["max", "overlapping", "mean", "global"], p=[0.35, 0.3, 0.12, 0.23]))
    c = int(rng.choice([6, 16, 32, 64, 96, 128, 256, 384, 512, 1024]))
    bits = int(rng.integers(1, 9))
    out_bits = 8 if rng.random() < 0.6 else int(rng.integers(2, 9))  # the last layer reads 8 bits
    fitting = [n for n in divisors(c) if n * bits <= LARGEST_WORD]
    lanes = int(rng.choice(fitting))
    node = _node(rng, kind, c)
    parts = steps(node, lanes)
    styles = tuple(
        "distributed" if part.depth <= DEEPEST and rng.random() < 0.6 else "block"
        for part in parts
        if part.slots
    )
    if isinstance(node.layer, MaxPool):
        out_bits = bits
        counts = max_pool(node, bits, lanes)
        unit: Pool = MaxUnit(
            node, bits=bits, signed=False, lanes=lanes, style=styles, family=family
        )
    else:
        counts = mean_pool(node, bits, out_bits, lanes)
        unit = MeanPool(
            node,
            bits=bits,
            signed=False,
            out_bits=out_bits,
            lanes=lanes,
            style=styles,
            family=family,
        )
    return Sample(
        parameters={
            "kind": kind,
            "c": c,
            "h": node.in_shape.h,
            "w": node.in_shape.w,
            "k": node.k,
            "stride": node.stride,
            "pad": node.pad[0],
            "pad_after": node.pad[1],
            "bits": bits,
            "out_bits": out_bits,
            "lanes": lanes,
        },
        unit=unit,
        counts=counts,
        styles=styles,
    )


def _node(rng: np.random.Generator, kind: str, c: int) -> Node:
    if kind == "global":
        side = int(rng.choice([4, 6, 7, 7, 7, 8, 8, 8, 14]))
        return Node(GlobalAvgPool(name="pool"), ("input",), Shape(c, side, side), Shape(c, 1, 1))
    # channels grow where images shrink
    sides = [n for n in (8, 10, 13, 14, 27, 28, 32, 54, 55, 56, 112) if c * n <= MOST_OF_A_ROW]
    side = int(rng.choice(sides))
    k, stride, pad = 2, 2, (0, 0)
    if kind == "overlapping":
        k = int(rng.choice([3, 3, 3, 2, 5]))
        stride = 2 if k > 2 and rng.random() < 0.9 else 1
        pad = ((0, 0), (1, 1), (0, 1))[int(rng.integers(0, 3))] if k == 3 else (0, 0)
    elif kind == "mean" and rng.random() < 0.2:
        k = 3
    elif rng.random() < 0.3:
        k = stride = int(rng.integers(3, 5))
    size = (side + sum(pad) - k) // stride + 1
    layer = (
        AvgPool(name="pool", k=k, stride=stride)
        if kind == "mean"
        else MaxPool(name="pool", k=k, stride=stride, pad=pad[0], pad_after=pad[1])
    )
    return Node(layer, ("input",), Shape(c, side, side), Shape(c, size, size))
