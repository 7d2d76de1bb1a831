"""The window unit against windows cut out of an array, and its pace against the cost model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth import Module, Signal
from amaranth.sim import Simulator
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from syq_dse.cost import folding
from syq_dse.cost.folding import Geometry, cycles, foldings, geometry
from syq_dse.cost.integers import ints
from syq_dse.cost.units import window as cost
from syq_dse.rtl.window import Window
from syq_dse.target import load_family
from tests.cost.shapes import conv, convs

from .streams import pack, trace

BITS = 3
FAMILY = load_family("xcup")


class Clocked(Window):
    """With a clock where the unit is nothing but wires, which the simulator would refuse."""

    def elaborate(self, platform: object) -> Module:
        m = super().elaborate(platform)
        unused = Signal()
        m.d.sync += unused.eq(~unused)
        return m


def unit(geo: Geometry, pe: int, simd: int, style: str = "distributed") -> Window:
    return Clocked(geo, BITS, pe=pe, simd=simd, style=style, family=FAMILY)


def words_in(geo: Geometry, pe: int, simd: int, image: np.ndarray) -> list[int]:
    """The image, shape (h, w, c), word by word."""
    channels = int(folding.word_channels(geo, ints(pe), ints(simd)))
    return [pack(word, BITS) for word in image.reshape(-1, channels).tolist()]


def words_out(geo: Geometry, pe: int, simd: int, image: np.ndarray) -> list[int]:
    """What the engine reads: for each output pixel, neuron fold and synapse fold."""
    groups, k = int(geo.groups_at_once(ints(pe))), geo.k
    before, side = geo.pad[0], geo.stride * max(geo.h_out, geo.w_out) + k
    padded = np.zeros((geo.h_in + side, geo.w_in + side, image.shape[2]), dtype=int)
    padded[before : before + geo.h_in, before : before + geo.w_in] = image
    words = []
    for r, c in np.ndindex(geo.h_out, geo.w_out):
        y, x = r * geo.stride, c * geo.stride
        window = padded[y : y + k, x : x + k].reshape(k * k, geo.groups, geo.c_in)
        for fold in range(geo.c_out // pe):
            first = fold * pe * geo.groups // geo.c_out
            inputs = window[:, first : first + groups].transpose(1, 0, 2).reshape(groups, -1)
            for step in range(0, geo.fan_in, simd):
                words.append(pack(inputs[:, step : step + simd].reshape(-1).tolist(), BITS))
    return words


def streams(
    geo: Geometry, pe: int, simd: int, images: int, seed: int = 0
) -> tuple[list[int], list[int]]:
    rng = np.random.default_rng(seed)
    come: list[int] = []
    read: list[int] = []
    for _ in range(images):
        shape = (geo.h_in, geo.w_in, geo.c_in * geo.groups)
        image = rng.integers(1, 2**BITS, shape)
        come += words_in(geo, pe, simd, image)
        read += words_out(geo, pe, simd, image)
    return come, read


def interval(geo: Geometry, pe: int, simd: int, style: str = "distributed") -> int:
    """Cycles between the ends of the second and the third of four images; words are checked."""
    come, read = streams(geo, pe, simd, 4)
    got, taken = trace(unit(geo, pe, simd, style), come, len(read), quiet=4)
    assert got == read
    image = len(read) // 4
    return taken[3 * image - 1] - taken[2 * image - 1]


@st.composite
def folded(draw: st.DrawFn) -> tuple[Geometry, int, int]:
    """A small convolution, and one of its foldings."""
    node = draw(convs(channels=3, side=7, groups=3))
    geo = geometry(node, signed=False)
    pe, simd = foldings(geo, "pixel")
    assume(len(pe))
    chosen = draw(st.integers(0, len(pe) - 1))
    assume(cycles(geo, pe[chosen], simd[chosen]) <= 300)
    return geo, int(pe[chosen]), int(simd[chosen])


@settings(max_examples=8, deadline=None)
@given(folded(), st.integers(0, 99), st.sampled_from([(0.5, 0.6), (0.1, 1.0), (1.0, 0.3)]))
def test_it_reads_windows_however_words_come_and_go(
    drawn: tuple[Geometry, int, int], seed: int, rates: tuple[float, float]
) -> None:
    come, read = streams(*drawn, 2, seed)
    got, _ = trace(unit(*drawn), come, len(read), seed, *rates, quiet=4)
    assert got == read


@settings(max_examples=8, deadline=None)
@given(folded())
def test_it_never_makes_the_engine_wait(drawn: tuple[Geometry, int, int]) -> None:
    assert interval(*drawn) == cycles(drawn[0], *map(ints, drawn[1:]))


@pytest.mark.parametrize("style", ["distributed", "block", "ultra"])
@pytest.mark.parametrize(
    ("node", "pe", "simd"),
    [
        pytest.param(conv(1, 2, 7, h=9, w=10, stride=2, pad=(3, 3)), 2, 7, id="7x7, a row"),
        pytest.param(conv(1, 9, 6, h=8, stride=2, pad=(2, 2)), 9, 9, id="6x6, 9: crosses rows"),
        pytest.param(conv(3, 2, 3, h=7, w=6, pad=(1, 1)), 1, 27, id="chain"),
        pytest.param(conv(8, 4), 2, 2, id="dense"),
    ],
)
def test_special_shapes(node: object, pe: int, simd: int, style: str) -> None:
    geo = geometry(node, signed=False)
    assert interval(geo, pe, simd, style) == cycles(geo, ints(pe), ints(simd))


@settings(max_examples=8, deadline=None)
@given(st.integers(2, 4), st.data())
def test_a_chain_of_registers_takes_a_window_a_pixel(k: int, data: st.DataObject) -> None:
    before = data.draw(st.integers(0, k - 1))
    h, w = data.draw(st.integers(k, k + 2)), data.draw(st.integers(k + 2, k + 4))
    geo = geometry(conv(2, 2, k, h=h, w=w, pad=(before, k - 1 - before)), signed=False)
    pe = data.draw(st.sampled_from([1, 2]))
    assert cost.shifted(geo, ints(pe), ints(geo.fan_in))
    assert interval(geo, pe, geo.fan_in) == cycles(geo, ints(pe), ints(geo.fan_in))
    come, read = streams(geo, pe, geo.fan_in, 3)
    rates = data.draw(st.sampled_from([(0.07, 1.0), (0.6, 0.7)]))  # gaps in the middle of images
    got, _ = trace(unit(geo, pe, geo.fan_in), come, len(read), 0, *rates, quiet=4)
    assert got == read


def test_latency() -> None:
    """One cycle (chain) or two (ring) after the last pixel that the first window needs."""
    geo = geometry(conv(1, 1, 3, h=6, pad=(1, 1)), signed=False)
    needed = geo.w_in + 2
    for simd, after in ((9, 1), (3, 2), (1, 2)):
        come, read = streams(geo, 1, simd, 1)
        _, taken = trace(unit(geo, 1, simd), come, len(read))
        assert taken[0] == needed - 1 + after


def interval_of_paced(geo: Geometry, pe: int, simd: int, bursts: int) -> int:
    """`interval` of an input whose images take as long as the engine, in so many even bursts."""
    come, read = streams(geo, pe, simd, 5)
    busy, words = int(cycles(geo, ints(pe), ints(simd))), len(come) // 5
    share = words // bursts
    due = [n // share * busy * share // words + n % share for n in range(len(come))]
    taken: list[int] = []
    window = unit(geo, pe, simd)

    async def bench(ctx: Any) -> None:
        sent = cycle = 0
        ctx.set(window.m_ready, 1)
        while len(taken) < len(read):
            offered = sent < len(come) and due[sent] <= cycle
            ctx.set(window.s_valid, offered)
            if offered:
                ctx.set(window.s_data, come[sent])
            if ctx.get(window.m_valid):
                assert ctx.get(window.m_data) == read[len(taken)]
                taken.append(cycle)
            sent += bool(offered and ctx.get(window.s_ready))
            await ctx.tick()
            cycle += 1

    simulator = Simulator(window)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    image = len(read) // 5
    return taken[4 * image - 1] - taken[3 * image - 1]


@settings(max_examples=8, deadline=None)
@given(folded())
def test_nor_when_the_input_comes_at_its_pace(drawn: tuple[Geometry, int, int]) -> None:
    """Evenly, word by word, or row by row."""
    busy = cycles(drawn[0], *map(ints, drawn[1:]))
    geo = drawn[0]
    words = len(words_in(*drawn, np.zeros((geo.h_in, geo.w_in, geo.c_in * geo.groups), dtype=int)))
    assert interval_of_paced(*drawn, words) == busy
    assert interval_of_paced(*drawn, geo.h_in) == busy


def least_depth(geo: Geometry, pe: int, simd: int) -> int:
    """`depth` over all windows of three images, not their corners."""
    steps, words = cost.frees(geo), int(folding.words_a_pixel(geo, ints(pe), ints(simd)))
    period = (geo.c_out // pe) * (geo.fan_in // simd)
    newest, oldest, first = [], [], steps.start
    for image, r, c in np.ndindex(3, geo.h_out, geo.w_out):
        y = r * geo.stride - geo.pad[0] + geo.k
        x = min(c * geo.stride - geo.pad[0] + geo.k, geo.w_in)
        inside = (y - 1) * geo.w_in + x if y <= geo.h_in else geo.h_in * geo.w_in
        newest.append((image * geo.h_in * geo.w_in + inside) * words)
        oldest.append(first * words)
        last = c == geo.w_out - 1, r == geo.h_out - 1
        first += steps.image if all(last) else steps.row if last[0] else steps.pixel
    busy = np.arange(len(newest)) * period
    free = np.maximum.accumulate(busy + period - oldest)
    return int((np.array(newest)[1:] - busy[1:] + free[:-1]).max())


@settings(max_examples=150, deadline=None)
@given(convs(channels=3, side=9, groups=3), st.data())
def test_the_depth_is_enough(node: object, data: st.DataObject) -> None:
    geo = geometry(node, signed=False)
    pe, simd = foldings(geo, "pixel")
    assume(len(pe) and not cost.pointwise(geo))
    at = data.draw(st.integers(0, len(pe) - 1))
    least = least_depth(geo, int(pe[at]), int(simd[at]))
    word = folding.word_channels(geo, pe, simd) * 8
    assert least <= cost.depth(geo, pe, simd, word)[at]


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("pad", [(1, 1), (0, 1)])
def test_one_word_less_makes_the_engine_wait(
    stride: int, pad: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    geo = geometry(conv(1, 4, 3, h=10, stride=stride, pad=pad), signed=False)
    pe, simd = 4 if stride == 1 else 1, 3
    busy = int(cycles(geo, ints(pe), ints(simd)))
    least = least_depth(geo, pe, simd)
    for depth, waits in ((least, False), (least - 1, True)):
        monkeypatch.setattr(cost, "depth", lambda *_, d=depth: ints(d))
        assert (interval(geo, pe, simd) > busy) == waits
