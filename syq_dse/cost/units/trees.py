"""Pipelined adder trees (rtl/tree.py)."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np

from syq_dse.cost.integers import Ints, Range, ints, range_bits
from syq_dse.cost.units.carries import carry_pairs, short_bits


class Tree(NamedTuple):
    """What an adder tree takes: counts, or arrays of counts of many trees."""

    first: Any  # bits of the first adders
    alone: Any  # bits of operands that meet no adder before a register
    counted: Any  # bits of counters of ones
    adder: Any  # bits of later adders
    pairs: Any  # of bits of carry chains
    first_short: Any  # bits of first sums that are too short for a carry chain
    short: Any  # bits of later ones
    ff: Any
    levels: Any  # registers on the way
    width: Any  # bits of the sum


def trees_of(n: Ints, operand: Range, kind: str) -> Tree:
    """`tree` for many numbers of operands."""
    unique, index = np.unique(n, return_inverse=True)
    found = ints([tree(int(size), operand, kind) for size in unique])[index.reshape(n.shape)]
    return Tree(*np.moveaxis(found, -1, 0))


@cache
def tree(n: int, operand: Range, kind: str) -> Tree:
    """One tree over n operands.

    Args:
        operand: range of one.
        kind: "plain"; "ones": bits, three of which are counted first; "fields": behind DSPs,
            "borrows": behind DSPs, with counts of the borrows.

    >>> one = tree(4, (0, 15), "plain")  # two adders of 4 bits, one of 5
    >>> one.first, one.adder, one.pairs, one.ff, one.width
    (8, 5, 9, 16, 6)
    """
    first = alone = counted = adder = chains = first_short = short = ff = levels = 0
    row = [operand] * n
    if kind in ("ones", "borrows"):
        counts = [(0, min(3, n - i)) for i in range(0, n, 3)]
        counted = sum(range_bits(*c) for c in counts if c[1] > 1)
        alone = sum(1 for c in counts if c[1] == 1)
        row = counts if kind == "ones" else row + counts
    if kind != "plain":
        ff, levels = sum(range_bits(*r) for r in row), 1
    elif n == 1:
        alone = range_bits(*operand)
    while len(row) > 1:
        odd = [row[-1]] if len(row) % 2 else []
        pairs = [row[i : i + 2] for i in range(0, len(row) - 1, 2)]
        bits = sum(adder_bits(a, b) for a, b in pairs)
        sums = [range_bits(a[0] + b[0], a[1] + b[1]) for a, b in pairs]
        chains += int(carry_pairs(sums).sum())
        few = int(short_bits(sums).sum())
        if levels == 0:
            first, alone, first_short = bits, range_bits(*odd[0]) if odd else 0, few
        else:
            adder, short = adder + bits, short + few
        row = odd + [(a[0] + b[0], a[1] + b[1]) for a, b in pairs]
        ff, levels = ff + sum(range_bits(*r) for r in row), levels + 1
    return Tree(
        first=first,
        alone=alone,
        counted=counted,
        adder=adder,
        pairs=chains,
        first_short=first_short,
        short=short,
        ff=ff,
        levels=levels,
        width=range_bits(*row[0]),
    )


def adder_bits(a: Range, b: Range) -> int:
    """LUTs of an adder: where only the wider operand has a bit the carry chain needs none."""
    narrow, wide = sorted((a, b), key=lambda r: range_bits(*r))
    return range_bits(*wide) if narrow[0] < 0 else range_bits(*narrow)
