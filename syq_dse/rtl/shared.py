"""Adder trees over selections of the same operands that are known: equal parts are built once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from amaranth import Module

from syq_dse.rtl.tree import Operand, Pipeline, add, ones_of_three

Selected = Sequence[Operand | None]
"""The operands of a tree; None where one is left out. Equal values are one object."""


def stage(pipe: Pipeline, rows: Sequence[Selected]) -> list[list[Operand | None]]:
    """One register stage, with one register for all places of a value.

    A reset keeps values that pass three registers or more out of shift registers in LUTs.
    """
    found = {id(o.value): o for row in rows for o in row if o is not None}
    held = pipe.stage([o.value for o in found.values()], reset=True)
    kept = {
        key: Operand(value, o.low, o.high)
        for (key, o), value in zip(found.items(), held, strict=True)
    }
    return [[None if o is None else kept[id(o.value)] for o in row] for row in rows]


class Once:
    """A function of operands that gives the same result, not another one, for the same operands."""

    def __init__(self, make: Callable[..., Operand | None]) -> None:
        self.make = make
        self.made: dict[tuple[int, ...], Operand | None] = {}

    def __call__(self, *operands: Operand | None) -> Operand | None:
        key = tuple(0 if o is None else id(o.value) for o in operands)
        if key not in self.made:
            self.made[key] = self.make(*operands)
        return self.made[key]


def sums(pipe: Pipeline, trees: Sequence[Selected]) -> list[Operand | None]:
    """The sum of each tree, in registers; all trees have as many places."""
    rows = [list(tree) for tree in trees]
    while len(rows[0]) > 1:
        pair = Once(partial(_pair, pipe.m))
        rows = stage(pipe, [_pairs(pair, row) for row in rows])
    return [row[0] for row in rows]


def _pairs(pair: Once, row: Selected) -> list[Operand | None]:
    """Sums of neighbours, placed as in the trees of tree.add_trees."""
    odd = [row[-1]] if len(row) % 2 else []
    return [*odd, *(pair(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2))]


def _pair(m: Module, a: Operand | None, b: Operand | None) -> Operand | None:
    if a is None or b is None:
        return b if a is None else a
    return add(m, a, b)


def counts(m: Module, trees: Sequence[Selected]) -> list[list[Operand | None]]:
    """The number of ones of each three bits."""
    count = Once(partial(_count, m))
    return [[count(*tree[i : i + 3]) for i in range(0, len(tree), 3)] for tree in trees]


def _count(m: Module, *places: Operand | None) -> Operand | None:
    bits = [o for o in places if o is not None]
    if len(bits) == 1:
        return bits[0]
    return ones_of_three(m, [b.value for b in bits])[0] if bits else None
