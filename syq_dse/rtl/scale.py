"""`scale`: partial sums of kernel rows or pixels times their scale, and the sum of those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from amaranth import Cat, Const, Elaboratable, Module, Mux, ResetSignal, Shape, Signal
from amaranth.hdl import Value

from syq_dse.cost.integers import divisors
from syq_dse.cost.units.scale import FAR, MANTISSA_BITS, NEAR, SHIFT_BITS
from syq_dse.rtl import dsp
from syq_dse.rtl.memory import table
from syq_dse.rtl.stream import Unit, lanes, mux_lanes, register
from syq_dse.rtl.turns import Turns, blocked, collect, count, deliver, shares
from syq_dse.target import Family


class Near(Elaboratable):
    """Signed terms shifted left by up to NEAR: four choices and two selectors fill a LUT.

    A module of its own in the netlist: mapped together with other logic it takes twice as much.
    """

    def __init__(self, count: int, width: int) -> None:
        self.terms = [Signal(width, name=f"term_{i}") for i in range(count)]
        self.by = [Signal(2, name=f"by_{i}") for i in range(count)]
        self.shifted = [Signal(width + NEAR, name=f"shifted_{i}") for i in range(count)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for term, by, shifted in zip(self.terms, self.by, self.shifted, strict=True):
            choices = [
                Cat(Const(0, n), term, term[-1].replicate(NEAR - n)) for n in range(NEAR + 1)
            ]
            m.d.comb += shifted.eq(mux_lanes(by, choices))
        return m


@dataclass(frozen=True, slots=True)
class Term:
    """A signed value, times 2**FAR where `far` is set."""

    value: Value
    far: Value | None = None

    @property
    def width(self) -> int:
        return len(self.value) + (0 if self.far is None else FAR)


class FarSums(Elaboratable):
    """Sums of two terms, each times 2**FAR where its `far` is set: the choice merges into an adder.

    A module of its own in the netlist, as Near.
    """

    def __init__(self) -> None:
        self.sums: list[tuple[tuple[Term, Term], bool, Signal]] = []

    def add(self, m: Module, a: Term, b: Term, width: int, inverted: bool) -> Value:
        """a + b; `inverted` as Scale._tree has it."""
        name = str(len(self.sums))
        total = Signal(width, name=f"total_{name}")
        inside = []
        for side, term in (("a", a), ("b", b)):
            value = Signal(len(term.value), name=f"{side}_{name}")
            m.d.comb += value.eq(term.value)
            far = None
            if term.far is not None:
                far = Signal(name=f"{side}_far_{name}")
                m.d.comb += far.eq(term.far)
            inside.append(Term(value, far))
        self.sums.append(((inside[0], inside[1]), inverted, total))
        return total

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for terms, inverted, total in self.sums:
            width = max(term.width for term in terms)
            wide = []
            for side, term in zip("ab", terms, strict=True):
                value = Signal(Shape(width, signed=True), name=f"{side}_wide_{total.name}")
                m.d.comb += value.eq(self._far(term, width))
                wide.append(Signal(len(total), name=f"{side}_{total.name}"))
                m.d.comb += wide[-1].eq(_inverted(value, width) if inverted else value)
            # a - ~b - 1, as a difference keeps its order: only b is chosen in the LUT that adds
            difference = Cat(Const(0, 1), wide[0]) - Cat(Const(1, 1), ~wide[1])
            m.d.comb += total.eq(difference[1 : len(total) + 1])
        return m

    def _far(self, term: Term, width: int) -> Value:
        near = _widened(term.value, width)
        if term.far is None:
            return near
        return Mux(term.far, _widened(Cat(Const(0, FAR), term.value), width), near)


def _widened(value: Value, width: int) -> Value:
    return Cat(value, value[-1].replicate(width - len(value))).as_signed()


def _inverted(value: Value, width: int) -> Value:
    """A signed value of `width` bits with its sign bit inverted, as a number from 0 on."""
    return Cat(value[:-1], value[-1].replicate(width - len(value)), ~value[-1])


class Scale(Unit):
    """total = the sum over the subgroups of mantissa * partial sum.

    Input: pe * at_once partial sums of `partial` bits, signed, PE-major: the subgroups that a PE
    works on at once lie next to each other; entries / at_once words make an output. Output: pe
    totals of `total` bits, signed.

    A multiplier (or shifter) serves as many PEs as keep up, one a cycle, while the word stays at
    the input. Registers: the chosen partial sums and their mantissas, where PEs share; products;
    totals. Their sums go around in a ring, an element for each PE of a share. With all subgroups at
    once the mantissas are constants: nothing but the totals has a register, or products in DSPs.

    Args:
        period: cycles from one word to the next, at the fastest.
        mantissas: one for each subgroup; a `shift` scale is given by its exponent.
        style: of the table of mantissas: it is small, and in LUTs.
    """

    def __init__(
        self,
        *,
        partial: int,
        total: int,
        entries: int,
        at_once: int,
        pe: int,
        mantissas: Sequence[int],
        scale: Literal["fixed8", "shift"],
        dsp: bool,
        period: int,
        style: str,
        family: Family,
    ) -> None:
        super().__init__(pe * at_once * partial, pe * total)
        assert entries % at_once == 0 and len(mantissas) == entries
        assert style == "distributed"
        self.partial, self.total, self.pe, self.family = partial, total, pe, family
        self.at_once, self.words = at_once, entries // at_once
        self.shift = scale == "shift"
        self.dsp = dsp and not self.shift
        self.mantissas = mantissas
        self.g = max(d for d in divisors(pe) if d <= period)
        low, high = (0, 1 << SHIFT_BITS) if self.shift else (-128, 128)
        assert all(low <= m < high for m in mantissas)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        step, taken = Signal(), Signal()
        if self.shift and self.words > 1:
            self.far_sums = m.submodules.mapped_sums = FarSums()
        turns = Turns(m, taken, self.g, 1)
        word = count(m, "word", self.words, taken & turns.last)
        last: Value = turns.last
        if self.words > 1:
            last = last & (word == self.words - 1)
        m.d.comb += [taken.eq(self.s_valid & step), self.s_ready.eq(turns.last & step)]

        width = self.at_once * self.partial
        chosen = shares(m, lanes(self.s_data, width), self.g, turns.lane)
        terms = [part for of in chosen for part in lanes(of, self.partial)]
        factors = self._factors(m, word)
        valid: Value = self.s_valid
        if self.g > 1:
            terms = [self._held(m, step, t, f"partial_{i}") for i, t in enumerate(terms)]
            factors = [self._held(m, step, f, f"factor_{i}") for i, f in enumerate(factors)]
            valid, last = self._passed(m, step, valid, last, "0")
        factors = [factors[i % self.at_once] for i in range(len(terms))]
        products, valid, last = self._products(m, step, terms, factors, valid, last)

        sums = [
            self._tree(m, products[i : i + self.at_once], f"{i}")
            for i in range(0, len(products), self.at_once)
        ]
        done = valid & last
        m.d.comb += step.eq(~(done & blocked(self)))
        if self.words == 1:
            totals = [_widened(s.value, max(s.width, self.total))[: self.total] for s in sums]
            out = collect(m, totals, self.g, step & valid)
        else:
            out = Cat(*(self._ring(m, s, step & valid, last, str(i)) for i, s in enumerate(sums)))
        deliver(self, m, out, step & done)
        return m

    def _factors(self, m: Module, word: Value) -> list[Value]:
        """The mantissas of the subgroups at work: bits, or a constant where it is always one."""
        bits = SHIFT_BITS if self.shift else MANTISSA_BITS
        if self.words == 1:
            shape = Shape(bits, signed=not self.shift)
            return [Const(value, shape) for value in self.mantissas]
        packed = [
            sum(
                (value & ((1 << bits) - 1)) << i * bits
                for i, value in enumerate(self.mantissas[first : first + self.at_once])
            )
            for first in range(0, len(self.mantissas), self.at_once)
        ]
        return lanes(table(m, "mantissas", word, packed, self.at_once * bits), bits)

    def _products(
        self,
        m: Module,
        step: Value,
        terms: list[Value],
        factors: list[Value],
        valid: Value,
        last: Value,
    ) -> tuple[list[Term], Value, Value]:
        """The scaled partial sums, and whether they are valid and the last ones of an output."""
        if self.shift and self.words == 1:
            # in order of the shifts: sums of like ones are the narrowest
            order = sorted(range(self.at_once), key=lambda i: self.mantissas[i])
            shifted = [
                Term(Cat(Const(0, self.mantissas[i]), terms[first + i]))
                for first in range(0, len(terms), self.at_once)
                for i in order
            ]
            return shifted, valid, last
        if self.shift:
            # by 0 to 3 before the register, by 4 in the LUTs that add
            unit = m.submodules.mapped_near = Near(len(terms), self.partial)
            for i, (t, f) in enumerate(zip(terms, factors, strict=True)):
                m.d.comb += [unit.terms[i].eq(t), unit.by[i].eq(f[:2])]
            near = [self._held(m, step, s, f"near_{i}") for i, s in enumerate(unit.shifted)]
            fars = [
                self._held(m, step, f[2], f"far_{i}") for i, f in enumerate(factors[: self.at_once])
            ]
            products = [Term(n, fars[i % self.at_once]) for i, n in enumerate(near)]
            return products, *self._passed(m, step, valid, last, "1")
        operands = list(zip(terms, factors, strict=True))
        if self.dsp:
            multiplied = [
                dsp.multiply(m, term, factor, self.family, str(i))
                for i, (term, factor) in enumerate(operands)
            ]
        else:
            multiplied = dsp.multiply_luts(m, operands, "products")
        multiplied = [product[: self.total] for product in multiplied]
        if self.words == 1 and not self.dsp:
            return [Term(p) for p in multiplied], valid, last
        held = [self._held(m, step, p, f"product_{i}") for i, p in enumerate(multiplied)]
        return [Term(h) for h in held], *self._passed(m, step, valid, last, "1")

    def _held(self, m: Module, step: Value, value: Value, name: str) -> Value:
        """The value, a step later."""
        if isinstance(value, Const):
            return value
        kept = register(len(value), name)
        with m.If(step):
            m.d.sync += kept.eq(value)
        return kept

    def _passed(
        self, m: Module, step: Value, valid: Value, last: Value, name: str
    ) -> tuple[Value, Value]:
        """The two flags, a step later; without a register where every word is the last."""
        passed = Signal(name=f"valid_{name}")
        with m.If(step):
            m.d.sync += passed.eq(valid)
        always = self.words * self.g == 1
        return passed, Const(1) if always else self._held(m, step, last, f"last_{name}")

    def _tree(self, m: Module, terms: Sequence[Term], name: str) -> Term:
        """The sum of the terms, by a binary tree whose levels grow by a bit.

        Levels take turns to add two's complement, and numbers from 0 on with the sign bit inverted:
        Yosys merges a sum that goes as it is into a sum, into twice as much logic. So the last
        level differs from what adds its sum, and the first from what products by constants are.
        """
        level = list(terms)
        depth = (len(level) - 1).bit_length()
        inverted = self.words == 1 or depth % 2 == 1
        while len(level) > 1:
            width = max(term.width for term in level) + 1
            joined: list[Term] = []
            for first in range(0, len(level) - 1, 2):
                pair = f"{name}_{len(level)}_{first}"
                total = self._add(m, level[first], level[first + 1], width, inverted, pair)
                joined.append(Term(_inverted(total, width) if inverted else total))
            level = joined + level[2 * len(joined) :]
            inverted = not inverted
        return level[0]

    def _add(self, m: Module, a: Term, b: Term, width: int, inverted: bool, name: str) -> Value:
        """The sum of two terms, the sign bit inverted where those of both are."""
        if a.far is None and b.far is None:
            total = Signal(width, name=f"sum_{name}")
            both = [
                _inverted(t.value, width - 1) if inverted else t.value.as_signed() for t in (a, b)
            ]
            m.d.comb += total.eq(both[0] + both[1])
            return total
        return self.far_sums.add(m, a, b, width, inverted)

    def _ring(self, m: Module, term: Term, step: Value, last: Value, name: str) -> Value:
        """The totals of a share when its last PE's turn comes: the sums so far, that one added."""
        ring = [register(self.total, f"ring_{name}_{i}") for i in range(self.g)]
        total = self._add(m, Term(ring[0]), term, self.total, False, f"ring_{name}")
        # the next output starts from 0, by the reset of the flip-flops
        with m.If(ResetSignal() | (step & last)):
            m.d.sync += [of.eq(0) for of in ring]
        with m.Elif(step):
            m.d.sync += [a.eq(b) for a, b in zip(ring, [*ring[1:], total], strict=True)]
        return Cat(*ring[1:], total)
