"""Windows of layers as networks have them, in foldings drawn at random."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.folding import Geometry, foldings
from syq_dse.cost.integers import divisors
from syq_dse.cost.units.window import window
from syq_dse.rtl.samples import Sample
from syq_dse.rtl.window import Window
from syq_dse.target import Family

LARGEST_WORD = 1024
"""Bits that come out at once in a sample, so that its synthesis takes seconds."""

LARGEST_BUFFER = 2**17
"""Bits of all copies of the buffer in a sample."""

KERNELS = (  # (k, stride, zeros before and behind), by how often they are drawn
    *[(3, 1, (1, 1))] * 6,
    *[(3, 2, (0, 1)), (3, 2, (1, 1)), (3, 1, (0, 0)), (1, 1, (0, 0)), (5, 1, (2, 2))] * 2,
    *[(1, 2, (0, 0)), (5, 1, (0, 0)), (7, 2, (3, 3)), (12, 4, (0, 0)), (2, 2, (0, 0))],
    *[(4, 2, (1, 1)), (4, 1, (1, 2))],
)


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """A window of a convolution, depthwise or not, or of a dense layer."""
    while True:
        geo = _geometry(rng)
        pe, simd = foldings(geo, "pixel")
        out = simd * geo.groups_at_once(pe)
        bits = int(rng.integers(1, 9))
        fits = np.flatnonzero(out * bits <= LARGEST_WORD)
        if not fits.size:
            continue
        wanted = 2 ** rng.uniform(0, np.log2(out[fits].max() + 1))
        near = fits[np.abs(np.log2(out[fits] / wanted)) <= 1]
        if not near.size:
            continue
        chosen = int(rng.choice(near))
        sample = _sample(rng, family, geo, bits, int(pe[chosen]), int(simd[chosen]))
        if sample is not None:
            return sample


def _sample(
    rng: np.random.Generator, family: Family, geo: Geometry, bits: int, pe: int, simd: int
) -> Sample | None:
    counts = window(geo, bits, np.array(pe), np.array(simd))
    (memory,) = counts.memories
    size = int(memory.width * memory.depth * memory.banks)
    if size > LARGEST_BUFFER or (size == 0 and rng.random() < 0.8):
        return None
    style = "block" if int(memory.depth) > 64 and rng.random() < 0.5 else "distributed"
    if style == "distributed" and int(memory.depth) > 1024:
        style = "block"
    return Sample(
        parameters={
            "pe": pe,
            "simd": simd,
            "bits": bits,
            "c_in": geo.c_in,
            "c_out": geo.c_out,
            "groups": geo.groups,
            "k": geo.k,
            "stride": geo.stride,
            "pad": geo.pad[0],
            "pad_after": geo.pad[1],
            "h_in": geo.h_in,
            "w_in": geo.w_in,
            "style": style,
        },
        unit=Window(geo, bits, pe=pe, simd=simd, style=style, family=family),
        counts=counts,
        styles=(style,),
    )


def _geometry(rng: np.random.Generator) -> Geometry:
    channels = [1, 2, 3, 6, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512]
    k, stride, pad = KERNELS[int(rng.integers(len(KERNELS)))]
    c_in, c_out = (int(rng.choice(channels)) for _ in range(2))
    groups = 1
    kind = rng.random()
    if k > 1 and kind < 0.2:
        groups, c_in, c_out = c_in, 1, c_in
    elif k > 1 and kind < 0.3:
        groups = int(rng.choice(divisors(int(np.gcd(c_in, c_out)))))
        c_in //= groups
    if k == 1 and stride == 1 and rng.random() < 0.5:  # dense
        side = [1, 1]
    else:
        side = [int(2 ** rng.uniform(np.log2(k + 3), 7.81)) for _ in range(2)]
        if rng.random() < 0.6:
            side[0] = side[1] = int(rng.choice([7, 8, 14, 16, 28, 32, 56, 112, 224]))
    side = [max(n, k) for n in side]
    h, w = side
    h_out, w_out = ((n + sum(pad) - k) // stride + 1 for n in side)
    return Geometry(
        c_in=c_in,
        c_out=c_out,
        groups=groups,
        k=k,
        stride=stride,
        pad=pad,
        h_in=h,
        w_in=w,
        h_out=h_out,
        w_out=w_out,
        signed=False,
    )
