"""Tables of thresholds in silicon: what sorted words share that random ones do not."""

from __future__ import annotations

from functools import cache

import numpy as np

from syq_dse.cost.integers import Ints

DRAWN_WORDS = 1024
"""Words of a table up to which it is drawn; of a larger one so many stand for all."""

SPREAD = 1 / 4
"""Standard deviation of a channel's sums, by the range that its thresholds have."""

CENTRE = 1.0
"""Standard deviations by which the middles of channels differ, themselves a deviation."""

ADDRESS_BITS = {0x55: 2, 0x33: 4, 0x0F: 6}
"""Octets that are an address bit, by the one of both polarities that has its top bit clear."""

FIRST = 10
"""Literal of the first octet; a literal is twice a node's number, and one more where inverted."""


@cache
def drawn(bits: int, level: int | None, width: int, depth: int) -> tuple[float, float]:
    """Octets that are made, and selections among them, of a table of thresholds.

    As `parts`, of one table with `words`; see there.
    """
    size = min(depth, DRAWN_WORDS)
    rng = np.random.default_rng([bits, width, size])
    octets, selections = parts(words(bits, level, width, size, rng), width)
    return float(octets), selections * depth / size


def words(bits: int, level: int | None, width: int, depth: int, rng: np.random.Generator) -> Ints:
    """A table with thresholds as networks have them, shape (depth,).

    Those of a channel are at about even steps over two standard deviations to both sides, in the
    order of the search.

    Args:
        bits: of a code; a channel has 2**bits - 1 thresholds.
        level: of the search whose words the table holds; None: all, and one word more.
        width: bits of a word that are no copies of its sign.
    """
    of_channel = (1 << bits if bits > 1 else 1) if level is None else 1 << level
    channels = -(-depth // of_channel)
    count = (1 << bits) - 1
    steps = np.arange(count) - (count - 1) / 2 + rng.uniform(-0.5, 0.5, (channels, count))
    deviation = 2.0 ** (width - 1) * SPREAD
    places = deviation * (CENTRE * rng.normal(size=(channels, 1)) + steps * (4 / (count + 1)))
    half = 1 << width - 1
    sorted_of = np.sort(np.clip(np.rint(places), 1 - half, half - 1), axis=1).astype(np.int64)
    if level is not None:
        held = sorted_of[:, _nodes(bits, level)]
    else:
        held = sorted_of[:, tree_nodes(bits)]
        if bits > 1:
            held = np.concatenate([~held[:, :1], held], axis=1)
    found: Ints = held.reshape(-1)[:depth] & (1 << width) - 1
    return found


def tree_nodes(bits: int) -> Ints:
    """The threshold, by its place in ascending order, of each node of the search but the first, 0.

    >>> tree_nodes(3).tolist()
    [3, 1, 5, 0, 2, 4, 6]
    """
    return np.concatenate([_nodes(bits, level) for level in range(bits)])


def _nodes(bits: int, level: int) -> Ints:
    """The threshold, by its place in ascending order, of each node of a level of the search."""
    return (2 * np.arange(1 << level) + 1) * (1 << bits - 1 - level) - 1


def parts(words: Ints, width: int) -> tuple[int, int]:
    """Different octets of a table's columns, and different selections that join them.

    One and its inverse count once; constants and address bits are no octets; what selects between
    two that are equal is none. Words that a last octet lacks repeat the last word.

    Args:
        words: shape (depth,), of `width` bits each.

    >>> parts(np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 1, 1, 0]), 1)  # and its inverse
    (1, 1)
    """
    groups = -(-len(words) // 8)
    filled = np.concatenate([words, np.repeat(words[-1:], groups * 8 - len(words))])
    bits = (filled[:, None] >> np.arange(width) & 1).astype(np.uint8).reshape(groups, 8, width)
    columns = np.packbits(bits, axis=1, bitorder="little")[:, 0].astype(np.int64)
    inverted = columns >> 7
    function = np.where(inverted == 1, columns ^ 0xFF, columns)
    literal = np.where(function == 0, 0, -1)
    for of, node in ADDRESS_BITS.items():
        literal[function == of] = node
    made, place = np.unique(function[literal < 0], return_inverse=True)
    literal[literal < 0] = FIRST + 2 * place
    literal = literal + inverted
    following, selections = FIRST + 2 * len(made), 0
    while len(literal) > 1:
        rest = literal[len(literal) // 2 * 2 :]
        low, high = literal[: len(literal) // 2 * 2 : 2], literal[1::2]
        turned = low & 1
        low, high = low ^ turned, high ^ turned
        apart = low != high
        found, place = np.unique(low[apart] << 32 | high[apart], return_inverse=True)
        joined = low | turned
        joined[apart] = (following + 2 * place) | turned[apart]
        selections += len(found)
        following += 2 * len(found)
        literal = np.concatenate([joined, rest])
    return len(made), selections
