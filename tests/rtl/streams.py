"""A driver for units in Amaranth's simulator: words in at random gaps, out with back-pressure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from amaranth.sim import Simulator

from syq_dse.rtl.stream import Unit


def run(
    unit: Unit,
    words: Mapping[str, Sequence[int]] | Sequence[int],
    count: int,
    seed: int = 0,
    s_rate: float = 1.0,
    m_rate: float = 1.0,
    quiet: int = 0,
) -> tuple[list[int], int]:
    """The first `count` words that a unit writes, and the cycles up to and with the last one.

    Args:
        words: what each input stream, by its prefix, brings; a list is for stream "s".
        s_rate, m_rate: probability that a producer, the consumer, is ready in a cycle; 1: always.
        quiet: cycles after the last word in which no further word may come.
    """
    outputs, taken = trace(unit, words, count, seed, s_rate, m_rate, quiet)
    return outputs, (taken[-1] + 1 if taken else 0)


def trace(
    unit: Unit,
    words: Mapping[str, Sequence[int]] | Sequence[int],
    count: int,
    seed: int = 0,
    s_rate: float = 1.0,
    m_rate: float = 1.0,
    quiet: int = 0,
    stall: int = 0,
) -> tuple[list[int], list[int]]:
    """As `run`, but with the cycle, from 0, in which each word was taken.

    None is taken in the first `stall` cycles. In every cycle it is checked that m_valid does not
    follow m_ready, and that it stays with m_data until taken.
    """
    inputs = words if isinstance(words, Mapping) else {"s": words}
    total = sum(map(len, inputs.values())) + count
    limit = 2000 + stall + int(20 * total / min(s_rate, m_rate))
    outputs: list[int] = []
    taken: list[int] = []

    async def bench(ctx: Any) -> None:
        rng = random.Random(seed)
        sent = dict.fromkeys(inputs, 0)
        offered = dict.fromkeys(inputs, False)
        held: int | None = None  # the word that waits to be taken
        cycle = silence = 0
        while len(outputs) < count or silence < quiet:
            assert cycle < limit, f"{len(outputs)} of {count} words after {cycle} cycles, {sent}"
            for prefix, queue in inputs.items():
                if not offered[prefix] and sent[prefix] < len(queue):
                    offered[prefix] = s_rate >= 1 or rng.random() < s_rate
                    if offered[prefix]:
                        ctx.set(getattr(unit, f"{prefix}_data"), queue[sent[prefix]])
                ctx.set(getattr(unit, f"{prefix}_valid"), offered[prefix])
            valid = ctx.get(unit.m_valid)
            ready = cycle >= stall and (m_rate >= 1 or rng.random() < m_rate)
            ctx.set(unit.m_ready, ready)
            assert valid == ctx.get(unit.m_valid), "m_valid follows m_ready in the same cycle"
            data = ctx.get(unit.m_data) if valid else None
            assert held is None or data == held, f"a word changed while it waited: {held}, {data}"
            held = None if ready else data
            if len(outputs) == count:
                assert not valid, f"a word more than {count}: {data}"
                silence += 1
            elif valid and ready:
                outputs.append(data)
                taken.append(cycle)
            for prefix in inputs:
                if offered[prefix] and ctx.get(getattr(unit, f"{prefix}_ready")):
                    sent[prefix] += 1
                    offered[prefix] = False
            await ctx.tick()
            cycle += 1

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return outputs, taken


def pack(codes: Sequence[int], width: int) -> int:
    """Codes, lane 0 first and each `width` bits, signed or not, as a word."""
    mask = (1 << width) - 1
    return sum((code & mask) << (width * lane) for lane, code in enumerate(codes))


def unpack(word: int, width: int, lanes: int, signed: bool = False) -> list[int]:
    """The codes of a word, lane 0 first."""
    codes = [word >> (width * lane) & ((1 << width) - 1) for lane in range(lanes)]
    return [c - (c >> (width - 1) << width) if signed else c for c in codes]
