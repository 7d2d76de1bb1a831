"""`scale` against the sum of products that it stands for, at any rate and under back-pressure."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.rtl.scale import Scale
from syq_dse.target import load_family

from .streams import pack, run, unpack

XCUP = load_family("xcup")
RATES = st.sampled_from([1.0, 0.6, 0.3])
SHAPES = st.sampled_from([(3, 1), (3, 3), (9, 1), (9, 3), (9, 9), (4, 2), (25, 5)])


def unit_of(
    shape: tuple[int, int],
    partial: int,
    pe: int,
    scale: str,
    dsp: bool,
    period: int,
    mantissas: list[int],
) -> Scale:
    entries, at_once = shape
    return Scale(
        partial=partial,
        total=partial + 8 + entries.bit_length(),
        entries=entries,
        at_once=at_once,
        pe=pe,
        mantissas=mantissas,
        scale=scale,
        dsp=dsp,
        period=period,
        style="distributed",
        family=XCUP,
    )


@settings(max_examples=25, deadline=None)
@given(
    shape=SHAPES,
    partial=st.integers(2, 16),
    pe=st.sampled_from([1, 2, 3, 4, 6]),
    scale=st.sampled_from(["fixed8", "shift"]),
    dsp=st.booleans(),
    period=st.integers(1, 7),
    rates=st.tuples(RATES, RATES),
    seed=st.integers(0, 10**6),
)
def test_scaled_sums(
    shape: tuple[int, int],
    partial: int,
    pe: int,
    scale: str,
    dsp: bool,
    period: int,
    rates: tuple[float, float],
    seed: int,
) -> None:
    rng = random.Random(seed)
    entries, at_once = shape
    low, high = (0, 7) if scale == "shift" else (-128, 127)
    mantissas = [rng.choice([rng.randint(low, high), low, high]) for _ in range(entries)]
    factors = [2**m for m in mantissas] if scale == "shift" else mantissas
    unit = unit_of(shape, partial, pe, scale, dsp, period, mantissas)
    words, want = [], []
    for _ in range(5):
        lowest = -(1 << partial - 1)
        sums = [
            [rng.choice([rng.randint(lowest, ~lowest), lowest, ~lowest]) for _ in range(entries)]
            for _ in range(pe)
        ]
        want.append([sum(f * s for f, s in zip(factors, of, strict=True)) for of in sums])
        for first in range(0, entries, at_once):
            words.append(pack([s for of in sums for s in of[first : first + at_once]], partial))
    got, _ = run(unit, words, len(want), seed, *rates, quiet=12)
    assert [unpack(word, unit.total, pe, signed=True) for word in got] == want


@pytest.mark.parametrize(("pe", "period"), [(4, 1), (4, 2), (4, 3), (4, 4), (6, 20), (1, 5)])
@pytest.mark.parametrize("shape", [(9, 1), (9, 3), (9, 9)])
def test_a_word_every_period(pe: int, period: int, shape: tuple[int, int]) -> None:
    rng = random.Random(0)
    entries, at_once = shape
    unit = unit_of(shape, 6, pe, "fixed8", True, period, [3] * entries)
    count = 8
    words = [rng.getrandbits(6 * pe * at_once) for _ in range(count * entries // at_once)]
    _, cycles = run(unit, words, count)
    assert cycles <= period * len(words) + 3
