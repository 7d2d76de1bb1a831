"""The compiled simulation against Amaranth's simulator and against Python."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from amaranth import Cat, Module, Mux, Signal
from amaranth.lib.wiring import Component, In, Out
from amaranth.sim import Simulator

from syq_dse.errors import InputError
from syq_dse.rtl import simulate
from syq_dse.rtl.memory import Memory, table
from syq_dse.rtl.stream import Unit, register
from syq_dse.rtl.verilog import emit
from syq_dse.target import load_family


def stage(m: Module, unit: Any, go: Any) -> None:
    """The valid bit of a unit with one output register; `go` is when it takes its inputs."""
    valid = Signal()
    m.d.comb += unit.m_valid.eq(valid)
    with m.If(go):
        m.d.sync += valid.eq(1)
    with m.Elif(unit.m_ready):
        m.d.sync += valid.eq(0)


class Plus(Unit):
    """s + t + a table of the low bits of s, one output register."""

    WORDS = tuple(range(7, 39))

    def __init__(self, width: int) -> None:
        super().__init__(width, width, {"t": width})
        self.width = width

    def elaborate(self, platform: object) -> Module:
        m = Module()
        go, total = Signal(), register(self.width, "total")
        m.d.comb += go.eq(self.s_valid & self.t_valid & (~self.m_valid | self.m_ready))
        m.d.comb += [self.s_ready.eq(go), self.t_ready.eq(go), self.m_data.eq(total)]
        word = table(m, "words", self.s_data[:5], self.WORDS, 6) if self.width > 5 else 0
        with m.If(go):
            m.d.sync += total.eq(self.s_data + self.t_data + word)
        stage(m, self, go)
        return m

    def expected(self, s: int, t: int) -> int:
        word = self.WORDS[s % 32] if self.width > 5 else 0
        return (s + t + word) % 2**self.width


class Delay(Unit):
    """For each word the one `depth` - 1 words before it, 0 at first, from a memory."""

    def __init__(self, width: int, depth: int, style: str) -> None:
        super().__init__(width, width)
        self.width, self.depth, self.style = width, depth, style

    def elaborate(self, platform: object) -> Module:
        m = Module()
        memory = m.submodules.memory = Memory(
            self.width, self.depth, self.style, load_family("xcup")
        )
        go, at, after = Signal(), Signal(range(self.depth)), Signal(range(self.depth))
        m.d.comb += [
            go.eq(self.s_valid & (~self.m_valid | self.m_ready)),
            after.eq(Mux(at == self.depth - 1, 0, at + 1)),
            self.s_ready.eq(go),
            memory.w_en.eq(go),
            memory.w_addr.eq(at),
            memory.w_data.eq(self.s_data),
            memory.r_en.eq(go),
            memory.r_addr.eq(after),
            self.m_data.eq(memory.r_data),
        ]
        with m.If(go):
            m.d.sync += at.eq(after)
        stage(m, self, go)
        return m


class Products(Unit):
    """Many statements: each lane times the next one, in a register a lane."""

    def __init__(self, lanes: int) -> None:
        super().__init__(8 * lanes, 8 * lanes)
        self.lanes = lanes

    def elaborate(self, platform: object) -> Module:
        m = Module()
        go = Signal()
        held = [register(8, f"product_{i}") for i in range(self.lanes)]
        m.d.comb += go.eq(self.s_valid & (~self.m_valid | self.m_ready))
        m.d.comb += [self.s_ready.eq(go), self.m_data.eq(Cat(*held))]
        parts = [self.s_data[8 * i : 8 * i + 8] for i in range(self.lanes)]
        with m.If(go):
            m.d.sync += [product.eq(parts[i] * parts[i - 1] + i) for i, product in enumerate(held)]
        stage(m, self, go)
        return m


class Lookup(Unit):
    """The word of a table that each input word addresses."""

    def __init__(self, contents: list[int], width: int, style: str) -> None:
        super().__init__((len(contents) - 1).bit_length(), width)
        self.contents, self.width, self.style = contents, width, style

    def elaborate(self, platform: object) -> Module:
        m = Module()
        memory = m.submodules.memory = Memory(
            self.width, len(self.contents), self.style, load_family("xcup"), self.contents
        )
        go = Signal()
        m.d.comb += [
            go.eq(self.s_valid & (~self.m_valid | self.m_ready)),
            self.s_ready.eq(go),
            memory.r_en.eq(go),
            memory.r_addr.eq(self.s_data),
            self.m_data.eq(memory.r_data),
        ]
        stage(m, self, go)
        return m


class Wires(Unit):
    """No state at all: the word with its halves swapped, at once."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += [
            self.m_data.eq(self.s_data.rotate_left(len(self.s_data) // 2)),
            self.m_valid.eq(self.s_valid),
            self.s_ready.eq(self.m_ready),
        ]
        return m


class Fickle(Unit):
    """Breaks the rule: shows another word while the first one waits."""

    def __init__(self) -> None:
        super().__init__(8, 8)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count = Signal(8)
        m.d.sync += count.eq(count + 1)
        m.d.comb += [self.m_valid.eq(1), self.m_data.eq(count), self.s_ready.eq(1)]
        return m


class Lamp(Component):
    """No streams."""

    def __init__(self) -> None:
        super().__init__({"button": In(1), "light": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.light.eq(~self.button)
        return m


def built(unit: Component, folder: Path) -> simulate.Simulation:
    return simulate.compile(emit({"top": unit})["top"], "top", folder)


def words(width: int, count: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(width) for _ in range(count)]


def amaranth(unit: Unit, fed: list[int], count: int) -> tuple[list[int], list[int], list[int]]:
    """Words and their cycles, and the cycles of the inputs, at full rate in Amaranth."""
    out: list[int] = []
    times: list[int] = []
    taken: list[int] = []

    async def bench(ctx: Any) -> None:
        ctx.set(unit.m_ready, 1)
        cycle = 0
        while len(out) < count:
            more = len(taken) < len(fed)
            ctx.set(unit.s_valid, int(more))
            ctx.set(unit.s_data, fed[len(taken)] if more else 0)
            if ctx.get(unit.m_valid):
                out.append(ctx.get(unit.m_data))
                times.append(cycle)
            if more and ctx.get(unit.s_ready):
                taken.append(cycle)
            await ctx.tick()
            cycle += 1

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return out, times, taken


@pytest.mark.parametrize("width", [1, 33, 500])
def test_words_of_any_width_under_any_back_pressure(width: int, tmp_path: Path) -> None:
    unit = Plus(width)
    simulation = built(unit, tmp_path)
    assert (simulation.inputs, simulation.output) == ({"s": width, "t": width}, width)
    s, t = words(width, 100, 1), words(width, 100, 2)
    expected = [unit.expected(a, b) for a, b in zip(s, t, strict=True)]
    full = simulate.run(simulation, {"s": s, "t": t}, 100)
    assert full.words == expected
    assert full.times == list(range(1, 101)) and full.s_times["t"] == list(range(100))
    assert full.cycles == 101
    seen = set()
    for seed, (s_rate, m_rate) in enumerate([(0.5, 1.0), (1.0, 0.3), (0.6, 0.6), (0.6, 0.6)]):
        fed = {"s": s, "t": t}
        slow = simulate.run(simulation, fed, 100, s_rate=s_rate, m_rate=m_rate, seed=seed)
        again = simulate.run(simulation, fed, 100, s_rate=s_rate, m_rate=m_rate, seed=seed)
        assert slow.words == expected
        assert slow == again
        assert slow.cycles > 120
        seen.add(tuple(slow.times))
    assert len(seen) == 4


@pytest.mark.parametrize(
    ("width", "depth", "style"),
    [(9, 5, "distributed"), (80, 1500, "block"), (75, 4100, "ultra")],
)
def test_memories_are_as_in_amaranth(width: int, depth: int, style: str, tmp_path: Path) -> None:
    fed = words(width, depth + 300, 3)
    simulation = built(Delay(width, depth, style), tmp_path)
    found = simulate.run(simulation, {"s": fed}, len(fed))
    assert found.words == [0] * (depth - 1) + fed[: len(fed) - depth + 1]
    short = simulate.run(simulation, {"s": fed}, 300)
    out, times, taken = amaranth(Delay(width, depth, style), fed, 300)
    assert (short.words, short.times, short.s_times) == (out, times, {"s": taken})


@pytest.mark.parametrize("style", ["distributed", "block"])
def test_tables_hold_their_words(style: str, tmp_path: Path) -> None:
    contents = words(50, 1200, 6)
    fed = random.Random(7).choices(range(len(contents)), k=400)
    simulation = built(Lookup(contents, 50, style), tmp_path)
    found = simulate.run(simulation, {"s": fed}, len(fed), m_rate=0.8)
    assert found.words == [contents[address] for address in fed]


def test_large_modules_are_split_and_stay_right(tmp_path: Path) -> None:
    lanes = 64
    simulation = built(Products(lanes), tmp_path)
    assert "::part_2(" in (tmp_path / "top.cc").read_text("utf-8")
    fed = words(8 * lanes, 200, 4)
    expected = []
    for word in fed:
        parts = word.to_bytes(lanes, "little")
        expected.append(bytes((parts[i] * parts[i - 1] + i) % 256 for i in range(lanes)))
    found = simulate.run(simulation, {"s": fed}, 200, s_rate=0.7, m_rate=0.7)
    assert found.words == [int.from_bytes(word, "little") for word in expected]


def test_a_module_without_a_clock(tmp_path: Path) -> None:
    width = 4000
    fed = words(width, 50, 5)
    found = simulate.run(built(Wires(width), tmp_path), {"s": fed}, 50, m_rate=0.5)
    assert found.words == [
        word >> width // 2 | word % 2 ** (width // 2) << width // 2 for word in fed
    ]
    assert found.times == found.s_times["s"]


def test_what_is_said_of_a_run_that_fails(tmp_path: Path) -> None:
    simulation = built(Plus(8), tmp_path / "plus")
    fed = {"s": [1, 2, 3], "t": [1, 2]}
    cases: list[tuple[dict[str, list[int]], dict[str, Any], str]] = [
        (
            fed,
            {"limit": 50},
            "top: 3 of 5 words are missing after 50 cycles, words read: 2 of 's', 2 of 't'; "
            "feed more words or raise the limit",
        ),
        ({"s": [1, 256]}, {}, "top: s[1]: a word must be unsigned of 8 bits, got 256"),
        ({"t": [-1]}, {}, "top: t[0]: a word must be unsigned of 8 bits, got -1"),
        ({"u": [1]}, {}, "top: unknown input stream 'u'; known: s, t"),
        (fed, {"s_rate": 0.0}, "top: s_rate must be above 0 and at most 1, got 0.0"),
        (fed, {"m_rate": 1.5}, "top: m_rate must be above 0 and at most 1, got 1.5"),
    ]
    for inputs, options, message in cases:
        with pytest.raises(InputError) as error:
            simulate.run(simulation, inputs, 5, **options)
        assert str(error.value) == message
    fickle = built(Fickle(), tmp_path / "fickle")
    assert simulate.run(fickle, {}, 5).words == [0, 1, 2, 3, 4]
    rule = r"top: m_valid or m_data changed in cycle \d+, before the word was taken"
    with pytest.raises(InputError, match=rule):
        simulate.run(fickle, {}, 50, m_rate=0.5)


def test_what_is_said_of_modules_and_compilers_that_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verilog = emit({"top": Wires(4)})["top"]
    with pytest.raises(InputError, match="other: the Verilog holds no such module"):
        simulate.compile(verilog, "other", tmp_path)
    rule = "top: the ports must be clk, rst and streams .*; missing or unknown: button, light, m_"
    with pytest.raises(InputError, match=rule):
        built(Lamp(), tmp_path)
    monkeypatch.setenv("CXX", "no-such-compiler -x")
    with pytest.raises(InputError, match="CXX: must be a C\\+\\+ compiler, got 'no-such-compiler'"):
        simulate.compile(verilog, "top", tmp_path)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"needs a C\+\+ compiler, found none .*; install g\+\+"):
        simulate.compile(verilog, "top", tmp_path)


def test_an_error_of_the_compiler_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verilog = emit({"top": Wires(4)})["top"]
    monkeypatch.setattr(simulate, "FLAGS", ("-std=c++14", "-no-such-flag"))
    with pytest.raises(InputError, match=r"top: .*: .*error.*no-such-flag.*, exit code 1"):
        simulate.compile(verilog, "top", tmp_path)
