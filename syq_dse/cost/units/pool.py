"""`pool`: the maximum or the mean over pixels of a stream."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import log2

import numpy as np

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.integers import Ints, cdiv, clog2, code_range, ints, range_bits, signed_digits
from syq_dse.cost.search_tables import parts as parts_of
from syq_dse.cost.units.add import (
    SMALL,
    WIDE,
    Clip,
    Operand,
    adder_bits,
    clip_gates,
    clip_luts,
)
from syq_dse.cost.units.carries import carry_pairs
from syq_dse.network import GlobalAvgPool, Node

GAIN_BITS = 15
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
    def behind(self) -> int:
        """Positions of the padding behind the image that take time."""
        return self.stop - self.last

    def leaves(self, window: int) -> int:
        """Positions that come before the one with which a window leaves."""
        ends = window * self.stride + self.k - 1
        at_last = self.late == 1 and window == self.windows - 1
        return (min(ends, self.last) if at_last else ends) - self.pad

    @property
    def shared(self) -> bool:
        """Whether the running result itself is what leaves: one word, one window at a time."""
        return self.depth == 1 and self.slots == 1 and not self.overlaps

    @property
    def counter_bits(self) -> int:
        index = 0 if self.regular else int(clog2(self.stop // self.stride + 1))
        return index + int(clog2(self.stride)) + int(clog2(self.depth))

    @property
    def wrap_bits(self) -> int:
        return _wraps(self.depth)

    @property
    def resets(self) -> int:
        """Counters of positions in a window that are reset before they overflow."""
        return int(self.stride & self.stride - 1 > 0)

    @property
    def compared(self) -> list[int]:
        """Bits of the counters that are compared with a constant, for each that is."""
        phase, words = int(clog2(self.stride)), int(clog2(self.depth))
        found = [words, phase, phase]
        if not self.regular:
            early = (self.k - 1 - self.pad) // self.stride
            ends = 1 + early + (self.late == 1 and self.end > self.last)
            found += [self.counter_bits - words] * ends
        return [bits for bits in found if bits > 1]

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
    def wrap_bits(self) -> int:
        return _wraps(self.words)

    @property
    def resets(self) -> int:
        return 2 * self.rows.resets

    @property
    def compared(self) -> list[int]:
        phase, words = int(clog2(self.stride)), int(clog2(self.words))
        columns = int(clog2((self.w - 1) // self.stride + 1))
        found = [words, 2 * phase, phase, phase, columns + phase]
        if not self.rows.regular:
            found.append(self.rows.counter_bits)
        if (self.w - 1) // self.stride >= self.w_out:
            found.append(columns)
        return [bits for bits in found if bits > 1]

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


def cycles(node: Node, lanes: int) -> int:
    """Cycles that an image takes in a pool whose words have `lanes` channels.

    A word a cycle; and where windows end in the padding behind a row or the image, the time of that
    padding too, in which nothing is read.
    """
    axes = _axes(node, lanes)
    if axes is None:
        return node.in_shape.size // lanes
    columns, rows = axes
    words = max(1, node.in_shape.c // lanes)
    return rows.length * (columns.length + columns.behind) * words + _stop(columns, rows, words)


def pause(node: Node, lanes: int) -> int:
    """Cycles without reading between the last row of an image and the next one's, at most."""
    axes = _axes(node, lanes)
    if axes is None:
        return 0
    columns, rows = axes
    words = max(1, node.in_shape.c // lanes)
    return columns.behind * words + _stop(columns, rows, words)


def early(node: Node) -> int:
    """Pixels that a pool writes before their time, where all are read at one pace.

    The pool reads at one pace and writes none in the first rows of an image; the reader's queue
    holds what then comes faster than on average.
    """
    shape, out = node.in_shape, node.out_shape
    if isinstance(node.layer, GlobalAvgPool):
        return 0
    columns, rows = (
        Run(length=n, k=node.k, stride=node.stride, pad=node.pad[0], windows=windows, depth=1)
        for n, windows in ((shape.w, out.w), (shape.h, out.h))
    )
    row = columns.length + columns.behind
    down, across = (
        np.array([axis.leaves(window) for window in range(axis.windows)])
        for axis in (rows, columns)
    )
    times = (row * down[:, None] + across).ravel()
    read = times * out.pixels / (row * (rows.length + rows.behind))
    written = np.arange(out.pixels)
    return int(np.ceil((written + 1 - read).max() - (written - read).min())) - 1


def _axes(node: Node, lanes: int) -> tuple[Run, Run] | None:
    """The steps along a row and along the rows, where it is made of these."""
    match steps(node, lanes):
        case (Run() as columns, Run() as rows):
            return columns, rows
    return None


def _stop(columns: Run, rows: Run, words: int) -> int:
    """Cycles that the rows' step, in the padding behind the image, keeps the other one from work.

    That goes on with the next image until it has a second result that it cannot hand over.
    """
    first = columns.leaves(0)
    row = (columns.length + columns.behind) * words
    gap = row if columns.windows == 1 else columns.leaves(1) - first
    alone = gap - 1 if words == 1 else 0
    return max(0, rows.behind * columns.windows * words - first * words - alone)


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
    (Gain(factor=1, shift=6), Gain(factor=2675, shift=17))
    """
    up, down = (1 << out_bits) - 1, pixels * ((1 << bits) - 1)
    shift = 0
    while _rounded(up << shift + 1, down) < 1 << GAIN_BITS:
        shift += 1
    return Gain(_rounded(up << shift, down), shift).reduced()


def _rounded(up: int, down: int) -> int:
    return (2 * up + down) // (2 * down)


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
    (first, sign), *others = signed_digits(factor)
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


@dataclass(frozen=True, slots=True)
class Adders:
    """What the adders of a rounded constant product are made of."""

    bits: int  # of two operands
    pairs: int  # of carry chains
    wide: int = 0  # LUTs that hold a short sum and what it is made of


@cache
def gain_adders(gain: Gain, width: int, signed: bool, read: int) -> Adders:
    """The adders of a constant product of a number, and what rounds it.

    Yosys proves products equal: of a factor whose digits repeat, small numbers need few adders.
    Where the cells of carry chains hold two bits, more of them remain.

    Args:
        width, signed: of what is multiplied.
        read: bits of the product that are read, those that are shifted out included.
    """
    adders = multiples(gain.factor)
    kept = read - gain.shift
    if not adders:
        return Adders(int(gain.shift > 0), int(carry_pairs(kept)) * (gain.shift > 0))
    last = adders[-1]
    # the bit that rounds is the carry in of a last adder that begins there
    carried = gain.shift > 0 and not last.reverse and last.position == gain.shift
    rounds = gain.shift > 0 and not carried
    wide = kept if rounds and kept <= SMALL else 0
    total, pairs = int(rounds and not wide), int(carry_pairs(kept)) * rounds
    index, low = len(adders) - 1, gain.shift if carried else max(0, gain.shift - 1)
    limit: int | None = read
    while index >= 0:
        other, at = _first_equal(adders, index, low, width, signed)
        if other < 0:
            break
        limit = limit - low + at if limit is not None else None
        adder = adders[other]
        left = _product(adder.left, width, signed)
        x = Operand(bits=width, signed=signed, offset=adder.position)
        total += adder_bits((left, x), limit)
        chain = _product(adder.result, width, signed).bits
        width_read = chain if limit is None else min(chain, limit)
        pairs += int(carry_pairs(width_read - adder.position))
        low, limit = 0 if adder.reverse else min(adder.position, at), None
        if carried and adder is last:
            low -= 1
        index = other - 1
    return Adders(total, pairs, wide)


def _product(factor: int, width: int, signed: bool) -> Operand:
    """A multiple of a number of `width` bits."""
    least, most = sorted(factor * end for end in code_range(width, signed))
    return Operand(bits=range_bits(least, most), signed=least < 0, offset=0)


def _first_equal(
    adders: list[Multiple], index: int, low: int, width: int, signed: bool
) -> tuple[int, int]:
    """The first product whose bits from some position on are those of product `index` from `low`.

    Returns: its index, -1 for the number itself, and that position.
    """
    if width > COMPARED:
        return index, low
    least, most = code_range(width, signed)
    numbers = np.arange(least, most + 1)
    sought = numbers * adders[index].result >> low
    for other in range(-1, index):
        factor = adders[other].result if other >= 0 else 1
        at = low + round(log2(abs(factor / adders[index].result)))
        if at >= 0 and np.array_equal(numbers * factor >> at, sought):
            return other, at
    return index, low


TABLE_INPUTS = 7
"""Bits of a sum up to which its code is a table: a LUT of six inputs a bit, or two, where adders
would take a LUT a bit each, five and more of them."""

LUT_INPUTS = 6

WIDE_TABLE = 5
"""Inputs from which on a bit of a table is no more one of two that a LUT holds."""


@cache
def code_table(gain: Gain, clip: Clip, width: int) -> tuple[int, ...] | None:
    """The stored bits of the code of each sum of `width` bits, as the sum's bits count.

    None where adders make the code: the sum is wide, or needs no adder.
    """
    if width > TABLE_INPUTS or not multiples(gain.factor):
        return None
    low, high = code_range(clip.bits, clip.signed)
    half = (1 << gain.shift) >> 1
    found = []
    for word in range(1 << width):
        number = word - (1 << width) * (clip.signed and word >> (width - 1))
        code = min(max(number * gain.factor + half >> gain.shift, low), high)
        found.append(code & (1 << clip.stored) - 1)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class TableBits:
    """The bits of a table, constants left out; LUTs of equal ones are one, registers are not."""

    registers: int
    pairs: int  # LUTs of two of the address' bits, as adders have them
    narrow: int  # LUTs of few of the address' bits
    wide: int


def table_bits(words: tuple[int, ...], bits: int) -> TableBits:
    """What the bits of a table are made of.

    >>> table_bits((0, 5, 5, 2), 4)
    TableBits(registers=3, pairs=2, narrow=0, wide=0)
    """
    columns = [tuple(word >> bit & 1 for word in words) for bit in range(bits)]
    columns = [column for column in columns if len(set(column)) > 1]
    inputs = [
        sum(
            any(column[at] != column[at ^ 1 << bit] for at in range(len(words)))
            for bit in range(len(words).bit_length() - 1)
        )
        for column in set(columns)
    ]
    return TableBits(
        registers=len(columns),
        pairs=inputs.count(2),
        narrow=sum(2 < count < WIDE_TABLE for count in inputs),
        wide=sum(1 << max(0, count - LUT_INPUTS) for count in inputs if count >= WIDE_TABLE),
    )


COMPARED = 16
"""Bits of a number up to which products may turn out to be equal."""


def max_pool(node: Node, bits: int, lanes: int) -> Counts:
    """Counts of a max pool on the codes, `lanes` channels a cycle.

    Windows that overlap or reach over the edge: running maxima along rows, then along columns.
    """
    lanes = min(lanes, node.in_shape.c)
    parts = steps(node, lanes)
    word = lanes * bits
    selects = [_selects(part, bits) for part in parts]
    return Counts(
        lut={
            "adder_bits": ints(sum(word * part.slots for part in parts) if bits > 1 else 0),
            "carry_pairs": ints(lanes * carry_pairs(bits + 1) * sum(part.slots for part in parts)),
            "select_bits": ints(lanes * sum(one.narrow for one in selects)),
            "wide_bits": ints(lanes * sum(one.wide for one in selects)),
            "enables": ints(lanes * sum(one.enables for one in selects)),
            **_control(parts),
        },
        ff=ints(sum(_registers(part, word) for part in parts)),
        gates=lambda: {
            "compare_bits": ints(sum(word * part.slots for part in parts) if bits > 1 else 0),
            "select_bits": ints(sum(word * part.slots for part in parts)),
            "open_bits": ints(sum(word * (2 * part.slots - 1) * _opens(part) for part in parts)),
            **_control(parts),
        },
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
    fresh = sum(b * part.slots for part, b, _ in zipped)
    masked = sum((w - b) * part.slots for part, b, w in zipped)
    opened = sum((b + w * (part.slots - 1)) * _opens(part) for part, b, w in zipped)
    masked += sum((w - b) * _opens(part) for part, b, w in zipped)
    adders, table, stored = Adders(0, 0), TableBits(0, 0, 0, 0), clip.stored
    words = code_table(gain, clip, widths[-1])
    octets, selections = parts_of(np.asarray(words or [0], dtype=np.int64), clip.stored)
    if words is None:
        adders = gain_adders(gain, widths[-1], signed, gain.shift + clip.width)
    else:
        table = table_bits(words, clip.stored)
        stored = table.registers
    chains = sum(carry_pairs(w) * part.slots for part, _, w in zipped)
    unread = min(max(0, gain.shift - 1), widths[-1]) if gain.factor == 1 else 0
    unread *= not parts[-1].shared
    return Counts(
        lut={
            "adder_bits": ints(lanes * (masked + adders.bits + table.pairs)),
            "carry_pairs": ints(lanes * (chains + adders.pairs)),
            "select_bits": ints(lanes * (fresh + opened + table.narrow)),
            "wide_bits": ints(lanes * (adders.wide + table.wide)),
            **clip_luts(clip, lanes * (words is None)),
            **_control(parts),
        },
        ff=ints(
            sum(_registers(part, lanes * w) for part, _, w in zipped)
            + lanes * (stored - unread)
            + 1
        ),
        gates=lambda: {
            "full_adders": ints(lanes * fresh),
            "half_adders": ints(lanes * sum((w - b) * part.slots for part, b, w in zipped)),
            "mask_bits": ints(lanes * sum(w * part.slots for part, _, w in zipped)),
            "open_bits": ints(lanes * opened),
            "gain_bits": ints(lanes * adders.bits),
            "gain_pairs": ints(lanes * adders.pairs),
            "round_bits": ints(lanes * clip.width * (words is None and gain.shift > 0)),
            "table_octets": ints(lanes * octets),
            "table_selections": ints(lanes * selections),
            **clip_gates(clip, lanes * (words is None)),
            **_control(parts),
        },
        memories=_memories(parts, [lanes * w for w in widths]),
        work={"sram_bits": 2 * size * widths[-1], "adder_bits": size * widths[-1]},
    )


@dataclass(frozen=True, slots=True)
class Selects:
    """LUTs of a lane that select running maxima: what is kept and what leaves."""

    narrow: int = 0  # of few inputs
    wide: int = 0
    enables: int = 0  # of registers that keep what they have


def _selects(part: Step, bits: int) -> Selects:
    """LUTs of a lane.

    Of a register that keeps its maximum or takes a new one, only the clock enable is a LUT, but of
    one bit, where a maximum needs no comparison, nothing is selected.
    """
    if not part.slots:
        return Selects()
    kept = part.depth == 1 and bits > 1
    if not part.overlaps:
        return Selects(enables=1) if kept else Selects(narrow=bits * part.slots)
    if not _opens(part):  # the steps of the padding, too, are an input
        flush = isinstance(part, Run) and part.stop > part.last
        found = bits * part.slots
        return Selects(wide=found) if flush else Selects(narrow=found)
    wide = bits * (2 * part.slots - 1) - (part.slots - 1)
    if kept:
        return Selects(narrow=bits, wide=wide - bits, enables=1)
    return Selects(narrow=bits, wide=wide)


def _opens(part: Step) -> bool:
    """Whether words are multiplexed where a window opens while others are open."""
    return part.slots > 0 and part.overlaps and part.stride > 1


def _control(parts: tuple[Step, ...]) -> dict[str, Ints]:
    """Counters, what they are compared with, and the handshake of each step."""
    found = {
        "steps": len(parts),
        "tiles": sum(isinstance(part, Tile) for part in parts),
        "flags": sum(part.flag_bits for part in parts),
        "counter_bits": sum(part.counter_bits for part in parts),
        "wrap_bits": sum(part.wrap_bits for part in parts),
        "resets": sum(part.resets for part in parts),
        "compares": sum(cdiv(bits - 1, WIDE - 1) for part in parts for bits in part.compared),
    }
    return {name: ints(count) for name, count in found.items()}


def _wraps(words: int) -> int:
    """Bits of a counter of words that is set to 0 before it overflows."""
    return int(clog2(words)) if words & words - 1 else 0


def _registers(part: Step, word: int) -> int:
    """Counters and flags, the output's valid bit, and its word."""
    return part.counter_bits + part.flag_bits + 1 + (0 if part.shared else word)


def _memories(parts: tuple[Step, ...], words: list[int]) -> tuple[Memory, ...]:
    return tuple(
        Memory(width=ints(word * part.slots), depth=ints(part.depth))
        for part, word in zip(parts, words, strict=True)
        if part.slots
    )
