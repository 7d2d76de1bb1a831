"""`window`: the sliding-window line buffer, or the buffer of a vector that is read again."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.counts import Counts, Memory
from syq_dse.cost.folding import Geometry
from syq_dse.cost.integers import Ints, cdiv, clog2, ints


def window(geo: Geometry, bits: int, pe: Ints, simd: Ints) -> Counts:
    """Counts of the unit that turns a feature map into windows of k * k pixels.

    A circular buffer holds the rows that the windows still need, and enough of the next ones that
    an engine never waits: (k + stride - 2) rows and (k + stride) pixels. It has one bank for each
    pixel read at once; contiguous kernel positions then never meet in a bank, and a rotation puts
    them in order. An engine that reads whole windows shifts them through registers instead. A 1x1
    kernel reads its vector again only if there are several neuron folds: a double buffer holds it.

    Args:
        bits: precision of the activations.
    """
    groups = geo.groups_at_once(pe)
    pixels = (simd // geo.c_in).clip(min=1)  # kernel positions a cycle
    channels = np.minimum(simd, geo.c_in) * groups  # of each of them
    word = channels * bits
    folds = geo.c_out // pe
    words_a_pixel = geo.c_in * geo.groups // channels
    if geo.k == 1 and geo.stride == 1:
        depth = np.where(folds > 1, 2 * words_a_pixel, 0)
        banks, shifted = pixels, 0 * pixels
    else:
        rows = geo.k + geo.stride - 2
        shifts = (pixels == geo.k * geo.k) & (words_a_pixel == 1)
        stored = cdiv(rows * geo.w_in + geo.k + geo.stride, pixels) * words_a_pixel
        depth = np.where(shifts, geo.w_in, stored)
        banks = np.where(shifts, rows, pixels)
        shifted = shifts * pixels * word
    out = simd * groups * bits
    address = clog2(np.maximum(depth, 1))
    counter = (
        clog2(geo.w_in) + clog2(geo.h_in) + 2 * clog2(geo.k) + clog2(words_a_pixel) + clog2(folds)
    )
    rotation = clog2(pixels) * word * pixels * (shifted == 0)
    reads = geo.positions * folds * (geo.fan_in // simd) * out
    return Counts(
        lut={
            "counter_bits": counter,
            "address_bits": address * 2,
            "mask_bits": out * int(geo.padded),
            "rotate_bits": rotation,
        },
        ff=counter + 2 * address + np.maximum(out, shifted),
        memories=(Memory(width=word, depth=depth, banks=banks),),
        work={"sram_bits": reads * ints(depth > 0)},
    )
