"""Folding: legal PE and SIMD from DESIGN section 5, cycles from a loop that runs a folded layer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost import timing
from syq_dse.cost.folding import (
    Folding,
    Geometry,
    check,
    cycles,
    foldings,
    geometry,
    lanes,
    least_cycles,
    pes,
    simds,
)
from syq_dse.cost.integers import ints
from syq_dse.errors import InputError
from syq_dse.network import Conv, Node, Shape
from syq_dse.scheme import GRANULARITIES

from .shapes import conv, convs, geometries

FAST = settings(derandomize=True, max_examples=120, deadline=None)
GRANULARITY = st.sampled_from(GRANULARITIES)


def legal_pes(geo: Geometry) -> list[int]:
    """PEs that each do the same number of outputs, of one group or of whole groups."""
    group = geo.c_out // geo.groups
    whole = [n for n in range(1, geo.c_out + 1) if geo.c_out % n == 0]
    return [n for n in whole if group % n == 0 or n % group == 0]


def legal_simds(geo: Geometry, granularity: str) -> list[int]:
    """SIMD divides c_in, or is c_in times a divisor of k * k; row scales: no step over a row's end.

    A step reads `pixels` kernel positions in order, so row ends are respected exactly when the
    positions divide a row or are whole rows.
    """
    found = []
    for n in range(1, geo.fan_in + 1):
        pixels, rest = divmod(n, geo.c_in)
        if n <= geo.c_in:
            found += [n] if geo.c_in % n == 0 else []
        elif rest == 0 and geo.k**2 % pixels == 0:
            within_rows = geo.k % pixels == 0 or pixels % geo.k == 0
            found += [n] if granularity != "row" or within_rows else []
    return found


def reads_pixels_of_its_groups(geo: Geometry, pe: int, simd: int) -> bool:
    """An engine that works on several groups reads whole pixels of each."""
    return pe <= geo.c_out // geo.groups or simd % geo.c_in == 0


def comes_in_time(geo: Geometry, pe: int, simd: int) -> bool:
    """The window takes in an image, zeros that its windows reach included, while it is worked on.

    A word a cycle: what the engine reads of one pixel at once. Whole windows of as many windows as
    pixels are cut out of the stream: zeros then take no time.
    """
    at_once = max(1, pe * geo.groups // geo.c_out) * min(simd, geo.c_in)
    words = geo.c_in * geo.groups // at_once
    sides = []
    for side_in, side_out in ((geo.h_in, geo.h_out), (geo.w_in, geo.w_out)):
        reached = {o * geo.stride + i for o in range(side_out) for i in range(geo.k)}
        sides.append(len(reached | set(range(max(reached)))))
        sides[-1] = max(sides[-1], geo.pad[0] + side_in)
    same = geo.stride == 1 and (geo.h_out, geo.w_out) == (geo.h_in, geo.w_in)
    if same and simd == geo.fan_in and words == 1 and 1 < geo.k <= geo.w_in - 2:
        sides = [geo.h_in, geo.w_in]
    work = (geo.c_out // pe) * (geo.fan_in // simd)
    return sides[0] * sides[1] * words <= geo.positions * work


@FAST
@given(geometries(channels=12, side=4), GRANULARITY)
def test_legal_foldings_are_those_of_the_definition(geo: Geometry, granularity: str) -> None:
    assert pes(geo) == legal_pes(geo)
    assert simds(geo, granularity) == legal_simds(geo, granularity)
    pe, simd = foldings(geo, granularity)
    every = [
        (p, s)
        for p in pes(geo)
        for s in simds(geo, granularity)
        if reads_pixels_of_its_groups(geo, p, s) and comes_in_time(geo, p, s)
    ]
    assert list(zip(pe.tolist(), simd.tolist(), strict=True)) == every


@pytest.mark.parametrize("k", [6, 12])
def test_rows_restrict_kernels_whose_side_is_not_prime(k: int) -> None:
    geo = geometry(conv(3, 8, k, h=16), signed=False)
    assert set(simds(geo, "row")) < set(simds(geo, "pixel"))
    assert 3 * 9 in simds(geo, "pixel")  # nine positions in a row of six or twelve
    assert 3 * 9 not in simds(geo, "row")


def test_depthwise_and_dense_by_hand() -> None:
    depthwise = geometry(conv(32, 32, 3, h=8, groups=32), signed=False)
    assert pes(depthwise) == [1, 2, 4, 8, 16, 32]
    assert simds(depthwise, "pixel") == [1, 3, 9]
    assert depthwise.groups_at_once(ints([1, 8, 32])).tolist() == [1, 8, 32]
    dense = geometry(conv(6, 4), signed=False)
    assert (pes(dense), simds(dense, "row")) == ([1, 2, 4], [1, 2, 3, 6])


# A folded layer, run


@dataclass
class Run:
    """What a folded layer did."""

    output: npt.NDArray[np.int64]
    steps: int = 0
    subgroups_at_once: set[int] = field(default_factory=set)  # scaled in one step of one PE
    every: set[int] = field(default_factory=set)  # steps between two uses of a scale multiplier


def subgroup(granularity: str, position: int, k: int) -> int:
    return {"row": position // k, "pixel": position}.get(granularity, 0)


def run_folded(
    node: Node,
    granularity: str,
    pe: int,
    simd: int,
    x: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int64],
    scales: npt.NDArray[np.int64],
) -> Run:
    """Step through a layer as the engine does: pixels, then PE folds, then SIMD folds.

    In a step every PE takes `simd` inputs of its window (kernel row, kernel column, channel).
    """
    assert isinstance(node.layer, Conv)
    k, stride, groups = node.k, node.stride, node.groups
    c_in, c_out = node.in_shape.c // groups, node.out_shape.c
    padded = np.pad(x, ((0, 0), node.pad, node.pad))
    run = Run(np.zeros((c_out, node.out_shape.h, node.out_shape.w), np.int64))
    terms = {"row": k * c_in, "pixel": c_in}.get(granularity, k * k * c_in)
    for r in range(node.out_shape.h):
        for c in range(node.out_shape.w):
            around = padded[:, r * stride : r * stride + k, c * stride : c * stride + k]
            for first in range(0, c_out, pe):
                sums = np.zeros((pe, k * k), np.int64)  # by subgroup
                used = -1  # last step in which a PE scaled a sum
                for step, at in enumerate(range(0, k * k * c_in, simd)):
                    run.steps += 1
                    for unit in range(pe):
                        group = (first + unit) // (c_out // groups)
                        window = around[group * c_in : (group + 1) * c_in]
                        stream = window.transpose(1, 2, 0).reshape(-1)
                        weights = codes[first + unit].transpose(1, 2, 0).reshape(-1)
                        finished = 0
                        for i in range(at, at + simd):
                            part = subgroup(granularity, i // c_in, k)
                            sums[unit, part] += stream[i] * weights[i]
                            finished += (i + 1) % terms == 0
                        if finished:
                            run.subgroups_at_once.add(finished)
                            run.every.add(step - used)
                    used = step if finished else used
                for unit in range(pe):
                    scaled = sums[unit, : len(scales)] * scales
                    run.output[first + unit, r, c] = scaled.sum()
    return run


def direct(
    node: Node,
    granularity: str,
    x: npt.NDArray[np.int64],
    codes: npt.NDArray[np.int64],
    scales: npt.NDArray[np.int64],
) -> npt.NDArray[np.int64]:
    """The same layer by its definition: effective weight alpha_g * q, section 4."""
    k, stride, groups = node.k, node.stride, node.groups
    c_in, c_out = node.in_shape.c // groups, node.out_shape.c
    by_position = [scales[subgroup(granularity, p, k)] for p in range(k * k)]
    weights = codes * np.array(by_position).reshape(1, 1, k, k)
    padded = np.pad(x, ((0, 0), node.pad, node.pad))
    out = np.zeros((c_out, node.out_shape.h, node.out_shape.w), np.int64)
    for o, r, c in np.ndindex(*out.shape):
        g = o // (c_out // groups)
        window = padded[g * c_in : (g + 1) * c_in, r * stride :, c * stride :][:, :k, :k]
        out[o, r, c] = (window * weights[o]).sum()
    return out


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    convs(channels=3, side=4, kernels=(1, 2, 3, 4), groups=2),
    st.sampled_from(["layer", "row", "pixel"]),
    st.data(),
)
def test_cycles_are_the_steps_of_a_folded_layer(
    node: Node, granularity: str, data: st.DataObject
) -> None:
    geo = geometry(node, signed=False)
    pe = data.draw(st.sampled_from(pes(geo)))
    simd = data.draw(st.sampled_from(simds(geo, granularity)))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    shape = (node.in_shape.c, node.in_shape.h, node.in_shape.w)
    x = random.integers(0, 16, shape)
    codes = random.integers(-1, 2, (node.out_shape.c, geo.c_in, geo.k, geo.k))
    scales = random.integers(-127, 128, geo.k**2)
    scales = scales[: {"row": geo.k, "pixel": geo.k**2}.get(granularity, 1)]

    run = run_folded(node, granularity, pe, simd, x, codes, scales)

    assert (run.output == direct(node, granularity, x, codes, scales)).all()
    assert run.steps == int(cycles(geo, ints(pe), ints(simd)))
    assert run.steps == geo.positions * int(timing.work(geo, ints(pe), ints(simd)))
    # DESIGN section 3: one multiplier a PE, used every terms/SIMD cycles, or SIMD/terms of them
    terms = geo.c_in * {"row": geo.k, "pixel": 1}.get(granularity, geo.k**2)
    assert run.subgroups_at_once == {max(1, simd // terms)}
    assert run.every == {max(1, terms // simd)}


@FAST
@given(geometries(channels=8, side=5), GRANULARITY)
def test_more_pes_or_lanes_never_cost_cycles(geo: Geometry, granularity: str) -> None:
    for simd in simds(geo, granularity):
        taken = cycles(geo, ints(pes(geo)), ints(simd))
        assert (np.diff(taken) < 0).all()
    for pe in pes(geo):
        taken = cycles(geo, ints(pe), ints(simds(geo, granularity)))
        assert (np.diff(taken) < 0).all()
    assert int(cycles(geo, ints(geo.c_out), ints(geo.fan_in))) == geo.positions


@FAST
@given(geometries(channels=8, side=5), GRANULARITY)
def test_no_legal_folding_is_faster_than_the_fastest(geo: Geometry, granularity: str) -> None:
    taken = cycles(geo, *foldings(geo, granularity))
    least = least_cycles(geo)
    assert least >= geo.positions
    assert (taken == least).any() or granularity != "row"
    assert taken.min() <= least  # what every granularity reaches


# Words of a stream


@FAST
@given(st.integers(1, 40), st.integers(1, 30), st.integers(1, 30), st.integers(1, 40_000))
def test_lanes_are_the_least_word_that_keeps_up(c: int, h: int, w: int, interval: int) -> None:
    def fits(n: int) -> bool:  # a part of a pixel, or pixels that make up a row
        return c % n == 0 or (n % c == 0 and w % (n // c) == 0)

    keeps_up = [n for n in range(1, c * w + 1) if fits(n) and c * h * w <= interval * n]
    found = lanes(Shape(c, h, w), interval)
    assert found == (keeps_up[0] if keeps_up else c * w)
    assert c * h * w % found == 0


# What a user reads


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (Folding(pe=3, simd=1), "folding.conv1.pe: must be one of 1, 2, 4, 8, got 3"),
        (Folding(pe=0, simd=1), "folding.conv1.pe: must be one of 1, 2, 4, 8, got 0"),
        (Folding(pe=1, simd=4), "folding.conv1.simd: must be one of 1, 2, 6, 18, got 4"),
        (
            Folding(pe=1, simd=1, ram_style="dram"),
            "folding.conv1.ram_style: only dense layers stream from dram",
        ),
    ],
)
def test_message_for_an_illegal_folding(fold: Folding, message: str) -> None:
    geo = geometry(conv(2, 8, 3, h=8), signed=False)
    with pytest.raises(InputError) as caught:
        check(geo, "row", "conv1", fold)
    assert str(caught.value) == message


def test_messages_for_foldings_that_no_hardware_keeps_up_with() -> None:
    grouped = geometry(conv(8, 8, 3, h=8, groups=4), signed=False)
    with pytest.raises(InputError) as caught:
        check(grouped, "layer", "conv1", Folding(pe=4, simd=1))
    assert str(caught.value) == (
        "folding.conv1.simd: must be a multiple of c_in=2 where pe=4 works on several groups, got 1"
    )
    strided = geometry(conv(2, 8, 3, h=8, stride=2, pad=(0, 1)), signed=False)
    with pytest.raises(InputError) as caught:
        check(strided, "layer", "conv1", Folding(pe=8, simd=18))
    assert str(caught.value) == (
        "folding.conv1: takes in an image of 81 words in 16 cycles, got pe=8, simd=18; fold more"
    )


@FAST
@given(geometries(), GRANULARITY)
def test_every_folding_that_is_offered_passes_the_check(geo: Geometry, granularity: str) -> None:
    for pe, simd in zip(*foldings(geo, granularity), strict=True):
        check(geo, granularity, "layer", Folding(pe=int(pe), simd=int(simd)))
