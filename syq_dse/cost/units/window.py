"""`window`: the sliding-window line buffer, or the buffer of a vector that is read again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from math import gcd

import numpy as np
import numpy.typing as npt

from syq_dse.cost import folding
from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.folding import Geometry
from syq_dse.cost.integers import Ints, bit_length, cdiv, clog2, ints
from syq_dse.cost.units.logic import Small, level_inputs, priority_inputs

Flags = npt.NDArray[np.bool_]


def window(geo: Geometry, bits: int, pe: Ints, simd: Ints) -> Counts:
    """Counts of the unit that turns a feature map into windows of k * k pixels.

    - A 1x1 kernel whose words are each read as they come needs nothing, or, where neuron folds read
      a word again, a register for it.
    - Whole windows that move by a pixel a word (`shifts`) are a chain of k * k pixel registers with
      k - 1 line delays in one memory.
    - All else is a circular buffer of `depth` words, one copy for each kernel position that is read
      at once. A copy is written as many words ahead as its position lies behind the first, so that
      all are read at one address. Zeros around the image are neither stored nor waited for: the
      register of what is read is reset. In a chain they are masked.

    Args:
        bits: precision of the activations.
    """
    word = folding.word_channels(geo, pe, simd) * bits
    out = simd * geo.groups_at_once(pe) * bits
    folds = geo.c_out // pe
    again = repeats(geo, pe, simd)
    chain = shifted(geo, pe, simd)
    ring = ~(passes(geo, pe, simd) | again | chain)
    flat = flattened(geo)
    pixels = positions_at_once(flat, simd)
    banks = np.where(ring, _of_each(pixels, lambda n: len(live(flat, n))), 0)
    size = depth(geo, pe, simd, word)
    shape = np.broadcast_shapes(pe.shape, simd.shape)
    arrays = (np.broadcast_to(of, shape).tobytes() for of in (pe, simd, size))
    ring_counts, flip_flops = _ring(flat, shape, *arrays)
    lut = {name: count * ring for name, count in ring_counts.items()}
    for name, count in chain_lut(geo, word, folds).items():
        lut[name] = lut.get(name, 0) + count * chain
    lut["counters"] = lut["counters"] + again
    lut["chain"] = ints(chain)
    ff = chain_ff(geo, word, folds) * chain + flip_flops * ring
    line = geo.w_in - geo.k
    reads = geo.positions * folds * (geo.fan_in // simd) * out
    return Counts(
        lut=lut,
        ff=ff + (word + 1 + clog2(folds_a_block(geo, pe))) * again,
        memories=(
            Memory(
                width=np.where(chain, (geo.k - 1) * word, word),
                depth=np.where(chain, line, size * ring),
                banks=np.where(chain, 1, banks),
            ),
        ),
        work={"sram_bits": reads * (chain | ring)},
    )


# Which of them a folding is, for arrays of foldings


def pointwise(geo: Geometry) -> bool:
    """Whether every output pixel reads just its own input pixel."""
    same = (geo.h_in, geo.w_in) == (geo.h_out, geo.w_out)
    return same and geo.k == 1 and geo.stride == 1


def blocks(geo: Geometry, pe: Ints) -> Ints:
    """Blocks of groups that are worked on one after the other."""
    return geo.groups // geo.groups_at_once(pe)


def folds_a_block(geo: Geometry, pe: Ints) -> Ints:
    """Times that an engine reads the window of one block of groups."""
    return geo.c_out // pe // blocks(geo, pe)


def words_a_block(geo: Geometry, simd: Ints) -> Ints:
    """Words of one pixel of one block of groups."""
    return geo.c_in // np.minimum(simd, geo.c_in)


def positions_at_once(geo: Geometry, simd: Ints) -> Ints:
    """Kernel positions that are read at once."""
    pixels: Ints = (simd // geo.c_in).clip(min=1)
    return pixels


def passes(geo: Geometry, pe: Ints, simd: Ints) -> Flags:
    """Whether the words that come are those that are read."""
    return np.asarray((folds_a_block(geo, pe) == 1) & pointwise(geo) & (simd > 0))


def repeats(geo: Geometry, pe: Ints, simd: Ints) -> Flags:
    """Whether each word is read several times, one after the other."""
    once = words_a_block(geo, simd) == 1
    return np.asarray(once & (folds_a_block(geo, pe) > 1) & pointwise(geo))


def shifted(geo: Geometry, pe: Ints, simd: Ints) -> Flags:
    """Whether the window is a chain of registers: `shifts`, and more rows than the kernel has."""
    return np.asarray(folding.shifts(geo, pe, simd) & (geo.h_in >= geo.k))


# The circular buffer. Addresses count words; what depends on the geometry alone counts pixels.


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How the first position of the window moves in the order of the stream [pixels]."""

    start: int  # of the first window of the first image
    pixel: int  # to the next output pixel
    row: int  # to the next row, from the last pixel of one
    image: int

    @property
    def longest(self) -> int:
        return max(self.pixel, self.row, self.image)


