"""The adder against its formula in Python's integers."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost.integers import code_range
from syq_dse.rtl.add import Adder

from .streams import pack, run, unpack

BITS = st.integers(1, 8)


@st.composite
def adders(draw: st.DrawFn) -> dict[str, Any]:
    """Parameters of an adder; where both operands are shifted left, its codes end in zeros."""
    offset, common = draw(st.integers(0, 4)), draw(st.integers(0, 2))
    shifts = draw(st.permutations([common, common + offset]))
    return {
        "bits": (draw(BITS), draw(BITS)),
        "signed": (draw(st.booleans()), draw(st.booleans())),
        "shifts": tuple(shifts),
        "out_bits": draw(BITS),
        "out_signed": draw(st.booleans()),
        "shift": max(0, common + draw(st.integers(-2, 10))),
        "lanes": draw(st.integers(1, 3)),
    }


def expected(p: dict[str, Any], a: int, b: int) -> int:
    half = 1 << (p["shift"] - 1) if p["shift"] else 0
    y = (a << p["shifts"][0]) + (b << p["shifts"][1]) + half >> p["shift"]
    low, high = code_range(p["out_bits"], p["out_signed"])
    return min(max(y, low), high)


def codes(rng: random.Random, bits: int, signed: bool, count: int) -> list[int]:
    low, high = code_range(bits, signed)
    return [rng.choice([low, high, rng.randint(low, high)]) for _ in range(count)]


@settings(max_examples=60, deadline=None)
@given(adders(), st.integers(0, 99), st.sampled_from([(1.0, 1.0), (0.5, 1.0), (0.7, 0.4)]))
def test_sums(p: dict[str, Any], seed: int, rates: tuple[float, float]) -> None:
    rng = random.Random(seed)
    lanes, words = p["lanes"], 40
    a, b = (codes(rng, n, s, lanes * words) for n, s in zip(p["bits"], p["signed"], strict=True))
    inputs = {
        name: [pack(x[i : i + lanes], n) for i in range(0, len(x), lanes)]
        for name, x, n in zip("st", (a, b), p["bits"], strict=True)
    }
    out, cycles = run(Adder(**p), inputs, words, seed, *rates, quiet=3)
    found = [c for word in out for c in unpack(word, p["out_bits"], lanes, p["out_signed"])]
    assert found == [expected(p, x, y) for x, y in zip(a, b, strict=True)]
    if rates == (1.0, 1.0):
        assert cycles == words + 1
