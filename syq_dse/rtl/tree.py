"""Sums of many operands: pipelined adder trees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth import Cat, Module, Shape, Signal
from amaranth.hdl import Value

from syq_dse.cost.integers import range_bits


class Pipeline:
    """Registers that all move together, and the valid bit that goes with them."""

    def __init__(self, m: Module, advance: Value, valid: Value) -> None:
        self.m, self.advance, self.valid = m, advance, valid
        self.stages = 0

    def stage(self, values: Sequence[Value], reset: bool = False) -> list[Value]:
        """The values one cycle of movement later.

        Args:
            reset: keeps bits that pass three registers or more out of shift registers in LUTs.
        """
        self.stages += 1
        valid = Signal(name=f"valid_{self.stages}")
        held = [Signal(v.shape(), name=f"held_{self.stages}", reset_less=not reset) for v in values]
        with self.m.If(self.advance):
            self.m.d.sync += valid.eq(self.valid)
            self.m.d.sync += [h.eq(v) for h, v in zip(held, values, strict=True)]
        self.valid = valid
        return list(held)


@dataclass(frozen=True, slots=True)
class Operand:
    """A value and its range: sums of it are no wider than they need to be."""

    value: Value
    low: int
    high: int


def wire(m: Module, value: Value, bits: int | None = None) -> Value:
    """The value, or its low bits, under a name of its own: expressions stay small."""
    shape = value.shape()
    named = Signal(shape if bits is None else Shape(bits, shape.signed))
    m.d.comb += named.eq(value)
    return named


def add_trees(pipe: Pipeline, trees: Sequence[Sequence[Operand]]) -> list[Operand]:
    """The sum of each tree's operands, in registers; a tree with fewer levels waits at the end.

    Each level halves the operands, an odd one passes on, and a register follows: without it
    synthesis merges adders of two levels into logic twice as large.
    """
    rows = [list(tree) for tree in trees]
    while any(len(row) > 1 for row in rows):
        rows = stage_rows(pipe, [_add_pairs(pipe.m, row) for row in rows])
    return [row[0] for row in rows]


def stage_rows(
    pipe: Pipeline, rows: Sequence[Sequence[Operand]], reset: bool = False
) -> list[list[Operand]]:
    """One register stage for lists of operands, which may differ in length."""
    flat = iter(pipe.stage([operand.value for row in rows for operand in row], reset))
    return [[Operand(next(flat), o.low, o.high) for o in row] for row in rows]


def _add_pairs(m: Module, row: Sequence[Operand]) -> list[Operand]:
    """Sums of neighbours; an odd last one comes first, so that it is added in the next level."""
    odd = [row[-1]] if len(row) % 2 else []
    return [*odd, *(add(m, row[i], row[i + 1]) for i in range(0, len(row) - 1, 2))]


def add(m: Module, a: Operand, b: Operand) -> Operand:
    """The sum of two, no wider than it need be."""
    low, high = a.low + b.low, a.high + b.high
    return Operand(wire(m, a.value + b.value, range_bits(low, high)), low, high)


def ones_of_three(m: Module, bits: Sequence[Value]) -> list[Operand]:
    """The number of ones of each three bits: two LUTs, an AND in front of each bit included."""
    counted = []
    for i in range(0, len(bits), 3):
        group = bits[i : i + 3]
        if len(group) == 3:
            a, b, c = group
            value = wire(m, Cat(a ^ b ^ c, (a & b) | (a & c) | (b & c)))
        elif len(group) == 2:
            value = wire(m, Cat(group[0] ^ group[1], group[0] & group[1]))
        else:
            value = group[0]
        counted.append(Operand(value, 0, len(group)))
    return counted
