"""`add`: the sum of a residual branch and its bypass, clipped to the output's codes."""

from __future__ import annotations

from dataclasses import dataclass

from syq_dse.cost.counts import Counts
from syq_dse.cost.integers import Ints, cdiv, code_range, ints, range_bits
from syq_dse.cost.units.carries import carry_pairs
from syq_dse.network import Add, Node

MERGED = 4
"""Inputs of a LUT up to which a bit is clipped without a flag: it shares a LUT with an adder's."""

FEW = 2
"""Inputs of a LUT of which Yosys counts two as one."""

WIDE = 6
"""Inputs of the largest LUT."""

SMALL = 2
"""Bits up to which a sum is rounded in the LUTs that clip it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operand:
    """Codes shifted left by `offset`."""

    bits: int
    signed: bool
    offset: int

    @property
    def limits(self) -> tuple[int, int]:
        least, most = code_range(self.bits, self.signed)
        return least << self.offset, most << self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """From numbers of a range to codes: what lies outside becomes the nearest code."""

    least: int
    most: int
    bits: int  # of a code
    signed: bool

    @property
    def width(self) -> int:
        """Bits of the number."""
        return range_bits(self.least, self.most)

    @property
    def under(self) -> bool:
        return self.least < code_range(self.bits, self.signed)[0]

    @property
    def over(self) -> bool:
        return self.most > code_range(self.bits, self.signed)[1]

    @property
    def stored(self) -> int:
        """Bits of a code that are not always 0 or copies of its sign."""
        low, high = code_range(self.bits, self.signed)
        return range_bits(max(self.least, low), max(0, min(self.most, high)))

    @property
    def sign(self) -> bool:
        """Whether a code has a sign bit that can be set."""
        return self.signed and self.least < 0

    @property
    def first(self) -> int:
        """The lowest bit of the number that says, with those above it, whether it is clipped."""
        return self.bits - 1 if self.signed else self.bits

    @property
    def inputs(self) -> int:
        """Signals on which a clipped bit depends: itself, and those that say whether."""
        if not (self.over or self.under):
            return 0
        if not self.over and not self.signed:
            return 2  # the sign
        return 1 + self.width - self.first

    @property
    def flags(self) -> int:
        """Flags that LUTs of their own compute; a sign is one as it is."""
        if self.inputs <= MERGED:
            return 0
        return int(self.over) + int(self.under and self.signed)

    @property
    def copied(self) -> int:
        """Clipped bits that are the exclusive or of two: where the flag is set, they are 0.

        The numbers past the largest code are few, and so are those below zero.
        """
        if not self.over or self.signed:
            return 0
        past = self.most - (1 << self.bits)
        return sum(1 << n > past and 1 << n >= -self.least for n in range(self.bits))

    @property
    def clipped(self) -> int:
        """Bits that a LUT clips."""
        return self.stored - self.sign if self.inputs else 0


def operands(
    bits: tuple[int, int], signed: tuple[bool, bool], shifts: tuple[int, int], shift: int
) -> tuple[tuple[Operand, Operand], int]:
    """The two operands and the right shift, without the left shift that all have in common.

    Where nothing is shifted right both operands may be shifted left: codes end in zeros then.
    """
    common = min(*shifts, shift)
    a, b = (
        Operand(bits=n, signed=s, offset=offset - common)
        for n, s, offset in zip(bits, signed, shifts, strict=True)
    )
    return (a, b), shift - common


def clip(pair: tuple[Operand, Operand], shift: int, out_bits: int, out_signed: bool) -> Clip:
    """The clipping of a rounded and shifted sum."""
    half = (1 << shift) >> 1
    least, most = (
        sum(ends) + half >> shift for ends in zip(*(p.limits for p in pair), strict=True)
    )
    return Clip(least=least, most=most, bits=out_bits, signed=out_signed)


def adder_bits(pair: tuple[Operand, Operand], read: int | None = None) -> int:
    """Bits of an adder where both operands are more than zeros.

    The copies of two signs past both operands count once.

    Args:
        read: low bits of the sum that matter; None: all.
    """
    low, high = sorted(pair, key=lambda p: p.offset)
    ends = low.offset + low.bits, high.offset + high.bits
    stop = max(end if p.signed else 0 for p, end in ((high, ends[0]), (low, ends[1])))
    count = max(min(ends), min(stop, max(ends)))
    return max(0, (count if read is None else min(count, read)) - high.offset)


def clip_luts(clipping: Clip, lanes: int, merged: int = 0) -> dict[str, Ints]:
    """Bits that LUTs clip, by their inputs, and the LUTs of flags.

    Args:
        merged: bits of a lane that the LUT of what comes before clips.
    """
    bits = clipping.clipped
    few = bits if clipping.inputs == FEW else min(bits, clipping.copied)
    top = clipping.width - clipping.first
    return {
        "sign_bits": ints(lanes * max(0, few - merged)),
        "clip_bits": ints(lanes * (bits - few + merged)),
        "clip_flags": ints(lanes * clipping.flags * (top <= MERGED)),
        "wide_flags": ints(lanes * clipping.flags * cdiv(top - 1, WIDE - 1) * (top > MERGED)),
    }


def add(
    node: Node,
    bits: tuple[int, int],
    out_bits: int,
    lanes: int,
    *,
    signed: tuple[bool, bool] = (True, True),
    shifts: tuple[int, int] = (0, 0),
    shift: int | None = None,
) -> Counts:
    """Counts of `lanes` adders; what aligns the operands is wiring.

    Args:
        signed: of the two operands.
        shift: by which the sum is divided, rounding; None: so that the wider operand's codes become
            the output's.
    """
    if shift is None:
        shift = max(0, max(bits) - out_bits)
    assert isinstance(node.layer, Add)
    pair, right = operands(bits, signed, shifts, shift)
    clipping = clip(pair, right, out_bits, not node.layer.relu)
    low, high = sorted(pair, key=lambda p: p.offset)
    # The bit that rounds is an operand of its own but where it is the carry in of an adder.
    rounds = 0 < right < high.offset or right == high.offset >= low.bits
    merged = 0
    if right > high.offset:
        if clipping.width > SMALL:
            rounds = True
        elif clipping.inputs:
            merged = clipping.stored
        else:
            rounds, merged = True, clipping.width - 1
    # codes end in zeros, or, where they are clipped, in ones
    summed, zeros = adder_bits(pair) + rounds, 0 if clipping.over else low.offset
    pairs = int(carry_pairs(clipping.width - high.offset * (right == 0)))
    if right > high.offset:
        least, most = (
            sum(ends) >> high.offset for ends in zip(low.limits, high.limits, strict=True)
        )
        pairs += int(carry_pairs(range_bits(least, most)))
    if clipping.stored == 0:  # always 0
        summed = merged = pairs = 0
    elif 0 < right <= high.offset and not any(
        end + (1 << right - 1) >> right for end in low.limits
    ):
        summed = pairs = 0  # rounded, the low operand is nothing
        zeros = high.offset - right if not clipping.over else 0
    return Counts(
        lut={
            "adder_bits": ints(lanes * summed),
            "carry_pairs": ints(lanes * pairs),
            **clip_luts(clipping, lanes, merged),
        },
        ff=ints(lanes * (clipping.stored - zeros) + 1),
        gates=lambda: _gates(pair, right, clipping, lanes),
        work={"adder_bits": ints(node.out_shape.size * (max(bits) + 1))},
    )


def clip_gates(clipping: Clip, lanes: int) -> dict[str, Ints]:
    """What clipping takes in silicon: bits that are set or cleared, and those that say when."""
    body = clipping.stored - clipping.sign
    sides = clipping.over + (clipping.under and clipping.signed)
    return {
        "set_bits": ints(lanes * body * clipping.over),
        "clear_bits": ints(lanes * body * clipping.under),
        "top_bits": ints(lanes * sides * max(0, clipping.width - clipping.first)),
    }


def _gates(
    pair: tuple[Operand, Operand], right: int, clipping: Clip, lanes: int
) -> dict[str, Ints]:
    """Bits of the sum by what meets in them, and whether more than their carry is read.

    Of a sum that is rounded behind its adder all bits are counted once more by themselves.
    """
    kinds = [f"{kind}{carries}" for carries in ("", "_carries") for kind in BITS]
    found = dict.fromkeys((*kinds, *(f"rounded_{kind}" for kind in kinds), "round_bits"), 0)
    if clipping.stored == 0:
        lanes = 0
    low, high = sorted(pair, key=lambda p: p.offset)
    ends = zip(low.limits, high.limits, strict=True)
    whole = range_bits(*(sum(values) >> high.offset for values in ends)) + high.offset
    for place in range(high.offset, whole):
        inside = [place < p.offset + p.bits for p in (low, high)]
        if all(inside):
            kind = "full_adders"
        elif any(inside):
            other = high if inside[0] else low
            # a sign alone, without bits below it, is nothing or one that is taken away
            alone = other.offset + other.bits - high.offset <= 1
            kind = "sign_adders" if other.signed and not alone else "half_adders"
        else:
            kind = "top_adders"
        if place < right - 1 or clipping.stored == 1:  # one bit says whether the sum is large
            kind += "_carries"
        found[kind] += lanes
        if right > high.offset:
            found[f"rounded_{kind}"] += lanes
    found["round_bits"] = lanes * clipping.width * (right > 0)
    return {name: ints(count) for name, count in found.items()} | clip_gates(clipping, lanes)


BITS = ("full_adders", "sign_adders", "half_adders", "top_adders")
"""Bits of a sum: of both operands, of one and the other's sign, of one alone, of two signs."""
