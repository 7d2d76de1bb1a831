"""Octets and selections of tables against a count word by word."""

from __future__ import annotations

import numpy as np
import pytest

from syq_dse.cost.integers import Ints
from syq_dse.cost.search_tables import drawn, parts, words


def counted(table: list[int], width: int) -> tuple[int, int]:
    """The same by truth tables: subtables of aligned words, one and its inverse being one."""
    octets: set[tuple[int, ...]] = set()
    joined: set[tuple[int, ...]] = set()
    address = [tuple(word >> bit & 1 for word in range(8)) for bit in range(3)]

    def plain(column: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(bit ^ column[-1] for bit in column)

    for place in range(width):
        column = [word >> place & 1 for word in table]
        size = 8
        while size // 2 < len(column):
            for start in range(0, len(column), size):
                part = tuple(column[start : start + size])
                if size == 8:
                    part += part[-1:] * (8 - len(part))
                    if len(set(part)) > 1 and plain(part) not in [plain(a) for a in address]:
                        octets.add(plain(part))
                elif len(part) == size and part[: size // 2] != part[size // 2 :]:
                    joined.add(plain(part))
            size *= 2
    return len(octets), len(joined)


@pytest.mark.parametrize("depth", [8, 16, 64, 256])
@pytest.mark.parametrize("width", [1, 3, 8])
def test_parts_are_counted_word_by_word(depth: int, width: int) -> None:
    rng = np.random.default_rng([depth, width])
    table = rng.integers(0, 2**width, depth)
    assert parts(table, width) == counted(table.tolist(), width)
    for bits in (1, 3, 6):
        of_search = words(bits, None, max(2, width), depth, rng)
        assert parts(of_search, max(2, width)) == counted(of_search.tolist(), max(2, width))


def test_what_is_constant_or_an_address_bit_costs_nothing() -> None:
    assert parts(np.full(64, 5), 3) == (0, 0)
    assert parts(np.arange(8), 3) == (0, 0)
    assert parts(7 - np.arange(8), 3) == (0, 0)


def ascending(table: Ints, width: int) -> list[int]:
    return [int(word) - (1 << width) * (int(word) >> (width - 1)) for word in table]


def test_a_search_finds_its_thresholds_in_order() -> None:
    table = ascending(words(3, None, 10, 16, np.random.default_rng(0)), 10)
    for channel in (table[:8], table[8:]):
        assert channel[0] == ~channel[1]  # the node that there is not
        for node in range(1, 4):
            assert channel[2 * node] <= channel[node] <= channel[2 * node + 1]
    level = ascending(words(3, 2, 10, 8, np.random.default_rng(0)), 10)
    assert level[:4] == sorted(level[:4])


def test_sorted_tables_need_less_than_random_ones_and_larger_ones_more() -> None:
    rng = np.random.default_rng(1)
    for bits in (2, 5, 8):
        octets, selections = drawn(bits, None, 12, 512)
        of_random = parts(rng.integers(0, 2**12, 512), 12)
        assert selections < of_random[1]
        assert octets <= of_random[0]
        assert drawn(bits, None, 12, 4096)[1] > 3 * selections
