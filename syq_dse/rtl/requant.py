"""`requant`: accumulators to codes, by a search of thresholds or by multiply, add, shift, clip."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from amaranth import Cat, Const, Module, Mux, ResetSignal, Shape, Signal
from amaranth.hdl import Value

from syq_dse.cost.integers import divisors
from syq_dse.cost.units.requant import GAIN_BITS, constant_apart, threshold_words
from syq_dse.rtl import dsp
from syq_dse.rtl.memory import Memory, table
from syq_dse.rtl.select import select
from syq_dse.rtl.stream import Unit, lanes, register
from syq_dse.rtl.turns import Turns, blocked, collect, count, deliver, shares
from syq_dse.target import Family


class Thresholds(Unit):
    """y = the number of thresholds t of its channel with acc >= t.

    Input: pe accumulators of `acc` bits, signed, never the lowest number of that width; lane p of
    the n-th word is of channel n * pe + p, modulo `channels`. Output: pe codes of `bits`.

    A search takes a comparison a bit, from the middle threshold down a tree. With
    period >= bits, a comparator serves as many lanes as keep up, one comparison a cycle, with
    one table of thresholds by {channel, node}; the word stays at the input. Else each lane is a
    pipeline of `bits` comparators, level j with a table of 2**j thresholds a fold.

    Args:
        period: cycles from one word to the next, at the fastest.
        thresholds: 2**bits - 1 ascending ones for each channel, of any size.
        style: where the tables are, or where each of the counts' memories is: the shared table,
            then those of the levels. The first level's table is in LUTs.
    """

    def __init__(
        self,
        acc: int,
        bits: int,
        channels: int,
        *,
        pe: int,
        period: int,
        thresholds: Sequence[Sequence[int]],
        style: str | Sequence[str],
        family: Family,
    ) -> None:
        super().__init__(pe * acc, pe * bits)
        assert channels % pe == 0 and len(thresholds) == channels
        assert all(len(of) == 2**bits - 1 for of in thresholds)
        self.acc, self.bits, self.pe, self.family = acc, bits, pe, family
        self.folds = channels // pe
        self.serial = period >= bits
        self.g = max([d for d in divisors(pe) if d * bits <= period], default=1)
        self.styles = [style] * (bits + 1) if isinstance(style, str) else list(style)
        self.words: list[list[int]] = threshold_words(
            acc, np.array(thresholds, dtype=np.int64)
        ).tolist()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        accumulators = [Cat(lane[:-1], ~lane[-1]) for lane in lanes(self.s_data, self.acc)]
        if self.serial:
            self._serial(m, accumulators)
        else:
            self._pipeline(m, accumulators)
        return m

    def _node(self, channel: int, level: int, index: int) -> int:
        """The threshold between the codes that begin with `index` and 0, and with it and 1."""
        half = 1 << self.bits - 1 - level
        return self.words[channel][(2 * index + 1) * half - 1]

    def _at_least(self, accumulator: Value, word: Value) -> Value:
        return (word + accumulator)[self.acc]

    def _serial(self, m: Module, accumulators: list[Value]) -> None:
        bits, g = self.bits, self.g
        banks = self.pe // g
        depth = self.folds * g * (2**bits if bits > 1 else 1)
        block = self.styles[0] == "block" and depth > 1
        step, finish = Signal(), Signal()
        # {1, code so far}: the node of the tree, from 1 on; 0 before a block RAM's first word
        heads = [
            Signal(bits, name=f"node_{i}", init=not block, reset_less=not block)
            for i in range(banks)
        ]
        deep = heads[0][-1] if bits > 1 else Const(1)  # the last comparison of a search
        nodes = [Cat(head[:-1], deep) for head in heads]  # all are equally deep
        fresh: Value = Const(0)
        if block and bits > 1:
            fresh = nodes[0] == 0
        elif block:
            primed = Signal()
            m.d.sync += primed.eq(1)
            fresh = ~primed
        turns = Turns(m, step & deep, g, self.folds)
        m.d.comb += [
            finish.eq(deep & turns.last),
            step.eq(self.s_valid & ~fresh & ~(finish & blocked(self))),
            self.s_ready.eq(finish & ~fresh & ~blocked(self)),
        ]
        chosen = shares(m, accumulators, g, turns.lane)
        codes = []
        for index, (head, accumulator) in enumerate(zip(heads, chosen, strict=True)):
            node = nodes[index]
            words = [
                self._word(fold * self.pe + index * g + lane, of)
                for fold in range(self.folds)
                for lane in range(g)
                for of in range(2**bits if bits > 1 else 1)
            ]
            higher = Signal(name=f"higher_{index}")
            following = Cat(higher, node[:-1])
            path = [node] if bits > 1 else []
            if block:
                memory = Memory(self.acc, depth, "block", self.family, words)
                m.submodules[f"thresholds_{index}"] = memory
                place = Mux(deep & ~fresh, self._after(turns), turns.place)
                start = deep | fresh
                path = [Mux(start, Const(1, bits), following)] if bits > 1 else []
                m.d.comb += [
                    memory.r_en.eq(step | fresh),
                    memory.r_addr.eq(Cat(*path, place) if self.folds * g > 1 else path[0]),
                ]
                word = memory.r_data
            else:
                address = Cat(*path, turns.place) if self.folds * g > 1 else Cat(*path)
                word = _table(m, f"thresholds_{index}", address, words, self.acc)
            m.d.comb += higher.eq(self._at_least(accumulator, word))
            codes.append(following)
            if block and bits > 1:
                with m.If(step | fresh):
                    m.d.sync += head.eq(Mux(deep | fresh, 1, following))
            elif bits > 1:  # the same by the reset of the flip-flops
                with m.If(ResetSignal() | (step & deep)):
                    m.d.sync += head.eq(1)
                with m.Elif(step):
                    m.d.sync += head.eq(following)
        word = collect(m, codes, g, step & deep)
        deliver(self, m, word, step & finish)

    def _word(self, channel: int, node: int) -> int:
        if self.bits == 1:
            return self.words[channel][0]
        if node == 0:  # there is none; unlike node 1, so that the table stays regular
            return ~self._node(channel, 0, 0) & ((1 << self.acc) - 1)
        level = node.bit_length() - 1
        return self._node(channel, level, node - (1 << level))

    def _after(self, turns: Turns) -> Value:
        states = self.folds * self.g
        following = (turns.place + 1)[: len(turns.place)]
        if states & (states - 1) == 0:
            return following
        return Mux(turns.place == states - 1, 0, following)

    def _pipeline(self, m: Module, accumulators: list[Value]) -> None:
        step = ~blocked(self)
        m.d.comb += self.s_ready.eq(step)
        valid: Value = self.s_valid
        fold: Value = count(m, "fold", self.folds, step & self.s_valid)
        paths: list[Value] = [Const(0, 0)] * self.pe  # the code's bits so far
        ahead: list[Value] = []  # what the paths and the fold were before their registers
        for level in range(self.bits):
            after: list[Value] = []
            for lane in range(self.pe):
                word = self._level(m, level, lane, Cat(paths[lane], fold), ahead, step)
                path = Signal(level + 1, name=f"next_{level}_{lane}")
                m.d.comb += path.eq(Cat(self._at_least(accumulators[lane], word), paths[lane]))
                after.append(path)
            if level == self.bits - 1:
                deliver(self, m, Cat(*after), step & valid)
                return
            names = [f"{level}_{lane}" for lane in range(self.pe)]
            kept = [register(level + 1, f"path_{name}") for name in names]
            moved = [register(self.acc, f"acc_{name}") for name in names]
            passed, turn = Signal(name=f"valid_{level}"), register(len(fold), f"fold_{level}")
            with m.If(step):
                m.d.sync += [passed.eq(valid), turn.eq(fold)]
                m.d.sync += [r.eq(v) for r, v in zip(kept, after, strict=True)]
                m.d.sync += [r.eq(v) for r, v in zip(moved, accumulators, strict=True)]
            ahead = [Cat(path, fold) for path in after]
            valid, fold, paths, accumulators = passed, turn, list(kept), list(moved)

    def _level(
        self, m: Module, level: int, lane: int, address: Value, ahead: Sequence[Value], step: Value
    ) -> Value:
        """The word of the threshold that a lane meets at a level."""
        words = [
            self._node(fold * self.pe + lane, level, index)
            for fold in range(self.folds)
            for index in range(2**level)
        ]
        name = f"thresholds_{level}_{lane}"
        if level and self.styles[1 + level] == "block" and len(words) > 1:
            memory = m.submodules[name] = Memory(self.acc, len(words), "block", self.family, words)
            m.d.comb += [memory.r_en.eq(step), memory.r_addr.eq(ahead[lane])]
            return memory.r_data
        return _table(m, name, address, words, self.acc)


def _table(m: Module, name: str, address: Value, words: Sequence[int], width: int) -> Value:
    """A table of any depth: tiles of a slice's LUTs and multiplexers, joined."""
    tiles = [
        table(m, f"{name}_{first}", address[:TILE_BITS], words[first : first + TILE], width)
        for first in range(0, len(words), TILE)
    ]
    return select(m, address[TILE_BITS:], tiles, f"{name}_")


