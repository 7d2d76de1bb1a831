"""Additions drawn at random: residual branches of ResNets."""

from __future__ import annotations

import numpy as np

from syq_dse.cost.units.add import add
from syq_dse.network import Add, Node, Shape
from syq_dse.rtl.add import Adder
from syq_dse.rtl.samples import Sample
from syq_dse.target import Family


def draw(rng: np.random.Generator, family: Family) -> Sample:
    """An addition of a signed branch and a bypass that is signed where it is projected."""
    bits = (8 if rng.random() < 0.5 else int(rng.integers(2, 9)), int(rng.integers(1, 9)))
    signed = (True, bool(rng.random() < 0.5))
    relu = bool(rng.random() < 0.8)
    out_bits = int(rng.integers(1 if relu else 3, 9))
    lanes = round(2 ** rng.uniform(0, 7))
    shifts, shift = (0, 0), max(0, max(bits) - out_bits)
    if rng.random() < 0.5:
        offset = int(rng.integers(0, 4))
        shifts = (offset, 0) if rng.random() < 0.5 else (0, offset)
        shift = max(0, shift + int(rng.integers(-1, 3)))
    shape = Shape(lanes, 8, 8)
    node = Node(Add(name="add", inputs=("a", "b"), relu=relu), ("a", "b"), shape, shape)
    return Sample(
        parameters={
            "a_bits": bits[0],
            "b_bits": bits[1],
            "b_signed": int(signed[1]),
            "a_shift": shifts[0],
            "b_shift": shifts[1],
            "out_bits": out_bits,
            "out_signed": int(not relu),
            "shift": shift,
            "lanes": lanes,
        },
        unit=Adder(
            bits=bits,
            signed=signed,
            shifts=shifts,
            out_bits=out_bits,
            out_signed=not relu,
            shift=shift,
            lanes=lanes,
        ),
        counts=add(node, bits, out_bits, lanes, signed=signed, shifts=shifts, shift=shift),
    )
