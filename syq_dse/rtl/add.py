"""`add`: the sum of a residual branch and its bypass, clipped to the output's codes."""

from __future__ import annotations

from amaranth import Cat, Const, Module, Signal, signed
from amaranth.hdl import Value

from syq_dse.cost.integers import range_bits
from syq_dse.cost.units import add as counts
from syq_dse.rtl.memory import table
from syq_dse.rtl.stream import Unit, lanes, register


class Adder(Unit):
    """y = clip(((a << shifts[0]) + (b << shifts[1]) + half) >> shift), lane by lane.

    half = 1 << (shift - 1), or 0 where shift is 0. Streams: a is "s", b is "t"; one register.

    Args:
        bits, signed: of a and b.
    """

    def __init__(
        self,
        *,
        bits: tuple[int, int],
        signed: tuple[bool, bool],
        shifts: tuple[int, int],
        out_bits: int,
        out_signed: bool,
        shift: int,
        lanes: int,
    ) -> None:
        super().__init__(bits[0] * lanes, out_bits * lanes, {"t": bits[1] * lanes})
        self.bits = bits
        self.operands, self.shift = counts.operands(bits, signed, shifts, shift)
        self.clip = counts.clip(self.operands, self.shift, out_bits, out_signed)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid, go = Signal(), Signal()
        # A table, or Yosys merges the enable into the LUTs of all bits, which then share none.
        signals = Cat(self.s_valid, self.t_valid, self.m_ready, valid)
        words = [int(n & 3 == 3 and n >> 2 != 2) for n in range(16)]
        passed = table(m, "passed", signals, words, 1, counted=False)
        m.d.comb += [
            go.eq(~valid | self.m_ready),
            self.s_ready.eq(go & self.t_valid),
            self.t_ready.eq(go & self.s_valid),
            self.m_valid.eq(valid),
        ]
        with m.If(go):
            m.d.sync += valid.eq(self.s_valid & self.t_valid)
        codes = []
        pairs = zip(lanes(self.s_data, self.bits[0]), lanes(self.t_data, self.bits[1]), strict=True)
        for lane, (a, b) in enumerate(pairs):
            number = Signal(self.clip.width, name=f"number_{lane}")
            m.d.comb += number.eq(self._sum(m, a, b, lane))
            code = register(self.clip.stored, f"code_{lane}")
            # outside of the condition, which would else mask what tables of the clip read
            result = clipped(m, self.clip, number, f"clip_{lane}")
            with m.If(passed):
                m.d.sync += code.eq(result)
            codes.append(extended(self.clip, code))
        m.d.comb += self.m_data.eq(Cat(*codes))
        return m

    def _sum(self, m: Module, a: Value, b: Value, lane: int) -> Value:
        """The sum, rounded and shifted: one carry chain, and one more where all low bits matter."""
        (low, p), (high, q) = sorted(
            zip(self.operands, (a, b), strict=True), key=lambda pair: pair[0].offset
        )
        x = p.as_signed() if low.signed else p.as_unsigned()
        y = q.as_signed() if high.signed else q.as_unsigned()
        shift, offset = self.shift, high.offset
        if shift == 0:
            return (x << low.offset) + (y << offset)
        if shift <= offset:  # the low operand alone says how to round
            return (x >> shift) + (y << (offset - shift)) + bit(x, shift - 1)
        least, most = (
            (c >> offset) + (d >> offset) for c, d in zip(low.limits, high.limits, strict=True)
        )
        bits = range_bits(least, most)
        total = Signal(signed(bits) if least < 0 else bits, name=f"total_{lane}")
        m.d.comb += total.eq((x >> offset) + y)
        return (total >> (shift - offset)) + bit(total, shift - offset - 1)


def bit(value: Value, index: int) -> Value:
    """A bit of a number, past its last one too."""
    if index < len(value):
        return value[index]
    return value[-1] if value.shape().signed else Const(0, 1)


def clipped(m: Module, clip: counts.Clip, number: Value, name: str) -> Value:
    """The stored bits of the code of a number of `clip.width` bits."""
    body = clip.stored - clip.sign
    code = number[:body]
    top = number[clip.first :]
    negative = number[-1] if clip.least < 0 else Const(0, 1)
    if clip.inputs:
        over: Value = Const(0, 1)
        under: Value = negative if clip.under else Const(0, 1)
        if clip.flags:
            pairs = [_outside(clip, value) for value in range(1 << len(top))]
            if clip.signed and clip.under:
                words = [o | u << 1 for o, u in pairs]
                both = table(m, name, top, words, 2, counted=False)
                over, under = both[0], both[1]
            else:
                over = table(m, name, top, [o for o, _ in pairs], 1, counted=False)
        elif clip.signed:
            over = ~negative & top.any()
            under = negative & ~top.all()
        elif clip.over:
            over = top.any()
        code = (code | over.replicate(body)) & ~under.replicate(body)
    return Cat(code, negative) if clip.sign else code


def _outside(clip: counts.Clip, top: int) -> tuple[bool, bool]:
    """Whether a number whose top bits these are lies above, or below, all codes."""
    bits = clip.width - clip.first
    negative = clip.least < 0 and bool(top >> (bits - 1))
    over = top > 0 if not negative else False
    under = negative and (not clip.signed or top != (1 << bits) - 1)
    return over, under


def extended(clip: counts.Clip, code: Value) -> Value:
    """A whole code from its stored bits."""
    fill = code[-1] if clip.sign else Const(0, 1)
    return Cat(code, fill.replicate(clip.bits - len(code)))
