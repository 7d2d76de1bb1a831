"""`fifo`: queues between units, and conversions between widths of a stream."""

from __future__ import annotations

from math import gcd

from amaranth import Cat, Module, Mux, Signal
from amaranth.hdl import Value

from syq_dse.cost.units.fifo import SKID_WORDS
from syq_dse.rtl.memory import Memory
from syq_dse.rtl.select import select
from syq_dse.rtl.stream import Unit, lanes, register
from syq_dse.target import Family


class Fifo(Unit):
    """A queue of at least `words` words of `width` bits; s_ready comes out of registers.

    Two words are registers. More are a memory, whose read register is the last of them. A word
    passes in one cycle in the first case, in two in the second.
    """

    def __init__(self, width: int, words: int, *, style: str, family: Family) -> None:
        super().__init__(width, width)
        self.width, self.words, self.style, self.family = width, words, style, family

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.words <= SKID_WORDS:
            self._skid(m)
        else:
            self._queue(m)
        return m

    def _skid(self, m: Module) -> None:
        """One word at the output, and one that came while that word could not leave."""
        first, second = register(self.width, "first"), register(self.width, "second")
        valid, spare = Signal(), Signal()
        m.d.comb += [self.s_ready.eq(~spare), self.m_valid.eq(valid), self.m_data.eq(first)]
        free = Signal()
        m.d.comb += free.eq(~valid | self.m_ready)
        with m.If(free):
            m.d.sync += [first.eq(Mux(spare, second, self.s_data)), spare.eq(0)]
            m.d.sync += valid.eq(spare | self.s_valid)
        with m.Elif(self.s_valid):
            m.d.sync += spare.eq(1)
        with m.If(~spare):
            m.d.sync += second.eq(self.s_data)

    def _queue(self, m: Module) -> None:
        depth = self.words - 1
        memory = m.submodules.memory = Memory(self.width, depth, self.style, self.family)
        head, tail = Signal(range(depth)), Signal(range(depth))
        filled = Signal()  # the last to move was the head: equal pointers mean full
        valid = Signal()
        write, read, same = Signal(), Signal(), Signal()
        m.d.comb += [
            same.eq(head == tail),
            self.s_ready.eq(~(same & filled)),
            write.eq(self.s_valid & self.s_ready),
            read.eq(~(same & ~filled) & (~valid | self.m_ready)),
            memory.w_en.eq(write),
            memory.w_addr.eq(head),
            memory.w_data.eq(self.s_data),
            memory.r_en.eq(read),
            memory.r_addr.eq(tail),
            self.m_valid.eq(valid),
            self.m_data.eq(memory.r_data),
        ]
        _count(m, head, depth, write)
        _count(m, tail, depth, read)
        with m.If(write != read):
            m.d.sync += filled.eq(write)
        with m.If(~valid | self.m_ready):
            m.d.sync += valid.eq(read)


class Converter(Unit):
    """From words of `from_lanes` codes to words of `to_lanes`, in order, without a gap.

    To a multiple: all parts but the last wait in registers. To a part: the input holds the word
    until its last part leaves. Otherwise a ring of as many codes as both widths divide.
    """

    def __init__(self, bits: int, from_lanes: int, to_lanes: int) -> None:
        assert from_lanes != to_lanes, "the same width needs no hardware"
        super().__init__(bits * from_lanes, bits * to_lanes)
        self.bits, self.source, self.sink = bits, from_lanes, to_lanes

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.sink % self.source == 0:
            self._collect(m, self.sink // self.source)
        elif self.source % self.sink == 0:
            self._split(m, self.source // self.sink)
        else:
            self._ring(m)
        return m

    def _collect(self, m: Module, parts: int) -> None:
        count = Signal(range(parts))
        last = Signal()
        held = [register(len(self.s_data), f"part_{i}") for i in range(parts - 1)]
        m.d.comb += [
            last.eq(count == parts - 1),
            self.s_ready.eq(~last | self.m_ready),
            self.m_valid.eq(self.s_valid & last),
            self.m_data.eq(Cat(*held, self.s_data)),
        ]
        passed = self.s_valid & self.s_ready
        _count(m, count, parts, passed)
        with m.If(passed):
            m.d.sync += [a.eq(b) for a, b in zip(held, [*held[1:], self.s_data], strict=True)]

    def _split(self, m: Module, parts: int) -> None:
        count = Signal(range(parts))
        last = Signal()
        m.d.comb += [
            last.eq(count == parts - 1),
            self.s_ready.eq(last & self.m_ready),
            self.m_valid.eq(self.s_valid),
            self.m_data.eq(select(m, count, lanes(self.s_data, len(self.m_data)))),
        ]
        _count(m, count, parts, self.s_valid & self.m_ready)

    def _ring(self, m: Module) -> None:
        unit = gcd(self.source, self.sink)
        a, b = self.source // unit, self.sink // unit  # of a ring of a * b units
        held = [register(len(self.s_data), f"part_{i}") for i in range(b)]
        head, tail, level = Signal(range(b)), Signal(range(a)), Signal(range(a * b + 1))
        write, read = Signal(), Signal()
        m.d.comb += [
            self.s_ready.eq(level <= a * b - a),
            self.m_valid.eq(level >= b),
            write.eq(self.s_valid & self.s_ready),
            read.eq(self.m_valid & self.m_ready),
            self.m_data.eq(select(m, tail, lanes(Cat(*held), len(self.m_data)))),
        ]
        _count(m, head, b, write)
        _count(m, tail, a, read)
        with m.If(write):
            for i, part in enumerate(held):
                with m.If(head == i):
                    m.d.sync += part.eq(self.s_data)
        with m.If(write & read):
            m.d.sync += level.eq(level + a - b)
        with m.Elif(write):
            m.d.sync += level.eq(level + a)
        with m.Elif(read):
            m.d.sync += level.eq(level - b)


def _count(m: Module, counter: Signal, period: int, moves: Value) -> None:
    """Count from 0 to period - 1 and again, when `moves` is high."""
    with m.If(moves):
        m.d.sync += counter.eq(counter + 1)
    if period & (period - 1):  # a reset costs less than a multiplexer
        with m.If(moves & (counter == period - 1)):
            m.d.sync += counter.eq(0)
