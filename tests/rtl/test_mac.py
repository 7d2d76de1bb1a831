"""The mac unit against plain sums of products."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost.integers import code_range
from syq_dse.cost.units.mac import MacShape, lanes_per_dsp, sum_bits, uses_dsp
from syq_dse.rtl.mac import Mac
from syq_dse.scheme import WEIGHTS, weight_max
from syq_dse.target import load_family

from .streams import pack, run, trace, unpack


def shape_of(
    codebook: str,
    bits: int,
    signed: bool,
    groups: int,
    pes: int,
    terms: int,
    sums: int,
    steps: int,
    family: str | None,
    constant: bool = False,
) -> MacShape:
    multiplier = load_family(family).multiplier if family else (27, 18)
    dsp = family is not None and uses_dsp(codebook, "dsp")
    return MacShape(
        codebook=codebook,
        bits=bits,
        signed=signed,
        groups=groups,
        pe=groups * pes,
        simd=terms * sums,
        sums=sums,
        steps=steps,
        out_bits=sum_bits(terms * steps, codebook, bits, signed),
        dsp_lanes=lanes_per_dsp(multiplier, codebook, bits) if dsp else 0,
        constant=constant,
    )


def codebook_of(weights: str) -> list[int]:
    most = weight_max(weights)
    return [-1, 1] if weights == "binary" else list(range(-most, most + 1))


def packed(shape: MacShape, codes: np.ndarray) -> int:
    """Codes as a word of the unit's."""
    stored = (codes > 0).astype(int) if shape.codebook == "binary" else codes
    return pack(stored.ravel().tolist(), shape.code_bits)


@settings(max_examples=40, deadline=None)
@given(
    codebook=st.sampled_from(WEIGHTS),
    bits=st.integers(1, 8),
    signed=st.booleans(),
    groups=st.integers(1, 2),
    pes=st.integers(1, 5),
    terms=st.integers(1, 10),
    sums=st.integers(1, 3),
    steps=st.integers(1, 4),
    family=st.sampled_from([None, "xcup", "ecp5"]),
    seed=st.integers(0, 2**16),
    rates=st.sampled_from([(1.0, 1.0), (0.5, 1.0), (1.0, 0.4), (0.6, 0.6)]),
)
def test_sums_of_products(
    codebook, bits, signed, groups, pes, terms, sums, steps, family, seed, rates
) -> None:
    shape = shape_of(codebook, bits, signed, groups, pes, terms, sums, steps, family)
    rng = random.Random(seed)
    low, high = code_range(bits, signed)
    extreme = rng.random() < 0.3
    codes = codebook_of(codebook)
    codes = [codes[0], codes[-1]] if extreme else codes
    values = [low, high] if extreme else list(range(low, high + 1))
    outputs = 3
    a_words, w_words, expected = [], [], []
    for _ in range(outputs):
        total = np.zeros((shape.pe, sums), dtype=np.int64)
        for _ in range(steps):
            a = np.array(rng.choices(values, k=groups * shape.simd)).reshape(groups, sums, terms)
            w = np.array(rng.choices(codes, k=shape.pe * shape.simd)).reshape(-1, sums, terms)
            total += (np.repeat(a, pes, axis=0) * w).sum(axis=2)
            a_words.append(pack(a.ravel().tolist(), bits))
            w_words.append(packed(shape, w))
        expected.append(total.ravel().tolist())
    unit = Mac(shape, load_family(family or "xcup"))
    found, _ = run(unit, {"s": a_words, "w": w_words}, outputs, seed, *rates)
    width = shape.out_bits
    assert [unpack(word, width, shape.pe * sums, signed=True) for word in found] == expected


@pytest.mark.parametrize("steps", [1, 4])
def test_a_word_a_cycle(steps: int) -> None:
    shape = shape_of("ternary", 3, False, 1, 2, 8, 1, steps, None)
    unit = Mac(shape, load_family("xcup"))
    words = 12 * steps
    _, taken = trace(unit, {"s": [0] * words, "w": [0] * words}, 12)
    assert {b - a for a, b in itertools.pairwise(taken)} == {steps}


@settings(max_examples=60, deadline=None)
@given(
    codebook=st.sampled_from(WEIGHTS),
    bits=st.integers(1, 8),
    signed=st.booleans(),
    groups=st.integers(1, 2),
    pes=st.integers(1, 6),
    terms=st.integers(1, 13),
    sums=st.integers(1, 3),
    family=st.sampled_from([None, "xcup", "ecp5"]),
    seed=st.integers(0, 2**16),
    rates=st.sampled_from([(1.0, 1.0), (0.6, 0.6)]),
)
def test_constant_codes(
    codebook, bits, signed, groups, pes, terms, sums, family, seed, rates
) -> None:
    """The codes are in the logic: the unit has no stream of them."""
    shape = shape_of(codebook, bits, signed, groups, pes, terms, sums, 1, family, constant=True)
    rng = np.random.default_rng(seed)
    low, high = code_range(bits, signed)
    codes = np.array(codebook_of(codebook))
    w = codes[np.minimum(rng.integers(0, len(codes), (shape.pe, sums, terms)), seed % 9)]
    a = rng.integers(low, high + 1, (4, groups, sums, terms))
    unit = Mac(shape, load_family(family or "xcup"), packed(shape, w))
    assert not hasattr(unit, "w_data")
    found, _ = run(unit, {"s": [pack(x.ravel().tolist(), bits) for x in a]}, len(a), seed, *rates)
    expected = (np.repeat(a, pes, axis=1) * w).sum(axis=3).reshape(len(a), -1)
    shown = [unpack(word, shape.out_bits, shape.pe * sums, signed=True) for word in found]
    assert shown == expected.tolist()
