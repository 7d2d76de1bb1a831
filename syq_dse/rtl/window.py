"""The `window` unit: from a feature map to the windows that an engine works on, part by part."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from amaranth import Cat, Const, Module, Mux, Signal
from amaranth.hdl import Value

from syq_dse.cost import folding
from syq_dse.cost.folding import Geometry
from syq_dse.cost.integers import ints
from syq_dse.cost.units import window as cost
from syq_dse.rtl.memory import Memory
from syq_dse.rtl.stream import Unit, lanes, mux_lanes, register
from syq_dse.target import Family


class Window(Unit):
    """Windows of a feature map.

    In: words of `word_channels` codes, `words_a_pixel` a pixel, pixels row by row. Out, for every
    output pixel, neuron fold and synapse fold: a word of simd codes of each group that is worked on
    at once, group by group; padding is the code 0.

    A word passes in no cycle where each is read once, in one where it is read again; else the first
    output comes one cycle (shift registers) or two (circular buffer) after the last word that it
    needs, and the last ones of an image some cycles later where no image follows.
    Without stalls from outside, an image takes `cycles(geo, pe, simd)` in steady state.

    Args:
        bits: of a code.
        style: of the memory: "distributed", "block" or "ultra".
    """

    def __init__(
        self, geo: Geometry, bits: int, *, pe: int, simd: int, style: str, family: Family
    ) -> None:
        self.geo, self.bits, self.pe, self.simd = geo, bits, pe, simd
        self.style, self.family = style, family
        p, s = ints(pe), ints(simd)
        self.groups = int(geo.groups_at_once(p))
        self.width = int(folding.word_channels(geo, p, s)) * bits
        self.folds = int(cost.folds_a_block(geo, p))
        super().__init__(self.width, simd * self.groups * bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        p, s = ints(self.pe), ints(self.simd)
        if cost.passes(self.geo, p, s):
            m.d.comb += [
                self.m_valid.eq(self.s_valid),
                self.m_data.eq(self.s_data),
                self.s_ready.eq(self.m_ready),
            ]
        elif cost.repeats(self.geo, p, s):
            self._repeat(m)
        elif cost.shifted(self.geo, p, s):
            _Chain(self, m)
        else:
            _Ring(self, m)
        return m

    def _repeat(self, m: Module) -> None:
        """Read a word several times, out of a register: the producer goes on with the next one."""
        word, valid = register(self.width, "word"), Signal()
        step, free = Signal(), Signal()
        _, last = _count(m, "fold", self.folds, step)
        m.d.comb += [
            step.eq(valid & self.m_ready),
            free.eq(~valid | (step & last)),
            self.s_ready.eq(free),
            self.m_valid.eq(valid),
            self.m_data.eq(word),
        ]
        with m.If(free):
            m.d.sync += [valid.eq(self.s_valid), word.eq(self.s_data)]

    def by_group(self, words: Sequence[Value]) -> Value:
        """Words of several kernel positions, as one that has group after group."""
        parts = [lanes(word, self.width // self.groups) for word in words]
        return Cat(*(part[group] for group in range(self.groups) for part in parts))


def _count(m: Module, name: str, states: int, step: Value) -> tuple[Value, Value]:
    """A counter that moves on with `step`, and whether it is at its last state."""
    if states == 1:
        return Const(0, 0), Const(1)
    counter = Signal(range(states), name=name)
    last = Signal(name=f"{name}_last")
    m.d.comb += last.eq(counter == states - 1)
    with m.If(step):
        m.d.sync += counter.eq(counter + 1)
        if states & (states - 1):
            with m.If(last):
                m.d.sync += counter.eq(0)
    return counter, last


def _within(counter: Value, edge: tuple[int, int], states: int) -> Value:
    """edge[0] <= counter < edge[1]"""
    above = counter >= edge[0] if edge[0] > 0 else Const(1)
    return above & (counter < edge[1] if edge[1] < states else Const(1))


class _Chain:
    """k * k pixel registers with line delays: every pixel that comes moves the window by one.

    A window is complete when the pixel in its middle came `lag` pixels ago. The last ones of an
    image are moved by pixels of the next one, or by anything where none of those comes for a few
    cycles (`gap` counts them): what lies outside the image is masked. Without that patience an
    engine with no cycle to spare would pay for each pixel that is a cycle late.
    """

    def __init__(self, unit: Window, m: Module) -> None:
        self.unit, self.geo = unit, unit.geo
        geo, k, width = unit.geo, unit.geo.k, unit.width
        move, create, full, free = Signal(), Signal(), Signal(), Signal()
        leave = Signal()
        m.d.comb += leave.eq(full & unit.m_ready)
        _, last_fold = _count(m, "fold", unit.folds, leave)
        m.d.comb += free.eq(~full | (unit.m_ready & last_fold))
        with m.If(free):
            m.d.sync += full.eq(create)
        at_end = self._places(m, create)
        lag = cost.lag(geo)
        if lag:
            gap = Signal(range(lag + 1), init=lag)
            came, _ = _count(m, "came", geo.h_in * geo.w_in, free & unit.s_valid)
            flush = Signal()
            patience = Signal(range(cost.PATIENCE), init=cost.PATIENCE - 1)
            between = (came == 0) & ~at_end
            with m.If(free & unit.s_valid):
                m.d.sync += patience.eq(cost.PATIENCE - 1)
            with m.Elif(free & between & (patience != 0)):
                m.d.sync += patience.eq(patience - 1)
            m.d.comb += [
                flush.eq(between & (patience == 0)),
                move.eq(free & (unit.s_valid | flush)),
                create.eq(move & (~at_end | (gap == 0))),
            ]
            waits = at_end & (gap != 0)
            with m.If(move & (waits | (flush & ~unit.s_valid))):
                m.d.sync += gap.eq(gap + Mux(at_end, Const(-1, len(gap)), 1))
        else:
            m.d.comb += [move.eq(free & unit.s_valid), create.eq(move)]
        pixels = [[register(width, f"pixel_{y}_{x}") for x in range(k)] for y in range(k)]
        line = geo.w_in - k
        memory = m.submodules.memory = Memory((k - 1) * width, line, unit.style, unit.family)
        at = Signal(range(line))
        after = Signal(range(line))
        m.d.comb += after.eq(at + 1)
        if line & (line - 1):
            with m.If(at == line - 1):
                m.d.comb += after.eq(0)
        m.d.comb += [
            memory.w_en.eq(move),
            memory.w_addr.eq(at),
            memory.w_data.eq(Cat(*(row[0] for row in pixels[1:]))),
            memory.r_en.eq(move),
            memory.r_addr.eq(after),
        ]
        behind = [*lanes(memory.r_data, width), unit.s_data]
        with m.If(move):
            m.d.sync += at.eq(after)
            for row, new in zip(pixels, behind, strict=True):
                m.d.sync += [a.eq(b) for a, b in zip(row, [*row[1:], new], strict=True)]
        words = [
            pixels[y][x] & self.inside[y][x].replicate(width) for y in range(k) for x in range(k)
        ]
        m.d.comb += [
            unit.s_ready.eq(free),
            unit.m_valid.eq(full),
            unit.m_data.eq(unit.by_group(words)),
        ]

    def _places(self, m: Module, create: Value) -> Value:
        """Which positions of the window lie inside, and whether it is the image's last."""
        geo, k = self.geo, self.geo.k
        row = Signal(range(geo.h_in), init=geo.h_in - 1)
        column = Signal(range(geo.w_in), init=geo.w_in - 1)
        last_row, last_column = Signal(), Signal()
        m.d.comb += [last_row.eq(row == geo.h_in - 1), last_column.eq(column == geo.w_in - 1)]
        next_row, next_column = Signal.like(row), Signal.like(column)
        m.d.comb += [
            next_column.eq(Mux(last_column, 0, column + 1)),
            next_row.eq(Mux(last_row, 0, row + 1)),
        ]
        with m.If(create):
            m.d.sync += column.eq(next_column)
            with m.If(last_column):
                m.d.sync += row.eq(next_row)
        before = geo.pad[0]
        self.inside: list[list[Value]] = [[Const(1)] * k for _ in range(k)]
        rows, columns = [], []
        for at in range(k):
            in_row, in_column = Signal(name=f"row_{at}"), Signal(name=f"column_{at}")
            edge = cost.outside(geo, at, geo.h_in, geo.h_out)
            m.d.comb += in_row.eq(_within(Mux(last_column, next_row, row), edge, geo.h_out))
            edge = cost.outside(geo, at, geo.w_in, geo.w_out)
            m.d.comb += in_column.eq(_within(next_column, edge, geo.w_out))
            rows.append(in_row)
            columns.append(in_column)
        for y in range(k):
            for x in range(k):
                if (y, x) != (before, before):
                    flag = register(1, f"inside_{y}_{x}")
                    with m.If(create):
                        m.d.sync += flag.eq(rows[y] & columns[x])
                    self.inside[y][x] = flag
        return last_row & last_column