def flattened(geo: Geometry) -> Geometry:
    """The geometry whose pixels a circular buffer tells apart: one if windows are pixels."""
    return replace(geo, h_in=1, w_in=1, h_out=1, w_out=1) if pointwise(geo) else geo


def _steps(geo: Geometry, rows: int, columns: int, start: int) -> Steps:
    """Steps on a map of so many rows and columns."""
    across, down = (geo.w_out - 1) * geo.stride, (geo.h_out - 1) * geo.stride * columns
    image = rows * columns - down - across
    row = geo.stride * columns - across if geo.h_out > 1 else image
    pixel = geo.stride if geo.w_out > 1 else row
    return Steps(start=start, pixel=pixel, row=row, image=image)


def moves(geo: Geometry) -> Steps:
    """Steps among the pixels of the stream; the padding before an image is in the one before."""
    return _steps(geo, geo.h_in, geo.w_in, -geo.pad[0] * (geo.w_in + 1))


def padded_moves(geo: Geometry) -> Steps:
    """Steps among the pixels and the zeros around them."""
    return _steps(geo, *folding.padded(geo), 0)


def frees(geo: Geometry) -> Steps:
    """Steps up to which pixels may go: `moves`, or fewer where padding makes those turn back."""
    exact = moves(geo)
    if min(exact.pixel, exact.row, exact.image) >= 0:
        return exact
    rest = geo.h_in - (geo.h_out - 1) * geo.stride
    if rest >= 0:
        row = geo.stride * geo.w_in if geo.h_out > 1 else rest * geo.w_in
        pixel = 0 if geo.w_out > 1 else row
        start = -geo.pad[0] * geo.w_in
        return Steps(start=start, pixel=pixel, row=row, image=rest * geo.w_in)
    return Steps(start=0, pixel=0, row=0, image=geo.h_in * geo.w_in)


def is_padded(geo: Geometry) -> bool:
    return folding.padded(geo) != (geo.h_in, geo.w_in)


def reach(geo: Geometry) -> int:
    """Pixels and zeros from the first position of a window to its last, both included."""
    return (geo.k - 1) * folding.padded(geo)[1] + geo.k


