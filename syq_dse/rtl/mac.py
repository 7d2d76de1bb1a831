"""`mac`: codes times activations, adder trees, accumulators."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from amaranth import Cat, Const, Module, Signal, signed
from amaranth.hdl import Value

from syq_dse.cost.integers import range_bits
from syq_dse.cost.units.mac import MacShape, field_range, joined, operand_range
from syq_dse.rtl import shared
from syq_dse.rtl.dsp import multiply
from syq_dse.rtl.stream import Unit, lanes
from syq_dse.rtl.tree import Operand, Pipeline, add_trees, ones_of_three, stage_rows, wire
from syq_dse.scheme import weight_max
from syq_dse.target import Family

Operands = Sequence[Sequence[tuple[Sequence[Value], Sequence[Value]]]]
"""Activations and codes by PE and by sum of the PE."""


class Mac(Unit):
    """Sums of codes times activations.

    Input `s`: simd activations of each group that is worked on, group-major. Input `w`: pe * simd
    codes in two's complement (binary: 1 is +1), PE-major. Output: every `steps` words pe * sums
    sums, PE-major.

    Binary: sum(+-a) = 2 * sum(a where w = +1) - sum(a). Ternary: sum(w * a) = sum((w + 1) * a) -
    sum(a). The second sum is shared by the PEs of a group, and a product merges into the LUTs of
    the first adder. Integers: a sum of masked activations for each bit of the code, or DSPs.

    Args:
        word: the codes, as a word of `w`, of a shape whose codes are constants: all that the engine
            has. There is no `w` then; a tree has only the operands that its codes select, and what
            trees have in common is there once. Ternary: sum(a where w = +1) - sum(a where w = -1).
    """

    def __init__(self, shape: MacShape, family: Family, word: int | None = None) -> None:
        assert shape.constant == (word is not None)
        self.shape, self.family, self.word = shape, family, word
        width = shape.pe * shape.simd * shape.code_bits
        super().__init__(
            shape.groups * shape.simd * shape.bits,
            shape.pe * shape.sums * shape.out_bits,
            {} if shape.constant else {"w": width},
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape = self.shape
        advance = Signal()
        taken: Value = self.s_valid
        if shape.constant:
            m.d.comb += self.s_ready.eq(advance)
        else:
            taken = self.s_valid & self.w_valid
            m.d.comb += [
                self.s_ready.eq(advance & self.w_valid),
                self.w_ready.eq(advance & self.s_valid),
            ]
        pipe = Pipeline(m, advance, taken)
        sums = self._sums(pipe)
        if shape.steps == 1:
            m.d.comb += [
                advance.eq(~pipe.valid | self.m_ready),
                self.m_valid.eq(pipe.valid),
                self.m_data.eq(Cat(*sums)),
            ]
            return m
        self._accumulate(m, pipe, advance, sums)
        return m

    def _sums(self, pipe: Pipeline) -> list[Value]:
        """The sums of one word's products, in registers."""
        shape = self.shape
        if shape.dsp_lanes:
            return _dsp_sums(pipe, shape, self._operands(), self.family)
        if shape.constant:
            return _selected_sums(pipe, shape, self._operands())
        return _plane_sums(pipe, shape, self._operands())

    def _operands(self) -> Operands:
        """Activations and codes of each tree: of each PE a list over its sums."""
        shape = self.shape
        n = shape.terms
        activations = lanes(self.s_data, shape.bits)
        if shape.signed:
            activations = [lane.as_signed() for lane in activations]
        codes = self._codes()
        found = []
        for pe in range(shape.pe):
            inputs = (pe * shape.groups // shape.pe) * shape.simd
            found.append(
                [
                    (
                        activations[inputs + first : inputs + first + n],
                        codes[pe * shape.simd + first : pe * shape.simd + first + n],
                    )
                    for first in range(0, shape.simd, n)
                ]
            )
        return found

    def _codes(self) -> Sequence[Value]:
        """Codes, PE-major."""
        shape = self.shape
        if self.word is None:
            return lanes(self.w_data, shape.code_bits)
        code, mask = shape.code_bits, (1 << shape.code_bits) - 1
        count = shape.pe * shape.simd
        return [Const(self.word >> code * i & mask, code) for i in range(count)]

    def _accumulate(
        self, m: Module, pipe: Pipeline, advance: Signal, sums: Sequence[Value]
    ) -> None:
        """Add up the words of an output; the result waits in registers of its own."""
        shape = self.shape
        step = Signal(range(shape.steps))
        full = Signal()
        last = Signal()
        m.d.comb += [
            last.eq(step == shape.steps - 1),
            advance.eq(~(pipe.valid & last & full & ~self.m_ready)),
            self.m_valid.eq(full),
        ]
        with m.If(self.m_ready):
            m.d.sync += full.eq(0)
        results = []
        moved = pipe.valid & advance
        for value in sums:
            held = Signal(signed(shape.out_bits))
            out = Signal(shape.out_bits, reset_less=True)
            total = Signal(shape.out_bits)
            m.d.comb += total.eq(held + value)
            with m.If(moved):
                m.d.sync += held.eq(total)
            with m.If(moved & last):
                m.d.sync += [out.eq(total), held.eq(0)]
            results.append(out)
        with m.If(moved):
            m.d.sync += step.eq(step + 1)
            with m.If(last):
                m.d.sync += [step.eq(0), full.eq(1)]
        m.d.comb += self.m_data.eq(Cat(*results))


def _plane_sums(pipe: Pipeline, shape: MacShape, operands: Operands) -> list[Value]:
    """The sums of one word's products, from sums of masked activations, in registers."""
    m = pipe.m
    trees = [tree for parts in operands for a, w in parts for tree in _planes(m, shape, a, w)]
    masked = len(trees)
    pes_a_group = shape.pe // shape.groups
    if shape.shares_sum:
        trees += [list(a) for parts in operands[::pes_a_group] for a, _ in parts]
    if shape.counts_ones:
        rows = stage_rows(pipe, [ones_of_three(m, tree) for tree in trees])
    else:
        own = operand_range(shape.bits, shape.signed, shape.factor)
        plain = operand_range(shape.bits, shape.signed)
        rows = [
            [Operand(value, *(own if index < masked else plain)) for value in tree]
            for index, tree in enumerate(trees)
        ]
    sums = add_trees(pipe, rows)
    if not shape.shares_sum:
        planes = [sums[i : i + shape.planes] for i in range(0, masked, shape.planes)]
        found = _join(pipe, planes)
        return [_narrow(total.value, shape.word_bits) for total in found if total is not None]
    results = []
    for index, positive in enumerate(sums[:masked]):
        group = index // shape.sums // pes_a_group
        total = sums[masked + group * shape.sums + index % shape.sums]
        own = positive.value << 1 if shape.codebook == "binary" else positive.value
        results.append(wire(m, (own - total.value)[: shape.word_bits].as_signed()))
    return pipe.stage(results)


def _selected_sums(pipe: Pipeline, shape: MacShape, operands: Operands) -> list[Value]:
    """The sums of products with constant codes, in registers."""
    own = operand_range(shape.bits, shape.signed)
    rows = [
        row
        for parts in operands
        for a, w in parts
        for row in _selections(shape, [Operand(x, *own) for x in a], w)
    ]
    if shape.counts_ones:
        rows = shared.stage(pipe, shared.counts(pipe.m, rows))
    found = shared.sums(pipe, rows)
    each = len(found) // (shape.pe * shape.sums)
    parts = [found[i : i + each] for i in range(0, len(found), each)]
    if shape.codebook == "binary":
        less = shared.Once(partial(_twice_less, pipe.m))
        joins = [row[0] for row in shared.stage(pipe, [[less(*part)] for part in parts])]
    else:
        joins = _join(pipe, parts, 0 if weight_max(shape.codebook) == 1 else 1)
    results = []
    for result in joins:
        word = Signal(signed(shape.word_bits))
        if result is not None:
            pipe.m.d.comb += word.eq(result.value)
        results.append(word)
    return results


def _selections(
    shape: MacShape, activations: Sequence[Operand], codes: Sequence[Value]
) -> list[list[Operand | None]]:
    """What the trees of one sum add up; binary: where w = +1, and all; ternary: where w = +1, and
    where w = -1; else where each bit is 1."""
    if shape.codebook == "binary":
        chosen = [[bool(_constant(c)) for c in codes], [True] * len(codes)]
    elif weight_max(shape.codebook) == 1:
        chosen = [[_constant(c) == want for c in codes] for want in (0b01, 0b11)]
    else:
        chosen = [[bool(_constant(c) >> bit & 1) for c in codes] for bit in range(shape.planes)]
    return [
        [a if takes else None for a, takes in zip(activations, of, strict=True)] for of in chosen
    ]


def _constant(value: Value) -> int:
    assert isinstance(value, Const)
    return int(value.value)


def _twice_less(m: Module, chosen: Operand | None, total: Operand | None) -> Operand | None:
    """2 * sum(a where w = +1) - sum(a): the sum where w = +1 less that of the others."""
    assert total is not None
    if chosen is None:
        return Operand(wire(m, (-total.value).as_signed()), -total.high, -total.low)
    if chosen.value is total.value:
        return total
    low = chosen.low - (total.high - chosen.high)
    high = chosen.high - (total.low - chosen.low)
    value = wire(m, ((chosen.value << 1) - total.value)[: range_bits(low, high)])
    return Operand(value.as_signed() if low < 0 else value, low, high)


def _planes(
    m: Module, shape: MacShape, a: Sequence[Value], w: Sequence[Value]
) -> list[list[Value]]:
    """The operands of each tree of one sum: masked activations."""
    if shape.factor == 2:  # (w + 1) * a
        return [
            [
                wire(m, _mask(x, ~c[0]) | _mask(x << 1, c[0] & ~c[1]))
                for x, c in zip(a, w, strict=True)
            ]
        ]
    return [
        [wire(m, _mask(x, c[plane])) for x, c in zip(a, w, strict=True)]
        for plane in range(shape.planes)
    ]


def _mask(value: Value, bit: Value) -> Value:
    if value.shape().signed:
        return (value & bit.replicate(len(value)).as_signed()).as_signed()
    return value & bit.replicate(len(value))


def _join(
    pipe: Pipeline, rows: Sequence[Sequence[Operand | None]], span: int = 1
) -> list[Operand | None]:
    """Sums of planes times powers of 2**span, the last of them negative: two's complement.

    A plane that has nothing to add is None.
    """
    planes = [list(row) for row in rows]
    negative = True
    while (count := len(planes[0])) > 1:
        pair, last = (shared.Once(partial(_join_pair, pipe.m, span, of)) for of in (False, True))
        subtracts = count - 2 if negative else count
        planes = shared.stage(
            pipe,
            [
                [(last if i >= subtracts else pair)(*row[i : i + 2]) for i in range(0, count, 2)]
                for row in planes
            ],
        )
        negative = negative and count % 2 == 1
        span *= 2
    return [row[0] for row in planes]


def _join_pair(
    m: Module, span: int, negative: bool, a: Operand | None, b: Operand | None = None
) -> Operand | None:
    """a + b * 2**span, or a - b * 2**span."""
    if b is None:
        return a
    if a is None:
        a = Operand(Const(0, 1), 0, 0)
    low, high = joined([(a.low, a.high), (b.low, b.high)], span, negative)
    shifted = b.value << span
    value = a.value - shifted if negative else a.value + shifted
    value = wire(m, value[: range_bits(low, high)])
    return Operand(value.as_signed() if low < 0 else value, low, high)


def _narrow(value: Value, bits: int) -> Value:
    """The value as signed, in as many bits as it can need."""
    return value[:bits].as_signed() if len(value) > bits else value.as_signed()


def _dsp_sums(pipe: Pipeline, shape: MacShape, operands: Operands, family: Family) -> list[Value]:
    """The sums of one word's products, from products in DSPs, in registers.

    Codes of several PEs share a multiplier, each `span` bits above the one before. What is read
    back of a lane is its product less one where the lanes below are negative in sum; these ones are
    counted and added.
    """
    m = pipe.m
    span = shape.code_bits + shape.bits - 1
    trees: dict[tuple[int, int], list[Operand]] = {}
    pes_a_group = shape.pe // shape.groups
    lanes = shape.dsp_lanes
    firsts = [
        group * pes_a_group + pe
        for group in range(shape.groups)
        for pe in range(0, pes_a_group, lanes)
    ]
    for first in firsts:
        pes = range(first, min(first + lanes, (first // pes_a_group + 1) * pes_a_group))
        for part in range(shape.sums):
            fields: list[list[Value]] = [[] for _ in pes]
            borrows: list[list[Value]] = [[] for _ in pes]
            for index, a in enumerate(operands[first][part][0]):
                codes = [operands[pe][part][1][index].as_signed() for pe in pes]
                factor = a if shape.signed else Cat(a, Const(0, 1)).as_signed()
                packed = _pack(m, codes, span)
                name = f"{first}_{part}_{index}"
                product = wire(m, multiply(m, packed, factor, family, name))
                odd = [code[0] & a[0] for code in codes]
                borrow = [product[lane * span] ^ odd[lane] for lane in range(1, len(pes))]
                for lane, _ in enumerate(pes):
                    low = product[lane * span : (lane + 1) * span]
                    top = borrow[lane] if lane < len(borrow) else product[(lane + 1) * span]
                    fields[lane].append(wire(m, Cat(low, top).as_signed()))
                    if lane:
                        borrows[lane].append(wire(m, borrow[lane - 1]))
            for lane, pe in enumerate(pes):
                counted = ones_of_three(m, borrows[lane]) if lane else []
                field = field_range(shape.code_bits, shape.bits)
                trees[pe, part] = [*(Operand(f, *field) for f in fields[lane]), *counted]
    ordered = [trees[key] for key in sorted(trees)]
    sums = add_trees(pipe, stage_rows(pipe, ordered))
    return [_narrow(total.value, shape.word_bits) for total in sums]


def _pack(m: Module, codes: Sequence[Value], span: int) -> Value:
    """Sum of codes, each `span` bits above the one before, in two's complement."""
    below: Value = codes[0]
    parts = []
    for code in codes[1:]:
        sign = below[-1]
        fill = span - len(below)
        parts += [below, sign.replicate(fill)]
        below = wire(m, (code - sign)[: len(code)].as_signed())
    return Cat(*parts, below).as_signed()
