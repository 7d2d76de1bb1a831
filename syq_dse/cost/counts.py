"""What a hardware unit is made of, before anything has a price."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from syq_dse.cost.integers import Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Banks of depth x width bits, each with one write and one read port."""

    width: Any  # bits; an array, as depth and banks
    depth: Any
    banks: Any = 1
    constant: bool = False  # never written: a table in LUTs, or loaded with the bitstream
    registered: bool = True  # the read port has a register; a block memory always has
    rare: float = 0.5  # of a constant's columns: the share of the rarer bit
    alike: Any = 0  # of a constant's columns: those that repeat another
    different: Any = None  # of known constants: columns of all banks that repeat no other
    search: tuple[int, int | None] | None = None  # of thresholds: bits of a code, level or all
    parts: tuple[int, int] | None = None  # of known thresholds: octets, selections of all banks
    in_luts: bool = False  # read in the cycle of its address, which only LUTs do


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Exact counts of one unit, for many foldings at once.

    `lut` names what LUTs are spent on; a family's calibration has prices for each name. In silicon
    `lut`, `gates` and flip-flops have prices in gate equivalents; where `gates` are given they
    stand for `lut`; they are counted where they are asked for.
    """

    lut: Mapping[str, Any]  # [bits], by what they do
    ff: Any  # flip-flops
    gates: Callable[[], Mapping[str, Any]] | None = None  # [bits], what LUTs take in unseen
    dsp: Any = 0
    memories: tuple[Memory, ...] = ()
    active: Any = 1.0  # share of its engine's active cycles in which its logic has new words
    dram_bits: Any = 0  # read from DRAM for one image
    work: Mapping[str, Any] = field(default_factory=dict)  # for one image, by name of energy price


def different_columns(words: npt.NDArray[np.int64], width: int) -> int:
    """Columns of a table of constants that are neither constant, nor equal or inverse to another.

    Args:
        words: shape (depth, values a word), of `width` bits each.

    >>> different_columns(np.array([[0b0001], [0b0110], [0b0101]]), 4)  # the lowest, the third
    2
    """
    bits = words[:, :, None] >> np.arange(width) & 1
    columns = bits.reshape(len(words), -1).astype(np.uint8)
    columns = np.packbits(columns ^ columns[0], axis=0)
    return len({column.tobytes() for column in columns.T} - {bytes(len(columns))})


def tree_bits(operands: Ints, width: Ints) -> tuple[Ints, Ints]:
    """Adder bits of a binary tree, and the width of its sum.

    Each level halves the operands and adds one bit; an odd operand passes on.

    >>> import numpy as np
    >>> bits, width = tree_bits(np.array([4]), np.array([4]))  # 2 adders of 5 bits, 1 of 6
    >>> int(bits[0]), int(width[0])
    (16, 6)
    """
    operands, width = operands.copy(), width.copy()
    bits = operands * 0
    while (operands > 1).any():
        active = operands > 1
        width = width + active
        bits = bits + (operands // 2) * width * active
        operands = (operands + 1) // 2
    return bits, width
