"""`pool`: the maximum or the mean over pixels of a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth import Cat, Const, Module, Mux, Signal, signed
from amaranth.hdl import Value

from syq_dse.cost.integers import signed_digits
from syq_dse.cost.units import pool as counts
from syq_dse.cost.units.add import Clip
from syq_dse.cost.units.pool import Gain, Run, Tile
from syq_dse.network import Node
from syq_dse.rtl.add import bit, clipped, extended
from syq_dse.rtl.memory import Memory, table
from syq_dse.rtl.stream import Unit, lanes, register
from syq_dse.target import Family


class Pool(Unit):
    """Units one behind the other."""

    def __init__(self, units: Sequence[Unit]) -> None:
        super().__init__(len(units[0].s_data), len(units[-1].m_data))
        self.units = units

    def elaborate(self, platform: object) -> Module:
        m = Module()
        ends = [(self.s_valid, self.s_ready, self.s_data)]
        for index, unit in enumerate(self.units):
            m.submodules[f"step_{index}"] = unit
            valid, ready, data = ends[-1]
            m.d.comb += [unit.s_valid.eq(valid), ready.eq(unit.s_ready), unit.s_data.eq(data)]
            ends.append((unit.m_valid, unit.m_ready, unit.m_data))
        valid, ready, data = ends[-1]
        m.d.comb += [self.m_valid.eq(valid), ready.eq(self.m_ready), self.m_data.eq(data)]
        return m


class MaxPool(Pool):
    """The largest code of each window; padding never wins.

    A word is `lanes` channels of a pixel, one a cycle. Rows and columns that no window covers are
    dropped. Where windows of stride 1 end in the padding behind the image, these rows and columns
    take their time too.

    Args:
        node: a max pool in its place; `lanes` divides its channels.
        style: of each memory, or of all.
    """

    def __init__(
        self,
        node: Node,
        *,
        bits: int,
        signed: bool,
        lanes: int,
        style: str | Sequence[str],
        family: Family,
    ) -> None:
        assert node.in_shape.c % lanes == 0
        parts = counts.steps(node, lanes)
        styles = _styles(parts, style)
        super().__init__(
            [
                Windows(
                    part,
                    lanes=lanes,
                    bits=(bits, bits),
                    signed=signed,
                    sums=False,
                    style=each,
                    family=family,
                )
                for part, each in zip(parts, styles, strict=True)
            ]
        )


class MeanPool(Pool):
    """y = clip((sum * gain + half) >> shift) of each window, with one constant gain.

    As MaxPool for the rest; no padding.

    Args:
        node: a mean pool, or the mean over all pixels, in its place.
        gain: None: that of a mean over the largest codes of both precisions.
    """

    def __init__(
        self,
        node: Node,
        *,
        bits: int,
        signed: bool,
        out_bits: int,
        lanes: int,
        style: str | Sequence[str],
        family: Family,
        gain: Gain | None = None,
    ) -> None:
        assert node.in_shape.c % lanes == 0 and node.pad == (0, 0)
        parts = counts.steps(node, lanes)
        pixels = counts.sums(node, parts)
        widths = [counts.sum_width(n, bits, signed) for n in pixels]
        gain = (gain or counts.mean_gain(pixels[-1], bits, out_bits)).reduced()
        clip = counts.gain_clip(gain, pixels[-1], bits, signed, out_bits)
        windows = [
            Windows(
                part,
                lanes=lanes,
                bits=each,
                signed=signed,
                sums=True,
                style=where,
                family=family,
            )
            for part, each, where in zip(
                parts,
                zip([bits, *widths], widths, strict=False),
                _styles(parts, style),
                strict=True,
            )
        ]
        super().__init__([*windows, Scaled(gain, clip, widths[-1], lanes=lanes)])


def _styles(parts: Sequence[Run | Tile], style: str | Sequence[str]) -> list[str]:
    """The style of each part's memory: those that have none, any."""
    given = iter([style] * len(parts) if isinstance(style, str) else style)
    return [next(given) if part.slots else "distributed" for part in parts]


@dataclass
class Control:
    """What happens in a step of `Windows`, as signals."""

    fresh: Value  # open windows begin here: their results so far do not count
    opens: Value  # a window begins here while others are open
    leaves: Value  # a window ends here
    last: Value  # the last position that comes
    flush: Value  # nothing comes: windows that end in the padding leave
    stored: Value  # a window covers this position
    address: Value
    following: Value  # address of the next step


