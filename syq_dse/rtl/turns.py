"""Lanes of a word that share one piece of hardware, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Cat, Const, Module, Signal
from amaranth.hdl import Value

from syq_dse.rtl.select import select
from syq_dse.rtl.stream import Unit, register


class Turns:
    """Whose turn it is: `lane` of `g`, and `place` of `places` * g, both cyclic.

    Attributes:
        lane: the lane in its share; `last` in the share's last turn.
        place: counts the turns of all words of a cycle.
    """

    def __init__(self, m: Module, step: Value, g: int, places: int) -> None:
        total = g * places
        self.place: Value = count(m, "place", total, step)
        if g & (g - 1) == 0:
            self.lane: Value = self.place[: (g - 1).bit_length()]
        elif places == 1:
            self.lane = self.place
        else:
            self.lane = count(m, "lane", g, step)
        self.last: Value = _is(self.lane, g - 1) if g > 1 else Const(1)


def count(m: Module, name: str, states: int, step: Value) -> Signal:
    """A counter of `states` states that moves on with `step`."""
    counter = Signal(range(states), name=name)
    if states > 1:
        with m.If(step):
            wraps = states & (states - 1) == 0
            following = (counter + 1)[: len(counter)]
            if wraps:
                m.d.sync += counter.eq(following)
            else:
                with m.If(counter == states - 1):
                    m.d.sync += counter.eq(0)
                with m.Else():
                    m.d.sync += counter.eq(following)
    return counter


def _is(counter: Value, value: int) -> Value:
    return counter.all() if value == (1 << len(counter)) - 1 else counter == value


def shares(m: Module, lanes: Sequence[Value], g: int, lane: Value) -> list[Value]:
    """The lane of each share of g lanes whose turn it is."""
    return [
        select(m, lane, lanes[first : first + g], f"share_{first}_")
        for first in range(0, len(lanes), g)
    ]


def collect(m: Module, words: Sequence[Value], g: int, step: Value) -> Value:
    """What of each share the last g steps brought, with this one, as one word, lane 0 low."""
    out: list[Value] = []
    for index, word in enumerate(words):
        kept = [register(len(word), f"kept_{index}_{i}") for i in range(g - 1)]
        if kept:
            with m.If(step):
                m.d.sync += [a.eq(b) for a, b in zip(kept, [*kept[1:], word], strict=True)]
        out += [*kept, word]
    return Cat(*out)


def deliver(unit: Unit, m: Module, word: Value, done: Value) -> None:
    """Put a word into the output register in the cycle of `done`, which `blocked` forbids."""
    valid = Signal(name="m_full")
    data = register(len(word), "m_word")
    with m.If(done):
        m.d.sync += [valid.eq(1), data.eq(word)]
    with m.Elif(unit.m_ready):
        m.d.sync += valid.eq(0)
    m.d.comb += [unit.m_valid.eq(valid), unit.m_data.eq(data)]


def blocked(unit: Unit) -> Value:
    """Whether the output register holds a word that nobody takes in this cycle."""
    return unit.m_valid & ~unit.m_ready
