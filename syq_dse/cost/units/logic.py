"""How many signals decide each bit of control logic: what its LUTs depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from syq_dse.cost.integers import Ints

Small = npt.NDArray[np.int8]


def priority_inputs(options: Sequence[Ints], active: Sequence[Any], bits: Ints) -> Small:
    """Signals that decide each bit of a constant: the option of the first flag that is low.

    Args:
        options: one more than there are flags, the last if all are high; modulo 2**bits.
        active: whether each flag is a signal, and not always high.

    Returns:
        shape (bits, ...): 0 where the bit is constant, and above `bits`.

    >>> one, two = np.array([1]), np.array([2])
    >>> priority_inputs([one, two, two], [True, True], np.array([2])).ravel().tolist()
    [1, 1]
    """
    below = _below(bits)
    *others, last = (_bits(option, len(below)) for option in options)
    count = np.zeros(below.shape, np.int8)
    for option, flag in zip(reversed(others), reversed(active), strict=True):
        count += ((count > 0) | (option != last)) & flag
    count *= below
    return count


def level_inputs(changes: Sequence[Sequence[Ints]], bits: Ints) -> Small:
    """Signals that decide each bit of what is added to a level, as `priority_inputs`.

    Args:
        changes: where nothing is freed, a pixel, a row, an image; each where nothing is written,
            a word, a row's last, an image's last.
    """
    below = _below(bits)
    values = np.stack([np.stack(np.broadcast_arrays(*of)) for of in changes])
    every = _bits(values, len(below)).swapaxes(0, 1).swapaxes(1, 2)  # (moves, words, bits, ...)

    def differ(*ways: tuple[int, int]) -> Small:
        """Where two kinds of word differ in what they add."""
        found = np.any([every[:, a] != every[:, b] for a, b in ways], axis=(0, 1))
        return np.asarray(found, np.int8)

    def apart(*ways: tuple[int, int]) -> Small:
        """Where two moves differ in what they take."""
        found = np.any([every[a] != every[b] for a, b in ways], axis=(0, 1))
        return np.asarray(found, np.int8)

    count = (
        differ((0, 1), (0, 2), (0, 3))  # whether anything is written
        + differ((1, 2), (1, 3))
        + differ((2, 3))
        + apart((0, 1), (0, 2), (0, 3))
        + apart((1, 2), (1, 3))
        + apart((2, 3))
    )
    count *= below
    return count


def _bits(value: Ints, places: int) -> npt.NDArray[np.bool_]:
    """Shape (places, ...)"""
    masks = (1 << np.arange(places)).reshape(-1, *[1] * np.ndim(value))
    found: npt.NDArray[np.bool_] = (np.asarray(value)[None] & masks) != 0
    return found


def _below(bits: Ints) -> npt.NDArray[np.bool_]:
    places = int(np.max(bits))
    found: npt.NDArray[np.bool_] = np.arange(places).reshape(-1, *[1] * np.ndim(bits)) < np.asarray(
        bits
    )
    return found
