"""The stream interface that every unit has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from amaranth import Mux, Signal
from amaranth.hdl import Value
from amaranth.lib.wiring import Component, In, Out


class Unit(Component):
    """A unit with an input stream `s_*`, an output stream `m_*`, and more ports if named.

    A word passes when valid and ready are both high. Whoever sets valid keeps it and the data until
    the word has passed. Words are unsigned or two's complement, lane 0 in the low bits.

    Args:
        s_width: bits of the input's words; 0 for a source.
        m_width: bits of the output's words.
        more: further input streams, by prefix, with the bits of their words.
    """

    # a unit is built to be priced, too: that nobody elaborates it is no mistake
    _MustUse__silence = True

    def __init__(self, s_width: int, m_width: int, more: dict[str, int] | None = None) -> None:
        ports: dict[str, Any] = {}
        inputs = ({"s": s_width} if s_width else {}) | (more or {})
        for prefix, width in inputs.items():
            ports |= {
                f"{prefix}_valid": In(1),
                f"{prefix}_ready": Out(1),
                f"{prefix}_data": In(width),
            }
        ports |= {"m_valid": Out(1), "m_ready": In(1), "m_data": Out(m_width)}
        super().__init__(ports)


def lanes(word: Value, width: int) -> list[Value]:
    """The lanes of a word, lane 0 first, each `width` bits."""
    assert len(word) % width == 0
    return [word[i : i + width] for i in range(0, len(word), width)]


def register(width: int, name: str, init: int = 0) -> Signal:
    """A register for data: valid bits say when it means something, so that it needs no reset."""
    return Signal(width, name=name, init=init, reset_less=True)


def mux_lanes(select: Value, words: Sequence[Value]) -> Value:
    """words[select]: a multiplexer as a binary tree; a select past the last word is undefined."""
    assert words
    layer = list(words)
    for bit in range((len(words) - 1).bit_length()):
        pairs = [layer[i : i + 2] for i in range(0, len(layer), 2)]
        layer = [_mux(select[bit], pair) for pair in pairs]
    return layer[0]


def _mux(select: Value, pair: Sequence[Value]) -> Value:
    return pair[0] if len(pair) == 1 else Mux(select, pair[1], pair[0])