class _Ring:
    """A circular buffer, a copy for each kernel position that is read at once.

    `level` counts, in words and zeros, by how much more than the reader's window is there; `held`
    the words from the window's first one on, less the depth. The window's parts are read one a
    cycle; its last part lets go what the next window does not need.
    """

    def __init__(self, unit: Window, m: Module) -> None:
        geo = self.geo = cost.flattened(unit.geo)
        p, s = ints(unit.pe), ints(unit.simd)
        self.unit = unit
        self.words = int(folding.words_a_pixel(unit.geo, p, s))
        self.depth = int(cost.depth(unit.geo, p, s, ints(unit.width)))
        self.pixels = int(cost.positions_at_once(geo, s))
        self.block = int(cost.words_a_block(geo, s))
        self.blocks = int(cost.blocks(geo, p))
        self.padded = cost.is_padded(geo)
        self.read, self.write = Signal(name="read"), Signal(name="write")
        self.full = Signal(name="full")
        valid = Signal(name="valid")
        reads = self._reader(m)
        memories = self._memories(m, reads)
        m.d.comb += [
            self.write.eq(unit.s_valid & unit.s_ready),
            unit.s_ready.eq(~self.full),
            self.read.eq(self.complete & (~valid | unit.m_ready)),
            unit.m_valid.eq(valid),
            unit.m_data.eq(unit.by_group(memories)),
        ]
        with m.If(~valid | unit.m_ready):
            m.d.sync += valid.eq(self.complete)

    def _reader(self, m: Module) -> list[Value]:
        """The counters of the reader; the addresses that it reads at, one for each position."""
        geo, depth, words, pixels = self.geo, self.depth, self.words, self.pixels
        step: Value = self.read
        lasts: list[Value] = []

        def count(name: str, states: int) -> Value:
            nonlocal step
            value, last = _count(m, name, states, step)
            step = step & last
            lasts.append(last)
            return value

        count("part", self.block)
        kernel = [
            count(f"kernel_{i}", n) for i, n in enumerate(cost.kernel_counters(geo.k, pixels))
        ]
        count("fold", self.unit.folds)
        count("block", self.blocks)
        by_row, by_column = cost.counts_places(geo)
        self.step = Signal(name="step")  # the window is done
        m.d.comb += self.step.eq(step)
        column = count("column", geo.w_out if by_column else 1)
        row = count("row", geo.h_out if by_row else 1)
        self.lasts = lasts
        self.row, self.column, self.kernel = row, column, kernel
        self._levels(m)

        steps = cost.moves(geo)
        leader: dict[tuple[int, ...], list[int]] = {}
        for at in range(pixels):
            pattern = tuple(
                self._offset(i + at) - self._offset(at) for i in range(0, geo.k**2, pixels)
            )
            leader.setdefault(pattern, []).append(at)
        reads: list[Value] = [Const(0)] * pixels
        for index, (pattern, members) in enumerate(leader.items()):
            span = pattern[-1] + self.block - 1
            jumps: list[Any] = [1]
            if len(kernel) == 2:
                across = (geo.k // pixels - 1) * pixels * words
                jumps.append(pixels * words - (self.block - 1))
                jumps.append(geo.w_in * words - across - (self.block - 1))
            else:
                inner = [b - a - (self.block - 1) for a, b in pairwise(pattern)]
                if len(set(inner)) <= 1:
                    jumps.append(inner[0] if inner else 0)
                else:
                    jumps.append(inner)
            jumps += [-span, self.block - span]
            back = -span - (self.blocks - 1) * self.block
            jumps += [back + steps.pixel * words, back + steps.row * words]
            image = back + steps.image * words
            address = Signal(
                range(depth), init=steps.start * words % depth, name=f"address_{index}"
            )
            self._advance(m, address, jumps, image)
            for at in members:
                reads[at] = address
        return reads

    def _offset(self, place: int) -> int:
        """Words from a window's first kernel position to another."""
        k = self.geo.k
        return (place // k * self.geo.w_in + place % k) * self.words

    def _advance(self, m: Module, address: Signal, jumps: Sequence[Any], image: int) -> None:
        """Move an address by the jump of the innermost counter that is not at its last state."""
        depth = self.depth

        def chosen(less: int) -> Value:
            bits = len(address) + 1

            def constant(jump: int) -> Value:
                return Const((jump % depth - less) % (1 << bits), bits)

            delta = constant(image)
            for last, jump in reversed(list(zip(self.lasts, jumps, strict=True))):
                if isinstance(last, Const):
                    continue
                here = (
                    mux_lanes(self.kernel[0], [constant(j) for j in [*jump, 0]])
                    if isinstance(jump, list)
                    else constant(jump)
                )
                delta = Mux(last, delta, here)
            total = Signal(bits)
            m.d.comb += total.eq(address + delta)
            return total

        plain = chosen(0)
        with m.If(self.read):
            if depth & (depth - 1):
                wrapped = chosen(depth)
                m.d.sync += address.eq(Mux(wrapped[-1], plain, wrapped))
            else:
                m.d.sync += address.eq(plain)

    def _levels(self, m: Module) -> None:
        """Whether the window is complete, and whether the buffer is full."""
        geo, words = self.geo, self.words
        column_last, row_last = self.lasts[-2:]
        size = ints(self.depth)
        bits = int(cost.level_bits(geo, ints(words), size))
        self.complete = Signal(name="complete")
        needs = cost.reach(geo) * words
        zeros = [0, 0, 0]
        row_end: Value = Const(0)
        image_end: Value = Const(0)
        start = 0
        if self.padded:
            between, after = cost.zeros(geo)
            zeros = [0, between * words, (between + after) * words]
            start = geo.pad[0] * (folding.padded(geo)[1] + 1) * words
            _, row_end = _count(m, "written", geo.w_in * words, self.write)
            lines = geo.h_in if after else 1
            _, image_end = _count(m, "written_row", lines, self.write & row_end)
        level = Signal(bits, name="level", init=(start - needs) % (1 << bits))
        moved = cost.padded_moves(geo)

        def change(steps: cost.Steps, zeros: Sequence[int], bits: int) -> Value:
            def written(step: int) -> Value:
                more = [Const((1 + z - step * words) % (1 << bits), bits) for z in zeros]
                some = Mux(row_end, Mux(image_end, more[2], more[1]), more[0])
                return Mux(self.write, some, Const(-step * words % (1 << bits), bits))

            far = Mux(row_last, written(steps.image), written(steps.row))
            return Mux(self.step, Mux(column_last, far, written(steps.pixel)), written(0))

        m.d.sync += level.eq(level + change(moved, zeros, bits))
        m.d.comb += self.complete.eq(~level[-1])
        if not self.padded:
            m.d.comb += self.full.eq(level == self.depth - needs)
            return
        freed = cost.frees(geo)
        bits = int(cost.room_bits(geo, ints(words), size))
        held = -freed.start * words - self.depth
        room = Signal(bits, name="held", init=held % (1 << bits))
        m.d.sync += room.eq(room + change(freed, [0, 0, 0], bits))
        m.d.comb += self.full.eq(~room[-1])

    def _memories(self, m: Module, reads: Sequence[Value]) -> list[Value]:
        """What is read of each kernel position: a copy's word, or zeros where it is padding."""
        unit, geo = self.unit, self.geo
        here, heads = cost.live(geo, self.pixels), cost.heads_at(geo, self.pixels, self.words)
        of = cost.edges(geo, self.pixels)
        out: list[Value] = [Const(0, unit.width)] * self.pixels
        outside: dict[cost.Edges, Value] = {}
        behind: Value = Const(0)
        for at in here:
            head = Signal(range(self.depth), init=-self._offset(at) % self.depth, name=f"head_{at}")
            with m.If(self.write):
                if at in heads:
                    m.d.sync += head.eq(head + 1)
                    if self.depth & (self.depth - 1):
                        with m.If(head == self.depth - 1):
                            m.d.sync += head.eq(0)
                else:
                    m.d.sync += head.eq(behind)
            behind = head
            edge = of[at]
            masks = not cost.never(geo, edge)
            copy = Memory(unit.width, self.depth, unit.style, unit.family, clears=masks)
            m.submodules[f"copy_{at}"] = copy
            m.d.comb += [
                copy.w_en.eq(self.write),
                copy.w_addr.eq(head),
                copy.w_data.eq(unit.s_data),
                copy.r_en.eq(self.read),
                copy.r_addr.eq(reads[at]),
            ]
            out[at] = copy.r_data
            if masks:
                if edge not in outside:
                    outside[edge] = Signal(name=f"outside_{at}")
                    m.d.comb += outside[edge].eq(~self._inside(edge))
                m.d.comb += copy.r_clear.eq(outside[edge])
        return out

    def _inside(self, edge: cost.Edges) -> Value:
        """Whether the kernel position of this step is inside the image."""
        geo, kernel = self.geo, self.kernel
        rows = [_within(self.row, e, geo.h_out) for e in edge.rows]
        columns = [_within(self.column, e, geo.w_out) for e in edge.columns]
        if len(kernel) == 2:  # columns are in the inner counter
            inner = geo.k // self.pixels
            return mux_lanes(kernel[1], rows[::inner]) & mux_lanes(kernel[0], columns[:inner])
        return mux_lanes(kernel[0], [a & b for a, b in zip(rows, columns, strict=True)])
