"""`pool`: the maximum or the mean over pixels of a stream."""

from __future__ import annotations

from dataclasses import dataclass

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.integers import cdiv, clog2, code_range, ints, range_bits
from syq_dse.cost.units.add import Clip, Operand, adder_bits
from syq_dse.network import GlobalAvgPool, Node

GAIN_BITS = 16
"""Bits of the factor that turns a sum into a mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Windows along one axis of a stream, `depth` words a position.

    A window that is open has a running result a word. Positions count from the first one of the
    padding; of the padding none comes.
    """

    length: int  # positions that come
    k: int
    stride: int
    pad: int  # before
    windows: int
    depth: int

    @property
    def slots(self) -> int:
        """Windows that are open from one position to the next, at most."""
        return int(cdiv(self.k - 1, self.stride))

    @property
    def overlaps(self) -> bool:
        return self.k > self.stride

    @property
    def regular(self) -> bool:
        """Whether the windows tile the axis, so that nothing happens at its end."""
        tiled = self.pad == 0 and self.length == self.windows * self.stride
        return tiled and not self.overlaps

    @property
    def last(self) -> int:
        """The last position that comes."""
        return self.pad + self.length - 1

    @property
    def end(self) -> int:
        """The last position of the last window."""
        return (self.windows - 1) * self.stride + self.k - 1

    @property
    def late(self) -> int:
        """Windows that end with the last position that comes, or in the padding behind it."""
        return self.windows - max(0, int(cdiv(self.last - self.k + 1, self.stride)))

    @property
    def stop(self) -> int:
        """The position after which the next image begins.

        One late window leaves with the last position. More take the time of the padding.
        """
        return max(self.last, self.end) if self.late > 1 else self.last

    @property
    def shared(self) -> bool:
        """Whether the running result itself is what leaves: one word, one window at a time."""
        return self.depth == 1 and self.slots == 1 and not self.overlaps

    @property
    def counter_bits(self) -> int:
        index = 0 if self.regular else int(clog2(self.stop // self.stride + 1))
        return index + int(clog2(self.stride)) + int(clog2(self.depth))

    @property
    def flag_bits(self) -> int:
        """Registers that say whether a window begins, with no other open and with others."""
        return (self.slots > 0) * (1 + (self.overlaps and self.stride > 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """Windows of both axes that do not overlap, with one running result each.

    The words of a pixel come one after the other, so that no word is changed in two cycles running.
    """

    h: int
    w: int
    k: int
    stride: int
    h_out: int
    w_out: int
    words: int  # of a pixel

    @property
    def slots(self) -> int:
        return 1

    @property
    def overlaps(self) -> bool:
        return False

    @property
    def shared(self) -> bool:
        return False

    @property
    def depth(self) -> int:
        """The word of a pixel is the low part of an address."""
        return (self.w_out - 1 << int(clog2(self.words))) + self.words

    @property
    def rows(self) -> Run:
        return Run(
            length=self.h,
            k=self.k,
            stride=self.stride,
            pad=0,
            windows=self.h_out,
            depth=1,
        )

    @property
    def counter_bits(self) -> int:
        columns = int(clog2((self.w - 1) // self.stride + 1)) + int(clog2(self.stride))
        return int(clog2(self.words)) + columns + self.rows.counter_bits

    @property
    def flag_bits(self) -> int:
        return 1


Step = Run | Tile


def steps(node: Node, lanes: int) -> tuple[Step, ...]:
    """The units in which a pool of words of `lanes` channels is made."""
    shape, out = node.in_shape, node.out_shape
    words = max(1, shape.c // lanes)
    if isinstance(node.layer, GlobalAvgPool):
        return (_whole(shape.pixels, shape.pixels, shape.pixels, 1, words),)
    k, stride, pad = node.k, node.stride, node.pad
    if pad == (0, 0) and k == stride:
        if shape.w == k:  # rows of one window follow each other
            return (_whole(shape.pixels, k * k, k * k, out.h, words),)
        if words > 1 < k:
            return (
                Tile(
                    h=shape.h,
                    w=shape.w,
                    k=k,
                    stride=stride,
                    h_out=out.h,
                    w_out=out.w,
                    words=words,
                ),
            )
    axes = ((shape.w, out.w, words), (shape.h, out.h, words * out.w))
    return tuple(
        Run(length=n, k=k, stride=stride, pad=pad[0], windows=windows, depth=depth)
        for n, windows, depth in axes
    )


def _whole(length: int, k: int, stride: int, windows: int, words: int) -> Run:
    return Run(length=length, k=k, stride=stride, pad=0, windows=windows, depth=words)


def sums(node: Node, parts: tuple[Step, ...]) -> tuple[int, ...]:
    """Pixels in a running sum of each step."""
    if isinstance(node.layer, GlobalAvgPool):
        return (node.in_shape.pixels,)
    return (node.k**2,) if len(parts) == 1 else (node.k, node.k**2)


def sum_width(pixels: int, bits: int, signed: bool) -> int:
    """Bits of a sum of codes."""
    least, most = code_range(bits, signed)
    return range_bits(pixels * least, pixels * most)


@dataclass(frozen=True, slots=True)
class Gain:
    """y = (x * factor + half) >> shift, half = 1 << (shift - 1), or 0 where shift is 0."""

    factor: int
    shift: int

    def reduced(self) -> Gain:
        """The same function of an odd factor, or without a shift."""
        factor, shift = self.factor, self.shift
        while shift > 0 and factor % 2 == 0:
            factor, shift = factor // 2, shift - 1
        return Gain(factor, shift)


def mean_gain(pixels: int, bits: int, out_bits: int) -> Gain:
    """What makes codes of `out_bits` of a sum of codes, to GAIN_BITS bits.

    >>> mean_gain(64, 8, 8), mean_gain(49, 4, 4)
    (Gain(factor=1, shift=6), Gain(factor=42799, shift=21))
    """
    up, down = (1 << out_bits) - 1, pixels * ((1 << bits) - 1)
    shift = 0
    while _rounded(up << shift + 1, down) < 1 << GAIN_BITS:
        shift += 1
    return Gain(_rounded(up << shift, down), shift).reduced()


def _rounded(up: int, down: int) -> int:
    return (2 * up + down) // (2 * down)


def digits(factor: int) -> list[tuple[int, int]]:
    """The canonical signed digits of a positive factor: (position, 1 or -1), lowest first.

    >>> digits(7), digits(10)
    ([(0, -1), (3, 1)], [(1, 1), (3, 1)])
    """
    found, position = [], 0
    while factor:
        if factor & 1:
            digit = 2 - (factor & 3)
            found.append((position, digit))
            factor -= digit
        factor >>= 1
        position += 1
    return found


@dataclass(frozen=True, slots=True)
class Multiple:
    """One adder of a constant product: left * x + sign * (x << position), or the reverse."""

    left: int  # the multiple of x so far
    position: int
    sign: int
    reverse: bool  # (x << position) - left * x

    @property
    def result(self) -> int:
        shifted = 1 << self.position
        return shifted - self.left if self.reverse else self.left + self.sign * shifted


def multiples(factor: int) -> list[Multiple]:
    """The adders that multiply by a constant, from its lowest digit on.

    Low bits that no later digit reaches need no adder. A first digit of -1 waits for one of 1.
    """
    (first, sign), *others = digits(factor)
    left, negative, found = 1 << first, sign < 0, []
    for position, digit in others:
        reverse = negative and digit > 0
        adder = Multiple(left, position, 1 if negative else digit, reverse)
        found.append(adder)
        left, negative = adder.result, negative and digit < 0
    return found


def gain_clip(gain: Gain, pixels: int, bits: int, signed: bool, out_bits: int) -> Clip:
    """The range of means before they are clipped."""
    half = (1 << gain.shift) >> 1
    least, most = (
        pixels * end * gain.factor + half >> gain.shift for end in code_range(bits, signed)
    )
    return Clip(least=least, most=most, bits=out_bits, signed=signed)


def gain_bits(gain: Gain, pixels: int, bits: int, signed: bool) -> int:
    """Bits of the adders of a constant product, and one where it is rounded."""
    total = int(gain.shift > 0)
    for adder in multiples(gain.factor):
        ends = [adder.left * pixels * end for end in code_range(bits, signed)]
        left = Operand(
            bits=range_bits(min(ends), max(ends)), signed=signed or adder.left < 0, offset=0
        )
        x = Operand(bits=sum_width(pixels, bits, signed), signed=signed, offset=adder.position)
        whole = adder.reverse and adder.left > 1  # what is subtracted reaches over all of x
        total += x.bits if whole else adder_bits((left, x))
    return total


def max_pool(node: Node, bits: int, lanes: int) -> Counts:
    """Counts of a max pool on the codes, `lanes` channels a cycle.

    Windows that overlap or reach over the edge: running maxima along rows, then along columns.
    """
    lanes = min(lanes, node.in_shape.c)
    parts = steps(node, lanes)
    word = lanes * bits
    selected = sum(word * _selects(part, bits) for part in parts)
    compared = sum(word * part.slots for part in parts) if bits > 1 else 0
    return Counts(
        lut={
            # What compares two bits and what selects one share a LUT; so do two comparisons.
            "select_bits": ints(max(2 * selected, selected + compared)),
            **_control(parts),
        },
        ff=ints(sum(_registers(part, word) for part in parts)),
        memories=_memories(parts, [word] * len(parts)),
        work={"sram_bits": 2 * node.in_shape.size * bits, "adder_bits": node.in_shape.size * bits},
    )


def mean_pool(
    node: Node,
    bits: int,
    out_bits: int,
    lanes: int,
    *,
    signed: bool = False,
    gain: Gain | None = None,
) -> Counts:
    """Counts of a mean over k * k (or all) pixels: running sums, one gain, rounding.

    The gain is a constant of the layer, so it is shifts and adds.

    Args:
        gain: None: that of a mean over the largest codes of both precisions.
    """
    lanes = min(lanes, node.in_shape.c)
    parts = steps(node, lanes)
    pixels = sums(node, parts)
    widths = [sum_width(n, bits, signed) for n in pixels]
    before = [bits, *widths]
    gain = (gain or mean_gain(pixels[-1], bits, out_bits)).reduced()
    clip = gain_clip(gain, pixels[-1], bits, signed, out_bits)
    zipped = list(zip(parts, before, widths, strict=False))
    size = node.in_shape.size
    summed = sum(b * part.slots for part, b, _ in zipped)
    # LUT3s of a sum, and LUT2s that share them or each other: what a fresh sum masks, and the gain.
    small = sum((w - b) * part.slots for part, b, w in zipped)
    small += gain_bits(gain, pixels[-1], bits, signed)
    unread = min(max(0, gain.shift - 1), widths[-1]) if gain.factor == 1 else 0
    unread *= not parts[-1].shared
    return Counts(
        lut={
            "sum_bits": ints(lanes * max(2 * summed, summed + small)),
            "select_bits": ints(sum(lanes * w * _opens(part) for part, _, w in zipped)),
            "clip_bits": ints(lanes * clip.clipped),
            **_control(parts),
        },
        ff=ints(
            sum(_registers(part, lanes * w) for part, _, w in zipped)
            + lanes * (clip.stored - unread)
            + 1
        ),
        memories=_memories(parts, [lanes * w for w in widths]),
        work={"sram_bits": 2 * size * widths[-1], "adder_bits": size * widths[-1]},
    )


def _selects(part: Step, bits: int) -> int:
    """Multiplexers a bit: what leaves, and what is kept.

    A register selects by its clock enable. Of one bit, a maximum is the same LUT as what follows.
    """
    if not part.overlaps:
        return part.slots - (part.depth == 1)
    if part.stride == 1:
        return part.slots
    kept = part.slots - (part.depth == 1)
    return (part.slots if bits > 1 else 1) + kept


def _opens(part: Step) -> int:
    """Words of sums that are multiplexed where a window opens while others are open."""
    return part.slots if part.overlaps and part.stride > 1 else 0


def _control(parts: tuple[Step, ...]) -> dict[str, object]:
    return {
        "counter_bits": ints(sum(part.counter_bits + part.flag_bits for part in parts)),
        "steps": ints(len(parts)),
    }


def _registers(part: Step, word: int) -> int:
    """Counters and flags, the output's valid bit, and its word."""
    return part.counter_bits + part.flag_bits + 1 + (0 if part.shared else word)


def _memories(parts: tuple[Step, ...], words: list[int]) -> tuple[Memory, ...]:
    return tuple(
        Memory(width=ints(word * part.slots), depth=ints(part.depth))
        for part, word in zip(parts, words, strict=True)
        if part.slots
    )
