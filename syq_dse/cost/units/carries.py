"""Sums where cells hold two bits of a carry chain: pairs of bits, or LUTs where they are short."""

from __future__ import annotations

from typing import Any

import numpy as np

from syq_dse.cost.integers import Ints, cdiv, ints

SHORT = 4
"""Bits of a sum that is no carry chain where cells hold two bits of one."""


def carry_pairs(bits: Any) -> Ints:
    """Pairs of bits of the carry chains of sums of so many bits; any shape.

    >>> carry_pairs([4, 5, 6]).tolist()
    [0, 3, 3]
    """
    bits = ints(bits)
    found: Ints = np.where(bits > SHORT, cdiv(bits, 2), 0)
    return found


def short_bits(bits: Any) -> Ints:
    """Bits of those sums that are too short for one.

    >>> short_bits([4, 5, 6]).tolist()
    [4, 0, 0]
    """
    bits = ints(bits)
    return np.where(bits > SHORT, 0, bits)
