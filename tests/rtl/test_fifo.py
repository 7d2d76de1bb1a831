"""Queues and converters hand on what came in, in order and without a gap."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.rtl.fifo import Converter, Fifo
from syq_dse.target import load_family

from .streams import pack, run, trace, unpack

RATES = st.sampled_from([(1.0, 1.0), (1.0, 0.5), (0.5, 1.0), (0.6, 0.6), (1.0, 0.1)])
FAMILY = load_family("xcup")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 9), RATES, st.integers(0, 99))
def test_a_queue_keeps_the_order(
    words: int, width: int, rates: tuple[float, float], seed: int
) -> None:
    rng = random.Random(seed)
    sent = [rng.getrandbits(width) for _ in range(4 * words + 60)]
    unit = Fifo(width, words, style="distributed", family=FAMILY)
    out, cycles = run(unit, sent, len(sent), seed, *rates, quiet=3)
    assert out == sent
    if rates == (1.0, 1.0):
        assert cycles == len(sent) + (1 if words <= 2 else 2)


@pytest.mark.parametrize("words", [1, 2, 3, 4, 5, 8, 9, 17])
def test_a_queue_holds_its_words(words: int) -> None:
    """Without a reader as many words go in; ready does not follow a reader in the same cycle."""
    unit = Fifo(8, words, style="distributed", family=FAMILY)
    entered = []

    async def bench(ctx: Any) -> None:
        ctx.set(unit.s_valid, 1)
        for _ in range(2 * words + 8):
            entered.append(ctx.get(unit.s_ready))
            await ctx.tick()
        ctx.set(unit.m_ready, 1)
        assert not ctx.get(unit.s_ready)

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert max(words, 2) == sum(entered)


@pytest.mark.parametrize("words", [2, 3, 4, 5, 9])
def test_a_full_queue_empties_without_a_gap(words: int) -> None:
    sent = list(range(3 * words + 9))
    unit = Fifo(8, words, style="distributed", family=FAMILY)
    _, taken = trace(unit, sent, len(sent), stall=words + 5)
    assert taken == list(range(words + 5, words + 5 + len(sent)))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 5),
    st.integers(1, 12),
    st.integers(1, 12),
    st.integers(1, 4),
    RATES,
    st.integers(0, 99),
)
def test_a_converter_keeps_the_order(
    bits: int, source: int, sink: int, factor: int, rates: tuple[float, float], seed: int
) -> None:
    source, sink = source * factor, sink * (factor if seed % 2 else 1)
    if source == sink:
        sink += 1
    rng = random.Random(seed)
    words = 6 * sink  # a whole number of words on both sides
    codes = [rng.getrandbits(bits) for _ in range(words * source)]
    inputs = [pack(codes[i : i + source], bits) for i in range(0, len(codes), source)]
    count = len(codes) // sink
    out, cycles = run(Converter(bits, source, sink), inputs, count, seed, *rates, quiet=3)
    assert [code for word in out for code in unpack(word, bits, sink)] == codes
    if rates == (1.0, 1.0):
        divides = source % sink == 0 or sink % source == 0
        assert cycles <= max(words, count) + (0 if divides else 1 + -(-sink // source))
