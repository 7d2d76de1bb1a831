"""`window`: the sliding-window line buffer, or the buffer of a vector that is read again."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.folding import Geometry, cycles
from syq_dse.cost.integers import Ints, cdiv, clog2, ints


def word_channels(geo: Geometry, pe: Ints, simd: Ints) -> Ints:
    """Channels of one pixel that an engine reads at once, of all groups that it works on."""
    channels: Ints = np.minimum(simd, geo.c_in) * geo.groups_at_once(pe)
    return channels


def words_at_once(geo: Geometry, pe: Ints, simd: Ints) -> Ints:
    """Words of so many channels that come in together, so that an image does while engines work."""
    words = geo.h_in * geo.w_in * (geo.c_in * geo.groups // word_channels(geo, pe, simd))
    return cdiv(words, cycles(geo, pe, simd))


def window(geo: Geometry, bits: int, pe: Ints, simd: Ints) -> Counts:
    """Counts of the unit that turns a feature map into windows of k * k pixels.

    A circular buffer holds the rows that the windows still need, and enough of the next ones that
    an engine never waits: k + stride - 2 rows and k + stride pixels, and as many more as the output
    leaves out of the input, |h_in - stride * h_out| rows and |w_in - stride * w_out| pixels.

    It has one bank for each pixel read at once, (x + k * y) modulo the banks: contiguous kernel
    positions then never meet in a bank, and a rotation puts them in order. A gap of less than the
    banks follows each row that does not fill them evenly. An engine that reads whole windows
    shifts them through registers instead. Words are wider than what is read at once where an image
    would not come in while the engine works. A 1x1 kernel reads its vector again only if there are
    several neuron folds: a double buffer holds it.

    Args:
        bits: precision of the activations.
    """
    pixels = (simd // geo.c_in).clip(min=1)  # kernel positions a cycle
    channels = word_channels(geo, pe, simd)  # of each of them
    folds = geo.c_out // pe
    words_a_pixel = geo.c_in * geo.groups // channels
    joined = words_at_once(geo, pe, simd)
    if geo.k == 1 and geo.stride == 1:
        depth = np.where(folds > 1, 2 * words_a_pixel, 0)
        banks, shifted = pixels, 0 * pixels
    else:
        rows = geo.k + geo.stride - 2 + abs(geo.h_in - geo.stride * geo.h_out)
        more = geo.k + geo.stride + abs(geo.w_in - geo.stride * geo.w_out)
        gaps = (rows + cdiv(more, geo.w_in)) * ((geo.k - geo.w_in) % pixels)
        stored = cdiv(rows * geo.w_in + more + gaps, pixels)
        shifts = (pixels == geo.k * geo.k) & (words_a_pixel == 1)
        depth = np.where(shifts, geo.w_in, stored * words_a_pixel)
        banks = np.where(shifts, rows, pixels)
        shifted = shifts * pixels * channels * bits
    out = simd * geo.groups_at_once(pe) * bits
    address = clog2(np.maximum(depth, 1))
    counter = (
        clog2(geo.w_in) + clog2(geo.h_in) + 2 * clog2(geo.k) + clog2(words_a_pixel) + clog2(folds)
    )
    rotation = (clog2(pixels) * (shifted == 0) + clog2(joined)) * channels * bits * pixels
    reads = geo.positions * folds * (geo.fan_in // simd) * out
    return Counts(
        lut={
            "counter_bits": counter,
            "address_bits": address * 2,
            "mask_bits": out * int(geo.padded),
            "rotate_bits": rotation,
        },
        ff=counter + 2 * address + np.maximum(out, shifted),
        memories=(Memory(width=channels * bits * joined, depth=cdiv(depth, joined), banks=banks),),
        work={"sram_bits": reads * ints(depth > 0)},
    )
