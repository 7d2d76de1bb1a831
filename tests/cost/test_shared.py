"""Expected counts of trees over random selections, against the mean of trees that are drawn."""

from __future__ import annotations

import numpy as np
import pytest

from syq_dse.cost.integers import range_bits
from syq_dse.cost.units import shared
from syq_dse.cost.units.shared import Selections
from syq_dse.cost.units.trees import tree
from syq_dse.scheme import weight_max

DRAWS = 100


def drawn(n: int, operand: tuple[int, int], trees: np.ndarray) -> tuple[int, int, int]:
    """Bits of logic, of adders and of registers of selections, shape (trees, n)."""
    logic = adder = ff = 0
    bits = [range_bits(operand[0] * k, operand[1] * k) for k in range(n + 1)]
    rows = [[i] for i in range(n)]
    while len(rows) > 1:
        odd = [rows[-1]] if len(rows) % 2 else []
        pairs = [(rows[i], rows[i + 1]) for i in range(0, len(rows) - 1, 2)]
        for left, right in pairs:
            for pattern in {tuple(row) for row in trees[:, left + right]}:
                a, b = sum(pattern[: len(left)]), sum(pattern[len(left) :])
                if a and b and bits[a + b] <= 2:
                    logic += 2
                elif a and b:
                    adder += (max if operand[0] < 0 else min)(bits[a], bits[b])
        rows = odd + [left + right for left, right in pairs]
        for places in rows:
            patterns = {tuple(row) for row in trees[:, places]}
            ff += sum(bits[sum(pattern)] for pattern in patterns if any(pattern))
    return logic, adder, ff


@pytest.mark.parametrize("n", [2, 5, 27])
@pytest.mark.parametrize("trees", [1, 6, 48])
@pytest.mark.parametrize("operand", [(0, 1), (0, 15), (-4, 3)])
@pytest.mark.parametrize("share", [1 / 3, 1 / 2])
def test_trees(n: int, trees: int, operand: tuple[int, int], share: float) -> None:
    rng = np.random.default_rng([n, trees])
    counts = [drawn(n, operand, rng.random((trees, n)) < share) for _ in range(DRAWS)]
    found = shared.expected(n, operand, False, Selections(trees=trees, share=share))
    error = 4 * np.std(counts, axis=0) / DRAWS**0.5 + 0.1  # four deviations of the mean
    off = np.abs(np.mean(counts, axis=0) - [found.logic_bits, found.adder_bits, found.ff])
    assert (off <= error).all()


def test_one_tree_of_all_is_a_tree_of_all() -> None:
    """Where all is selected there is nothing to share, and nothing to leave out."""
    for n in (2, 3, 9, 200):
        one = tree(n, (0, 15), "plain")
        found = shared.expected(n, (0, 15), False, Selections(trees=1, share=1.0))
        assert round(found.adder_bits) == one.first + one.adder
        assert (round(found.carry_pairs), round(found.ff)) == (one.pairs, one.ff)
        assert round(found.short_bits) == one.first_short + one.short


@pytest.mark.parametrize("trees", [1, 5, 40])
def test_ternary_differences(trees: int) -> None:
    """Registers of sum(a where w = +1) - sum(a where w = -1), one for each different result."""
    n, rng = 4, np.random.default_rng(trees)
    counts = []
    for _ in range(DRAWS):
        w = {tuple(row) for row in rng.integers(-1, 2, (trees, n))} - {(0,) * n}
        counts.append(sum(range_bits(-15 * row.count(-1), 15 * row.count(1)) for row in w))
    error = 4 * np.std(counts) / DRAWS**0.5 + 0.1
    found = shared.random_ternary_differences(n, (0, 15), trees)
    assert abs(np.mean(counts) - shared.ternary_differences((0, 15), *found).ff) <= error


@pytest.mark.parametrize("codebook", ["binary", "ternary", "int4"])
@pytest.mark.parametrize("activation", [(0, 1), (0, 15), (-8, 7)])
@pytest.mark.parametrize(("pes", "n"), [(3, 4), (8, 9), (4, 27), (1, 64)])
def test_known_codes_are_the_expected_ones_in_the_mean(
    codebook: str, activation: tuple[int, int], pes: int, n: int
) -> None:
    """What is counted for codes that are known, against the mean over all codes."""
    rng = np.random.default_rng([pes, n])
    most, ones = weight_max(codebook), activation == (0, 1)
    counts = []
    for _ in range(DRAWS):
        codes = rng.integers(-most, most + 1, (pes, n))
        if codebook == "binary":
            codes = rng.integers(0, 2, (pes, n)) * 2 - 1
        counts.append(shared.known_sums(codes, codebook, activation, ones))
    found = np.array(shared._constant_sums(n, codebook, activation, ones, pes))
    error = 4 * np.std(counts, axis=0) / DRAWS**0.5 + 0.1
    # the mean of joined planes, and of the codes' sums past 64 operands, is approximate
    error += (0.06 if codebook == "int4" else 0.03) * found.sum()
    assert (np.abs(np.mean(counts, axis=0) - found) <= error).all()


def test_known_codes_all_different_registers() -> None:
    """Two PEs of the same codes are one."""
    codes = np.random.default_rng(0).integers(-1, 2, (4, 12))
    twice = np.concatenate([codes, codes[::-1]])
    for codebook in ("ternary", "int3"):
        once = shared.known_sums(codes, codebook, (0, 7), False)
        assert shared.known_sums(twice, codebook, (0, 7), False) == once
