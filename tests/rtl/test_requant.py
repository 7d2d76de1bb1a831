"""`requant` against the arithmetic that it stands for, at any rate and under back-pressure."""

from __future__ import annotations

import bisect
import importlib.util
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from amaranth import Module
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.rtl import dsp
from syq_dse.rtl.requant import Multiply, Thresholds
from syq_dse.rtl.stream import Unit
from syq_dse.rtl.verilog import emit
from syq_dse.target import load_family

from .streams import pack, run, unpack

XCUP = load_family("xcup")
RATES = st.sampled_from([1.0, 0.6, 0.3])


def accumulators(rng: random.Random, acc: int, count: int) -> list[int]:
    """Random ones, many near 0, and the extremes; never the lowest."""
    high = (1 << acc - 1) - 1
    near = [rng.randint(-min(high, 9), min(high, 9)) for _ in range(count)]
    far = [rng.randint(-high, high) for _ in range(count)]
    return [rng.choice([a, b, high, -high]) for a, b in zip(near, far, strict=True)]


def thresholds(rng: random.Random, acc: int, bits: int, channels: int) -> list[list[int]]:
    span = (1 << acc - 1) + 3
    draw = [lambda: rng.randint(-span, span), lambda: rng.randint(-10, 10)]
    return [sorted(rng.choice(draw)() for _ in range(2**bits - 1)) for _ in range(channels)]


def searched(
    words: list[list[int]], table: list[list[int]], pe: int, acc: int, bits: int
) -> list[int]:
    folds = len(table) // pe
    return [
        pack([bisect.bisect_right(table[n % folds * pe + p], a) for p, a in enumerate(word)], bits)
        for n, word in enumerate(words)
    ]


@settings(max_examples=25, deadline=None)
@given(
    acc=st.integers(2, 14),
    bits=st.integers(1, 5),
    pe=st.sampled_from([1, 2, 3, 4, 6]),
    folds=st.integers(1, 5),
    period=st.integers(1, 30),
    style=st.sampled_from(["distributed", "block"]),
    rates=st.tuples(RATES, RATES),
    seed=st.integers(0, 10**6),
)
def test_thresholds_are_counted(
    acc: int,
    bits: int,
    pe: int,
    folds: int,
    period: int,
    style: str,
    rates: tuple[float, float],
    seed: int,
) -> None:
    rng = random.Random(seed)
    table = thresholds(rng, acc, bits, folds * pe)
    unit = Thresholds(
        acc, bits, folds * pe, pe=pe, period=period, thresholds=table, style=style, family=XCUP
    )
    words = [accumulators(rng, acc, pe) for _ in range(3 * folds + 2)]
    want = searched(words, table, pe, acc, bits)
    got, _ = run(unit, [pack(w, acc) for w in words], len(words), seed, *rates, quiet=20)
    assert got == want


@settings(max_examples=25, deadline=None)
@given(
    acc=st.integers(2, 30),
    bits=st.integers(1, 8),
    pe=st.sampled_from([1, 2, 3, 4, 6]),
    folds=st.integers(1, 4),
    period=st.integers(1, 9),
    signed=st.booleans(),
    dsp=st.booleans(),
    style=st.sampled_from(["distributed", "block"]),
    rates=st.tuples(RATES, RATES),
    seed=st.integers(0, 10**6),
)
def test_multiply_add_shift_clip(
    acc: int,
    bits: int,
    pe: int,
    folds: int,
    period: int,
    signed: bool,
    dsp: bool,
    style: str,
    rates: tuple[float, float],
    seed: int,
) -> None:
    rng = random.Random(seed)
    channels = folds * pe
    shift = rng.randint(0, acc + 18)
    gains = [rng.choice([rng.randint(-(2**15), 2**15 - 1), -(2**15)]) for _ in range(channels)]
    top = 1 << acc + 15
    offsets = [rng.choice([rng.randint(-top, top - 1), -top, top - 1, 0]) for _ in range(channels)]
    unit = Multiply(
        acc,
        bits,
        channels,
        pe=pe,
        period=period,
        gains=gains,
        offsets=offsets,
        shift=shift,
        signed=signed,
        dsp=dsp,
        style=style,
        family=XCUP,
    )
    words = [[*accumulators(rng, acc, pe - 1), -(1 << acc - 1)] for _ in range(3 * folds + 2)]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    want = []
    for n, word in enumerate(words):
        at = n % folds * pe
        values = [(a * gains[at + p] + offsets[at + p]) >> shift for p, a in enumerate(word)]
        want.append([min(max(v, low), high) for v in values])
    got, _ = run(unit, [pack(w, acc) for w in words], len(words), seed, *rates, quiet=20)
    assert [unpack(word, bits, pe, signed) for word in got] == want