class Position:
    """A counter of positions from `start` to `stop`, as the index of a window and a phase in it.

    Without `ends` it only counts phases.
    """

    def __init__(
        self, m: Module, name: str, stride: int, start: int, stop: int, ends: bool
    ) -> None:
        self.m, self.stride, self.start, self.stop, self.ends = m, stride, start, stop, ends
        windows = stop // stride + 1 if ends else 1
        self.phase = Signal(range(stride), name=f"{name}_phase", init=start % stride)
        self.index = Signal(range(windows), name=f"{name}_index", init=start // stride)
        self.full, self.ended = Signal(name=f"{name}_full"), Signal(name=f"{name}_ended")

    def at(self, position: int) -> Value:
        return (self.index == position // self.stride) & (self.phase == position % self.stride)

    def advance(self, step: Value, moves: Value) -> Value:
        """Count in a step in which `moves` is high; returns the index that follows such a step."""
        m = self.m
        m.d.comb += [
            self.full.eq(self.phase == self.stride - 1),
            self.ended.eq(self.at(self.stop) if self.ends else 0),
        ]
        with m.If(step & moves):
            m.d.sync += self.phase.eq(self.phase + 1)
        if self.stride & (self.stride - 1):  # a reset costs less than a multiplexer
            with m.If(step & moves & self.full):
                m.d.sync += self.phase.eq(0)
        if not self.ends:
            return self.index
        with m.If(step & moves & self.full):
            m.d.sync += self.index.eq(self.index + 1)
        with m.If(step & moves & self.ended):
            m.d.sync += self.phase.eq(self.phase.init)
            m.d.sync += self.index.eq(self.index.init)
        following = (self.index + (moves & self.full))[: len(self.index)]
        return following & ~(moves & self.ended).replicate(len(self.index))  # where start is 0


class Windows(Unit):
    """Running maxima, or sums, of the windows that are open; one step a cycle.

    Results so far are in a memory that is read a step ahead, or in registers.

    Args:
        bits: of a code that comes, and of a result.
    """

    def __init__(
        self,
        part: Run | Tile,
        *,
        lanes: int,
        bits: tuple[int, int],
        signed: bool,
        sums: bool,
        style: str,
        family: Family,
    ) -> None:
        super().__init__(lanes * bits[0], lanes * bits[1])
        self.part, self.lanes, self.bits, self.signed, self.sums = part, lanes, bits, signed, sums
        self.style, self.family = style, family

    def elaborate(self, platform: object) -> Module:
        m = Module()
        part = self.part
        step, valid = Signal(), Signal()
        control = run(m, part, step) if isinstance(part, Run) else tile(m, part, step)
        leaves, flush = Signal(), Signal()
        m.d.comb += [leaves.eq(control.leaves), flush.eq(control.flush)]
        room = ~valid | self.m_ready if part.shared else ~(leaves & valid) | self.m_ready
        m.d.comb += [
            step.eq((self.s_valid | flush) & room),
            self.s_ready.eq(~flush & room),
            self.m_valid.eq(valid),
        ]
        with m.If(step & leaves):
            m.d.sync += valid.eq(1)
        with m.Elif(self.m_ready):
            m.d.sync += valid.eq(0)
        before, after, result = self._memory(m, control, step)
        self._results(m, control, before, after, result)
        if part.shared:
            m.d.comb += self.m_data.eq(before[0])
            return m
        out = register(len(self.m_data), "out")
        with m.If(step & leaves):
            m.d.sync += out.eq(result)
        m.d.comb += self.m_data.eq(out)
        return m

    def _memory(
        self, m: Module, control: Control, step: Value
    ) -> tuple[list[Signal], list[Signal], Signal]:
        """Results of the open windows before and after a step, and the one that leaves."""
        part, word = self.part, len(self.m_data)
        before = [Signal(word, name=f"before_{i}") for i in range(part.slots)]
        after = [Signal(word, name=f"after_{i}") for i in range(part.slots)]
        if not before:
            return before, after, Signal(word)
        if part.depth == 1:
            held = register(word * part.slots, "held")
            with m.If(step):
                m.d.sync += held.eq(Cat(*after))
            m.d.comb += Cat(*before).eq(held)
            return before, after, Signal(word)
        memory = Memory(word * part.slots, part.depth, self.style, self.family)
        m.submodules.memory = memory
        m.d.comb += [
            memory.w_en.eq(step & control.stored),
            memory.w_addr.eq(control.address),
            memory.w_data.eq(Cat(*after)),
            memory.r_en.eq(step),
            memory.r_addr.eq(control.following),
            Cat(*before).eq(memory.r_data),
        ]
        return before, after, Signal(word)

    def _results(
        self,
        m: Module,
        control: Control,
        before: list[Signal],
        after: list[Signal],
        result: Signal,
    ) -> None:
        """Each lane's results after a step, and what leaves."""
        results = lanes(result, self.bits[1])
        afters = [lanes(word, self.bits[1]) for word in after]
        befores = [lanes(word, self.bits[1]) for word in before]
        fresh, opens = Signal(), Signal()
        m.d.comb += [fresh.eq(control.fresh), opens.eq(control.opens)]
        for lane, code in enumerate(lanes(self.s_data, self.bits[0])):
            new = Signal(self.bits[1], name=f"new_{lane}")
            m.d.comb += new.eq(code.as_signed() if self.signed else code)
            grown: list[Value] = []
            for slot, words in enumerate(befores):
                value = Signal(self.bits[1], name=f"grown_{lane}_{slot}")
                if self.sums:
                    m.d.comb += value.eq(new + (words[lane] & ~fresh.replicate(self.bits[1])))
                    opened: Value = Mux(opens, new, value)
                elif self.bits[1] == 1 and not self.signed:
                    # no multiplexer, or Yosys makes a clock enable a lane of it
                    came = new & ~control.flush
                    m.d.comb += value.eq(came | (words[lane] & ~fresh))
                    opened = came | (words[lane] & ~fresh & ~opens)
                else:
                    larger = Signal(name=f"larger_{lane}_{slot}")
                    m.d.comb += larger.eq(self._larger(m, new, words[lane]))
                    takes = ~control.flush & (fresh | larger)
                    m.d.comb += value.eq(Mux(takes, new, words[lane]))
                    opened = Mux(takes | opens, new, words[lane])
                if slot:
                    opened = Mux(opens, grown[-1], value)
                m.d.comb += afters[slot][lane].eq(opened)
                grown.append(value)
            m.d.comb += results[lane].eq(self._leaving(control, new, grown))

    def _larger(self, m: Module, new: Value, old: Value) -> Value:
        """As the sign of a difference: a carry chain."""
        width = len(new) + 1
        difference = Signal(width)
        a, b = (old.as_signed(), new.as_signed()) if self.signed else (old, new)
        m.d.comb += difference.eq(a - b)
        return difference[-1]

    def _leaving(self, control: Control, new: Value, grown: list[Value]) -> Value:
        """The result of the oldest window; with the last position, of the only one left."""
        part = self.part
        if not grown:
            return new
        if isinstance(part, Tile) or part.late != 1 or part.end == part.last or not part.overlaps:
            return grown[-1]
        age = part.last - (part.windows - 1) * part.stride
        slot = age // part.stride - (part.last % part.stride == 0)
        if slot == len(grown) - 1:
            return grown[-1]
        return Mux(control.last, grown[slot] if slot >= 0 else new, grown[-1])


def run(m: Module, part: Run, step: Value) -> Control:
    """The steps of windows along one axis."""
    word = Signal(range(part.depth))
    following, moves = _words(m, word, part.depth, step)
    place = Position(m, "at", part.stride, part.pad, part.stop, not part.regular)
    place.advance(step, moves)
    # Registers, so that the LUTs of the lanes do not take in what these flags are made of.
    fresh, opens = Signal(init=1), Signal(init=part.pad % part.stride == 0)
    with m.If(step & moves):
        m.d.sync += fresh.eq(place.ended if part.overlaps else place.full | place.ended)
        m.d.sync += opens.eq(Mux(place.ended, opens.init, place.full))
    leaves = place.phase == (part.k - 1) % part.stride
    last: Value = Const(0, 1)
    if not part.regular:
        for position in range(part.pad, part.k - 1):
            if (part.k - 1 - position) % part.stride == 0:  # of one that began before the first
                leaves &= ~place.at(position)
        last = place.at(part.last)
        if part.late == 1 and part.end > part.last:
            leaves |= last
    flush: Value = Const(0, 1)
    if part.stop > part.last:
        flush = Cat(*(place.at(n) for n in range(part.last + 1, part.stop + 1))).any()
    return Control(
        fresh=fresh,
        opens=opens if part.overlaps and part.stride > 1 else Const(part.overlaps, 1),
        leaves=leaves,
        last=last,
        flush=flush,
        stored=Const(1, 1),
        address=word,
        following=following,
    )


def tile(m: Module, part: Tile, step: Value) -> Control:
    """The steps of windows of both axes that do not overlap."""
    word = Signal(range(part.words))
    following, pixel = _words(m, word, part.words, step)
    column = Position(m, "column", part.stride, 0, part.w - 1, True)
    index = column.advance(step, pixel)
    rows = part.rows
    row = Position(m, "row", part.stride, 0, part.h - 1, not rows.regular)
    row.advance(step, pixel & column.at(part.w - 1))
    fresh = Signal(init=1)
    with m.If(step & pixel):
        begins = Mux(column.ended, row.full | row.ended, row.phase == 0)
        m.d.sync += fresh.eq((column.full | column.ended) & begins)
    dropped = (part.w - 1) // part.stride >= part.w_out  # columns behind the last window
    return Control(
        fresh=fresh,
        opens=Const(0, 1),
        leaves=(column.phase == part.k - 1) & (row.phase == part.k - 1),
        last=Const(0, 1),
        flush=Const(0, 1),
        stored=column.index != part.w_out if dropped else Const(1, 1),
        address=Cat(word, column.index),
        following=Cat(following, index),
    )


def _words(m: Module, word: Signal, depth: int, step: Value) -> tuple[Value, Value]:
    """Count words: the one that follows a step, and whether the position then moves on."""
    last, following = Signal(), Signal(len(word))
    m.d.comb += last.eq(word == depth - 1)
    m.d.comb += following.eq(word + 1 if depth & (depth - 1) == 0 else Mux(last, 0, word + 1))
    with m.If(step):
        m.d.sync += word.eq(following)
    return following, last


class Scaled(Unit):
    """y = clip((x * factor + half) >> shift), lane by lane, x of `bits` bits; one register.

    The code of a few bits is a table.
    """

    def __init__(self, gain: Gain, clip: Clip, bits: int, *, lanes: int) -> None:
        super().__init__(bits * lanes, clip.bits * lanes)
        self.gain, self.clip, self.bits = gain, clip, bits

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid, go = Signal(), Signal()
        m.d.comb += [go.eq(~valid | self.m_ready), self.s_ready.eq(go), self.m_valid.eq(valid)]
        with m.If(go):
            m.d.sync += valid.eq(self.s_valid)
        codes = []
        for lane, code in enumerate(lanes(self.s_data, self.bits)):
            x = code.as_signed() if self.clip.signed else code
            out = register(self.clip.stored, f"code_{lane}")
            words = counts.code_table(self.gain, self.clip, self.bits)
            if words is not None:
                result = table(m, f"code_{lane}", code, words, self.clip.stored, counted=False)
            else:
                number = Signal(self.clip.width, name=f"number_{lane}")
                m.d.comb += number.eq(self._scaled(m, x, lane))
                result = clipped(m, self.clip, number, f"clip_{lane}")
            with m.If(go & self.s_valid):
                m.d.sync += out.eq(result)
            codes.append(extended(self.clip, out))
        m.d.comb += self.m_data.eq(Cat(*codes))
        return m

    def _scaled(self, m: Module, x: Value, lane: int) -> Value:
        adders = counts.multiples(self.gain.factor)
        product = x << signed_digits(self.gain.factor)[0][0]
        for number, adder in enumerate(adders):
            shifted = x << adder.position
            if adder.reverse:
                total: Value = shifted - product
            else:  # low bits that the adder does not reach
                rest = product >> adder.position
                low = (bit(product, index) for index in range(adder.position))
                total = Cat(*low, rest + x if adder.sign > 0 else rest - x)
            below = self.clip.signed or adder.result < 0
            width = self.bits + abs(adder.result).bit_length() + below
            product = Signal(signed(width) if below else width, name=f"product_{lane}_{number}")
            m.d.comb += product.eq(total)
        if self.gain.shift == 0:
            return product
        return (product >> self.gain.shift) + bit(product, self.gain.shift - 1)