def depth(geo: Geometry, pe: Ints, simd: Ints, word: Ints) -> Ints:
    """Words of the circular buffer with which an engine that always works never waits.

    Between the windows b < i an engine works i - b - 1 windows, and as many words as cycles come in
    meanwhile; all others of window i are there before b is left. That an image comes at an even
    pace, from a producer that loses the time in which it waits, needs k + stride - 2 rows and
    k + stride pixels, and what the output leaves out: for sizes as networks have them the same.

    Equal to simulation (tests/rtl/test_window.py). Rounded up to a power of two where that takes no
    more memory, LUTRAM in tiles of 16 or block RAM: addresses then wrap by themselves.

    Args:
        word: bits of a word.
    """
    flat = flattened(geo)
    words = folding.words_a_pixel(geo, pe, simd)
    period = (geo.c_out // pe) * (geo.fan_in // simd)
    side = flat.stride * flat.w_out - flat.w_in
    paced = (flat.k + flat.stride - 2 + abs(flat.h_in - flat.stride * flat.h_out)) * flat.w_in
    least = words * (paced + flat.k + flat.stride + abs(side))
    before = None
    for window, newest, oldest in _corners(flat):
        if before is not None:
            least = np.maximum(least, words * newest - period * window + before)
        left = period * (window + 1) - words * oldest
        before = left if before is None else np.maximum(before, left)
    power = 1 << clog2(least)
    in_luts = power <= 16 * cdiv(least, 16).clip(min=1)
    in_blocks = (least > MOST_LUTRAM) & (_blocks(power, word) <= _blocks(least, word))
    return np.where(in_luts | in_blocks, power, least)


MOST_LUTRAM = 64
"""Words up to which a buffer is in LUTRAM as a rule: the depth of the deepest primitive."""


def _blocks(size: Ints, word: Ints) -> Ints:
    """Block RAMs of 18 kbit in their best shape; all families have 512 x 36 to 16384 x 1."""
    shapes = [(512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)]
    fewest: Ints = np.min([cdiv(size, d) * cdiv(word, w) for d, w in shapes], axis=0)
    return fewest


def _corners(geo: Geometry) -> list[tuple[int, int, int]]:
    """Windows of two images in order: number, pixels that it needs, pixels that it lets go.

    Those at the ends of each stretch on which both grow evenly, and their neighbours.
    """
    steps, found = frees(geo), []
    for image in (0, 1):
        for r in _ends(geo, geo.h_in, geo.h_out):
            for c in _ends(geo, geo.w_in, geo.w_out):
                y = r * geo.stride - geo.pad[0] + geo.k
                x = c * geo.stride - geo.pad[0] + geo.k
                newest = (y - 1) * geo.w_in + min(x, geo.w_in)
                if y > geo.h_in:
                    newest = geo.h_in * geo.w_in
                oldest = c * steps.pixel + r * ((geo.w_out - 1) * steps.pixel + steps.row)
                number = (image * geo.h_out + r) * geo.w_out + c
                pixels = image * geo.h_in * geo.w_in
                found.append((number, pixels + newest, pixels + steps.start + oldest))
    return found


def _ends(geo: Geometry, side_in: int, side_out: int) -> list[int]:
    inside = (side_in + geo.pad[0] - geo.k) // geo.stride  # the last window that ends inside
    near = {0, 1, side_out - 2, side_out - 1, *range(inside - 1, inside + 3)}
    return sorted(n for n in near if 0 <= n < side_out)


def kernel_counters(k: int, pixels: int) -> tuple[int, ...]:
    """Lengths of the counters of the steps in which `pixels` positions at once cover a kernel."""
    if k % pixels == 0:
        return k // pixels, k  # parts of a row, rows
    return (k * k // pixels,)


def address_counters(k: int, pixels: int) -> int:
    """Addresses that a buffer is read at: one where the positions move alike at every step."""
    return min(pixels, k) // gcd(pixels, k)


def outside(geo: Geometry, at: int, side_in: int, side_out: int) -> tuple[int, int]:
    """(a, b): the kernel's row (column) `at` lies in the padding of windows below a and from b."""
    before = int(cdiv(geo.pad[0] - at, geo.stride))
    behind = int(cdiv(side_in + geo.pad[0] - at, geo.stride))
    return max(0, min(before, side_out)), max(0, min(behind, side_out))


@dataclass(frozen=True, slots=True)
class Edges:
    """In which windows the kernel positions of one copy are padding, one for each step."""

    rows: tuple[tuple[int, int], ...]
    columns: tuple[tuple[int, int], ...]


@cache
def edges(geo: Geometry, pixels: int) -> tuple[Edges, ...]:
    """Of each position that is read at once."""
    rows = [outside(geo, at, geo.h_in, geo.h_out) for at in range(geo.k)]
    columns = [outside(geo, at, geo.w_in, geo.w_out) for at in range(geo.k)]
    found = []
    for first in range(pixels):
        places = range(first, geo.k * geo.k, pixels)
        found.append(
            Edges(
                tuple(rows[place // geo.k] for place in places),
                tuple(columns[place % geo.k] for place in places),
            )
        )
    return tuple(found)


def never(geo: Geometry, edge: Edges) -> bool:
    """Whether no position is ever padding."""
    rows = all(a == 0 and b == geo.h_out for a, b in edge.rows)
    return rows and all(a == 0 and b == geo.w_out for a, b in edge.columns)


def always(geo: Geometry, edge: Edges) -> bool:
    """Whether all positions always are padding."""
    return all(
        ra >= rb or ca >= cb for (ra, rb), (ca, cb) in zip(edge.rows, edge.columns, strict=True)
    )


@cache
def live(geo: Geometry, pixels: int) -> tuple[int, ...]:
    """Positions of those read at once that need a copy of the buffer."""
    return tuple(at for at, edge in enumerate(edges(geo, pixels)) if not always(geo, edge))


@cache
def masked(geo: Geometry, pixels: int) -> tuple[Edges, ...]:
    """Of each position that needs a copy and a mask, its padding."""
    of = edges(geo, pixels)
    return tuple(of[at] for at in live(geo, pixels) if not never(geo, of[at]))


@cache
def counts_places(geo: Geometry) -> tuple[bool, bool]:
    """Whether the reader needs to know the row, and the column, of the output pixel."""
    every = (moves(geo), frees(geo), padded_moves(geo))
    row = any(s.row != s.image for s in every)
    column = row or any(s.pixel != s.row for s in every)
    row = row or any(outside(geo, i, geo.h_in, geo.h_out) != (0, geo.h_out) for i in range(geo.k))
    column = column or row
    column = column or any(
        outside(geo, i, geo.w_in, geo.w_out) != (0, geo.w_out) for i in range(geo.k)
    )
    return row, column


def zeros(geo: Geometry) -> tuple[int, int]:
    """Zeros between two rows, and more of them between two images [pixels]."""
    rows, columns = folding.padded(geo)
    return columns - geo.w_in, (rows - geo.h_in) * columns


def level_bits(geo: Geometry, words: Ints, size: Ints) -> Ints:
    """Signed bits of the words by which a window is complete, `words` a pixel."""
    low = max(padded_moves(geo).longest, reach(geo)) * words
    between, after = zeros(geo)
    rows = size // (geo.w_in * words) + 2
    images = size // (geo.h_in * geo.w_in * words) + 2
    high = size - reach(geo) * words + (rows * between + images * after) * words
    return np.maximum(bit_length(low - 1), bit_length(high)) + 1


def room_bits(geo: Geometry, words: Ints, size: Ints) -> Ints:
    """Signed bits of the words that are held, less those that may be."""
    return bit_length(size + frees(geo).longest * words - 1) + 1


# Counts


@lru_cache(maxsize=512)
def _ring(geo: Geometry, shape: tuple[int, ...], *arrays: bytes) -> tuple[dict[str, Ints], Ints]:
    """LUT features and flip-flops of circular buffers: they depend on few precisions."""
    pe, simd, size = (np.frombuffer(of, np.int64).reshape(shape) for of in arrays)
    return ring_lut(geo, pe, simd, size), ring_ff(geo, pe, simd, size)


def ring_ff(geo: Geometry, pe: Ints, simd: Ints, size: Ints) -> Ints:
    """Flip-flops of a circular buffer of `size` words."""
    pixels = positions_at_once(geo, simd)
    words = folding.words_a_pixel(geo, pe, simd)
    addresses = _of_each(pixels, lambda n: address_counters(geo.k, n) + len(live(geo, n)))
    room = room_bits(geo, words, size) if is_padded(geo) else 0
    counters = sum(clog2(states) for states in ring_counters(geo, pe, simd))
    read = _of_each(pixels, lambda n: address_counters(geo.k, n))
    held = addresses * clog2(size) - read * _still_bits(geo, pe, simd, size)
    ff: Ints = 1 + counters + held + level_bits(geo, words, size) + room
    return ff


def _still_bits(geo: Geometry, pe: Ints, simd: Ints, size: Ints) -> Ints:
    """Low bits of a read address that never change: all its steps are multiples of a power of 2."""
    pixels = positions_at_once(geo, simd)
    words = folding.words_a_pixel(geo, pe, simd)
    steps = moves(geo)
    row, column = counts_places(geo)
    shared = [steps.image]
    shared += [steps.row] if row and geo.h_out > 1 else []
    shared += [steps.pixel] if column and geo.w_out > 1 else []
    inner = _of_each(pixels, lambda n: gcd(*_kernel_steps(geo, n), *shared))
    in_order = (words_a_block(geo, simd) > 1) | (blocks(geo, pe) > 1)
    step = np.where(in_order, 1, np.gcd(inner * words, size))
    return np.minimum(ones((step & -step) - 1), clog2(size))


@cache
def _kernel_steps(geo: Geometry, pixels: int) -> frozenset[int]:
    """Pixels of the stream between kernel positions that are read one after the other."""
    places = [at // geo.k * geo.w_in + at % geo.k for at in range(geo.k * geo.k)]
    return frozenset(b - a for a, b in zip(places, places[pixels:], strict=False))


def ring_counters(geo: Geometry, pe: Ints, simd: Ints) -> list[Ints]:
    """States of the counters of the reader, from the inner to the outer, and of the writer."""
    pixels = positions_at_once(geo, simd)
    words = folding.words_a_pixel(geo, pe, simd)
    row, column = counts_places(geo)
    states = [
        words_a_block(geo, simd),
        _of_each(pixels, lambda n: kernel_counters(geo.k, n)[0]),
        _of_each(pixels, lambda n: [*kernel_counters(geo.k, n), 1][1]),
        folds_a_block(geo, pe),
        blocks(geo, pe),
        ints(geo.w_out if column else 1),
        ints(geo.h_out if row else 1),
    ]
    if is_padded(geo):
        states += [geo.w_in * words, ints(geo.h_in if zeros(geo)[1] else 1)]
    return states


def ring_lut(geo: Geometry, pe: Ints, simd: Ints, size: Ints) -> dict[str, Ints]:
    """What LUTs of a circular buffer are spent on."""
    pixels = positions_at_once(geo, simd)
    words = folding.words_a_pixel(geo, pe, simd)
    address = clog2(size)
    wraps = size != 1 << address
    addresses = _of_each(pixels, lambda n: address_counters(geo.k, n))
    heads = np.where(
        words == 1,
        _of_each(pixels, lambda n: len(heads_at(geo, n, 1))),
        _of_each(pixels, lambda n: len(live(geo, n))),
    )
    # each bit of a read address: the sum, less the depth, and which of them it is
    plain, less = _jumps(geo, pe, simd, size)
    between, after = zeros(geo)
    padded = is_padded(geo)
    ends = (0, between, between + after) if padded else (0, 0, 0)
    level = level_bits(geo, words, size)
    changes = _level(padded_moves(geo), ends, words, level)
    if padded:
        room = _level(frees(geo), (0, 0, 0), words, room_bits(geo, words, size))
        changes = np.concatenate((changes, room))
    return _counting(ring_counters(geo, pe, simd)) | {
        "jump_inputs": addresses * (plain.sum(axis=0) + less.sum(axis=0) * wraps),
        "wrap_bits": addresses * wraps * (address + (less > 0).sum(axis=0)),
        "level_bits": (changes > 0).sum(axis=0),
        "level_inputs": changes.sum(axis=0),
        "full_bits": level * (not padded),
        "heads": heads * wraps,
        "edges": _of_each(pixels, lambda n: len(edge_tests(geo, n))),
    }


def _level(steps: Steps, ends: Sequence[int], words: Ints, bits: Ints) -> Small:
    """Signals that decide each bit of what is written and freed, added to a level."""
    moved = (0, steps.pixel, steps.row, steps.image)
    changes = [[-step * words, *(1 + end * words - step * words for end in ends)] for step in moved]
    return level_inputs(changes, bits)


def _counting(states: list[Ints]) -> dict[str, Ints]:
    """Counters, their bits, and those that do not wrap by themselves."""
    return {
        "counters": ints(sum(1 * (n > 1) for n in states)),
        "counter_bits": ints(sum(clog2(n) for n in states)),
        "uneven": ints(sum(1 * (n != 1 << clog2(n)) for n in states)),
    }


def _jumps(geo: Geometry, pe: Ints, simd: Ints, size: Ints) -> tuple[Small, Small]:
    """Signals that decide each bit of the steps of the read address, modulo the depth and less it.

    Shape: (bits, foldings).
    """
    pixels = positions_at_once(geo, simd)
    words = folding.words_a_pixel(geo, pe, simd)
    block, steps = words_a_block(geo, simd), moves(geo)
    last = _of_each(pixels, lambda n: geo.k * geo.k - n)  # the first position of the last step
    back = (last // geo.k * geo.w_in + last % geo.k) * words + block - 1
    start = -back - (blocks(geo, pe) - 1) * block
    across = _of_each(pixels, lambda n: (geo.k - n) * (geo.k % n == 0))
    rows = _of_each(pixels, lambda n: max(1, n // geo.k))
    inner = np.where(across > 0, pixels * words, rows * geo.w_in * words) - (block - 1)
    moved = [
        block * 0 + 1,
        inner,
        (geo.w_in - across) * words - (block - 1),
        -back,
        block - back,
        start + steps.pixel * words,
        start + steps.row * words,
        start + steps.image * words,
    ]
    active = [states > 1 for states in ring_counters(geo, pe, simd)[: len(moved) - 1]]
    bits = clog2(size) + 1
    return (
        priority_inputs([jump % size for jump in moved], active, bits),
        priority_inputs([jump % size - size for jump in moved], active, bits),
    )


def ones(value: Ints) -> Ints:
    """Bits that are set."""
    return ints(sum(value >> bit & 1 for bit in range(40)))


@cache
def edge_tests(geo: Geometry, pixels: int) -> frozenset[tuple[bool, int]]:
    """Limits with which rows (columns) of windows are compared to find padding."""
    found = set()
    for edge in masked(geo, pixels):
        for of, ends, last in ((True, edge.rows, geo.h_out), (False, edge.columns, geo.w_out)):
            found |= {(of, limit) for end in ends for limit in end if 0 < limit < last}
    return frozenset(found)


@cache
def heads_at(geo: Geometry, pixels: int, words: int) -> tuple[int, ...]:
    """Positions whose copies count their own write address; others are a word behind another."""
    here = live(geo, pixels)
    if words > 1:
        return here
    return tuple(at for at in here if at % geo.k == 0 or at - 1 not in here)


def _of_each(pixels: Ints, count: Callable[[int], int]) -> Ints:
    """A count that depends on the positions read at once alone."""
    different, back = np.unique(pixels, return_inverse=True)
    return ints([count(int(n)) for n in different])[back].reshape(np.shape(pixels))


# The chain of registers


def lag(geo: Geometry) -> int:
    """Pixels behind the one in the middle of a window that a chain must have taken."""
    return geo.pad[1] * (geo.w_in + 1)


def chain_counters(geo: Geometry, folds: Ints) -> list[Ints]:
    """States of the counters of a chain."""
    waits = [lag(geo) + 1, geo.h_in * geo.w_in] if lag(geo) else []
    return [folds, *map(ints, [geo.h_in, geo.w_in, max(2, geo.w_in - geo.k), *waits])]


PATIENCE = 16
"""Cycles that a chain waits for the next image before it moves on without a pixel."""


def chain_ff(geo: Geometry, word: Ints, folds: Ints) -> Ints:
    """Flip-flops: the pixels, whether each is inside the image, counters, a valid bit."""
    counters = sum(clog2(states) for states in chain_counters(geo, folds))
    patience = int(clog2(PATIENCE)) if lag(geo) else 0
    ff: Ints = 1 + counters + patience + geo.k * geo.k * (word + 1) - 1
    return ff


def chain_lut(geo: Geometry, word: Ints, folds: Ints) -> dict[str, Ints]:
    """What LUTs of a chain are spent on."""
    tests = 0 * word + len(edge_tests(geo, geo.k * geo.k))
    masks = {"mask_bits": (geo.k * geo.k - 1) * word, "edges": tests}
    return _counting(chain_counters(geo, folds)) | masks