@pytest.mark.parametrize("acc", [2, 3, 6, 8])
@pytest.mark.parametrize("seed", range(3))
def test_products_with_constants(acc: int, seed: int) -> None:
    """Every accumulator, times gains with no digit, one, few far apart, and many."""
    rng = random.Random(seed)
    gains = [0, 1, -1, 2**14, -(2**15), 2**15 - 1, 2**14 + 1, -(2**13) - 1, 0b0101010101010101]
    gains += [rng.randint(-(2**15), 2**15 - 1) for _ in range(7)]
    pe, bits, shift = len(gains), 8, rng.randint(0, acc + 8)
    top = 1 << acc + 15
    offsets = [rng.choice([rng.randint(-top, top - 1), -top, top - 1, 0]) for _ in gains]
    unit = Multiply(
        acc, bits, pe, pe=pe, period=1, gains=gains, offsets=offsets, shift=shift,
        signed=bool(seed % 2), dsp=False, style="distributed", family=XCUP,
    )  # fmt: skip
    words = [[a] * pe for a in range(-(1 << acc - 1), 1 << acc - 1)]
    low, high = (-128, 127) if seed % 2 else (0, 255)
    got, _ = run(unit, [pack(word, acc) for word in words], len(words), seed, 1.0, 1.0, quiet=20)
    want = [
        [
            min(max((a * g + o) >> shift, low), high)
            for a, g, o in zip(w, gains, offsets, strict=True)
        ]
        for w in words
    ]
    assert [unpack(word, bits, pe, bool(seed % 2)) for word in got] == want


@pytest.mark.parametrize(
    ("pe", "period", "bits"), [(1, 1, 3), (4, 2, 3), (4, 3, 3), (6, 8, 2), (6, 13, 2), (4, 16, 4)]
)
@pytest.mark.parametrize("style", ["distributed", "block"])
def test_a_word_every_period(pe: int, period: int, bits: int, style: str) -> None:
    rng = random.Random(pe)
    table = thresholds(rng, 8, bits, 2 * pe)
    common = {"pe": pe, "period": period, "style": style, "family": XCUP}
    units = [
        Thresholds(8, bits, 2 * pe, thresholds=table, **common),
        Multiply(
            8,
            bits,
            2 * pe,
            gains=[3] * 2 * pe,
            offsets=[1] * 2 * pe,
            shift=4,
            signed=False,
            dsp=True,
            **common,
        ),
    ]
    for unit in units:
        words = [pack(accumulators(rng, 8, pe), 8) for _ in range(20)]
        _, cycles = run(unit, words, len(words))
        assert cycles <= period * len(words) + bits + 3


class Product(Unit):
    """a * b of one word, in the same cycle: what an emitted DSP is checked with."""

    def __init__(self, a: int, b: int, family: str) -> None:
        super().__init__(a + b, a + b)
        self.a, self.family = a, load_family(family)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        product = dsp.multiply(m, self.s_data[: self.a], self.s_data[self.a :], self.family, "p")
        m.d.comb += [
            self.m_data.eq(product),
            self.m_valid.eq(self.s_valid),
            self.s_ready.eq(self.m_ready),
        ]
        return m


def products(folder: Path, verilog: str, a: int, b: int, more: list[str]) -> None:
    """Simulate an emitted Product by Icarus Verilog, extremes and random numbers."""
    rng = random.Random(a * b)
    pairs = [(x, y) for x in (-(1 << a - 1), (1 << a - 1) - 1, -1, 0) for y in (-(1 << b - 1), 1)]
    pairs += [(signed_bits(rng, a), signed_bits(rng, b)) for _ in range(30)]
    checks = "".join(
        f"    s_data = {a + b}'d{pack([x], a) | pack([y], b) << a}; #1;\n"
        f'    if (m_data !== {a + b}\'d{pack([x * y], a + b)}) $display("wrong %b", s_data);\n'
        for x, y in pairs
    )
    (folder / "dut.v").write_text(verilog)
    (folder / "bench.v").write_text(
        f"module bench;\n  reg [{a + b - 1}:0] s_data;\n  wire [{a + b - 1}:0] m_data;\n"
        "  product dut(.s_data(s_data), .m_data(m_data), .s_valid(1'b1), .m_ready(1'b1));\n"
        f'  initial begin\n{checks}    $display("done"); $finish;\n  end\nendmodule\n'
    )
    run_program = ["iverilog", "-g2012", "-s", "bench", *more, "-o", "bench", "dut.v", "bench.v"]
    subprocess.run(run_program, cwd=folder, check=True, capture_output=True)
    done = subprocess.run(["vvp", "bench"], cwd=folder, check=True, capture_output=True, text=True)
    assert done.stdout.split("\n")[0] == "done", done.stdout


def signed_bits(rng: random.Random, bits: int) -> int:
    return rng.getrandbits(bits) - (1 << bits - 1)


NO_ICARUS = pytest.mark.skipif(shutil.which("iverilog") is None, reason="needs iverilog")


@NO_ICARUS
@pytest.mark.parametrize("family", ["xcup", "xc7", "ecp5"])
@pytest.mark.parametrize(("a", "b"), [(18, 18), (9, 8), (40, 16)])
def test_emitted_products_without_primitives(tmp_path: Path, family: str, a: int, b: int) -> None:
    verilog = emit({"product": Product(a, b, family)})["product"]
    products(tmp_path, verilog, a, b, [])


@NO_ICARUS
@pytest.mark.parametrize(("a", "b"), [(25, 18), (9, 8), (40, 16)])
def test_primitive_of_a_dsp48e1(tmp_path: Path, a: int, b: int) -> None:
    """Against the model of the primitive that Yosys comes with."""
    share = Path(importlib.util.find_spec("pyosys").origin).parent / "share"
    text = (share / "xilinx" / "cells_sim.v").read_text()
    start = text.index("module DSP48E1 (")
    (tmp_path / "dsp48e1.v").write_text(
        text[start : text.index("endmodule", start)] + "endmodule\n"
    )
    verilog = emit({"product": Product(a, b, "xc7")})["product"]
    products(tmp_path, verilog, a, b, ["-DSYNTHESIS", "dsp48e1.v"])