TILE_BITS = 8
TILE = 1 << TILE_BITS
"""Words that the LUTs of one column of a tile hold: deeper tables Yosys maps worse."""


class Multiply(Unit):
    """y = clip((acc * gain + offset) >> shift), to the codes of `bits` bits.

    Input and output as of Thresholds, for any accumulator; the output is unsigned or `signed`.
    A multiplier serves as many lanes as keep up; the word stays at the input. Three registers:
    accumulator and gain; product and offset; code.

    Args:
        gains: signed, GAIN_BITS bits, for each channel.
        offsets: signed, acc + GAIN_BITS bits, for each channel.
        style: where the tables are, or where each of gains and offsets is.
        dsp: multiply in DSPs; else in LUTs.
    """

    def __init__(
        self,
        acc: int,
        bits: int,
        channels: int,
        *,
        pe: int,
        period: int,
        gains: Sequence[int],
        offsets: Sequence[int],
        shift: int,
        signed: bool,
        dsp: bool,
        style: str | Sequence[str],
        family: Family,
    ) -> None:
        super().__init__(pe * acc, pe * bits)
        assert channels % pe == 0 and len(gains) == len(offsets) == channels
        assert shift >= 0
        self.acc, self.bits, self.pe, self.family = acc, bits, pe, family
        self.gains, self.offsets, self.shift = gains, offsets, shift
        self.signed, self.dsp = signed, dsp
        self.folds = channels // pe
        self.g = max(d for d in divisors(pe) if d <= period)
        self.styles = [style] * 2 if isinstance(style, str) else list(style)
        for values, width in ((gains, GAIN_BITS), (offsets, acc + GAIN_BITS)):
            assert all(-(1 << width - 1) <= v < 1 << width - 1 for v in values)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product_bits = self.acc + GAIN_BITS
        step, taken = Signal(), Signal()
        turns = Turns(m, taken, self.g, self.folds)
        m.d.comb += [taken.eq(self.s_valid & step), self.s_ready.eq(turns.last & step)]

        # first register: accumulator and gain
        chosen = shares(m, lanes(self.s_data, self.acc), self.g, turns.lane)
        gains = self._table(m, "gains", 0, turns.place, self.gains, GAIN_BITS, step)
        valid_1, last_1 = Signal(), self._flag(m, step, turns.last, "last_1")
        place_1 = register(len(turns.place), "place_1")
        held = [register(self.acc, f"acc_{i}") for i in range(len(chosen))]
        with m.If(step):
            m.d.sync += [valid_1.eq(self.s_valid), place_1.eq(turns.place)]
            m.d.sync += [h.eq(c) for h, c in zip(held, chosen, strict=True)]

        # second: product and offset
        offsets = self._table(m, "offsets", 1, place_1, self.offsets, product_bits, step)
        valid_2, last_2 = Signal(), self._flag(m, step, last_1, "last_2")
        # outside of the condition: inside, every operand would be gated by it
        operands = list(zip(held, gains, strict=True))
        constant = isinstance(gains[0], Const) and not self.dsp  # products are not negative then
        if self.dsp:
            multiplied = [
                dsp.multiply(m, h, gain, self.family, f"product_{i}")
                for i, (h, gain) in enumerate(operands)
            ]
        elif constant:
            of = [gain.value for gain in gains if isinstance(gain, Const)]
            multiplied = [
                dsp.by_constant(m, h, gain, f"product_{i}")
                for i, (h, gain) in enumerate(zip(held, of, strict=True))
            ]
            offsets = [  # modulo
                Const(
                    offset.value + constant_apart(self.acc, gain),
                    Shape(product_bits + 1, signed=True),
                )
                for offset, gain in zip(offsets, of, strict=True)
                if isinstance(offset, Const)
            ]
        else:
            multiplied = dsp.multiply_luts(m, operands, "products")
        products = [register(len(value), f"product_{i}") for i, value in enumerate(multiplied)]
        with m.If(step):
            m.d.sync += valid_2.eq(valid_1)
            m.d.sync += [p.eq(v) for p, v in zip(products, multiplied, strict=True)]

        # third: code
        codes = [
            self._clip(m, raised[: product_bits + 1].as_signed() >> self.shift, str(i))
            for i, raised in enumerate(
                (p if constant else p.as_signed()) + offset.as_signed()
                for p, offset in zip(products, offsets, strict=True)
            )
        ]
        m.d.comb += step.eq(~(valid_2 & last_2 & blocked(self)))
        word = collect(m, codes, self.g, step & valid_2)
        deliver(self, m, word, step & valid_2 & last_2)
        return m

    def _table(
        self,
        m: Module,
        name: str,
        which: int,
        place: Value,
        values: Sequence[int],
        width: int,
        step: Value,
    ) -> list[Value]:
        """The values of the channels whose turn it is, one for each multiplier, a cycle later."""
        g, count = self.g, self.pe // self.g
        mask = (1 << width) - 1
        words = []
        for turn in range(self.folds * g):
            fold, lane = divmod(turn, g)
            of = [values[fold * self.pe + i * g + lane] & mask for i in range(count)]
            words.append(sum(value << i * width for i, value in enumerate(of)))
        if len(words) == 1:
            signs = [value - (value >> width - 1 << width) for value in of]
            return [Const(value, Shape(width, signed=True)) for value in signs]
        memory = Memory(count * width, len(words), self.styles[which], self.family, words)
        m.submodules[name] = memory
        m.d.comb += [memory.r_addr.eq(place), memory.r_en.eq(step)]
        return lanes(memory.r_data, width)

    def _flag(self, m: Module, step: Value, value: Value, name: str) -> Value:
        """A register of the flag of a share's last lane; no register where each is the last."""
        if self.g == 1:
            return Const(1)
        flag = register(1, name)
        with m.If(step):
            m.d.sync += flag.eq(value)
        return flag

    def _clip(self, m: Module, value: Value, name: str) -> Value:
        """The code nearest to a signed value."""
        width = max(len(value), self.bits + 2)
        wide = Signal(Shape(width, signed=True), name=f"wide_{name}")
        m.d.comb += wide.eq(value)
        sign = wide[-1]
        if self.signed:
            above = wide[self.bits - 1 : -1]
            outside = (above ^ sign.replicate(len(above))).any()
            edge = Cat((~sign).replicate(self.bits - 1), sign)
            return Mux(outside, edge, wide[: self.bits])
        over = wide[self.bits : -1].any()
        return (wide[: self.bits] | over.replicate(self.bits)) & (~sign).replicate(self.bits)
