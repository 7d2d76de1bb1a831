"""The units of an engine: counts against simulations, exhaustive sums, packed products."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost import engine
from syq_dse.cost.counts import Counts, tree_bits
from syq_dse.cost.folding import Geometry, foldings, geometry
from syq_dse.cost.integers import ints
from syq_dse.cost.prices import CONSTANT, load_energy, load_lut
from syq_dse.cost.units import requant
from syq_dse.cost.units.add import add
from syq_dse.cost.units.fifo import converter, fifo
from syq_dse.cost.units.mac import (
    lanes_per_dsp,
    mac,
    operand_range,
    sum_bits,
    uses_dsp,
)
from syq_dse.cost.units.pool import max_pool, mean_pool
from syq_dse.cost.units.scale import scale, scale_max
from syq_dse.cost.units.trees import tree
from syq_dse.cost.units.weights import weights
from syq_dse.cost.units.window import window
from syq_dse.network import Add, AvgPool, GlobalAvgPool, MaxPool, Node, Shape
from syq_dse.scheme import GRANULARITIES, SCALES, WEIGHTS, LayerScheme, weight_bits

from .shapes import conv, geometries

FAST = settings(derandomize=True, max_examples=120, deadline=None)
DSP48E2 = (27, 18)
CODEBOOK = st.sampled_from(WEIGHTS)


def codes(codebook: str) -> range | tuple[int, ...]:
    """Every code of a codebook, by DESIGN section 3."""
    if codebook == "binary":
        return (-1, 1)
    if codebook == "ternary":
        return (-1, 0, 1)
    largest = 2 ** (int(codebook[3:]) - 1) - 1
    return range(-largest, largest + 1)


def activations(bits: int, signed: bool) -> range:
    return range(-(2 ** (bits - 1)), 2 ** (bits - 1)) if signed else range(2**bits)


def two_complement(low: int, high: int) -> int:
    """The least width of a signed number that holds low and high."""
    return next(n for n in itertools.count(1) if -(2 ** (n - 1)) <= low and high < 2 ** (n - 1))


def plain(codebook: str) -> LayerScheme:
    """A layer whose sums are of the whole fan-in."""
    return LayerScheme(weights=codebook, granularity="layer")


def total(count: Any) -> int:
    return int(np.sum(count))


# Adder trees


def simulated_tree(operands: int, width: int) -> tuple[int, int]:
    """Adder bits and width of the sum of a tree that adds neighbours, level by level."""
    level, bits = [width] * operands, 0
    while len(level) > 1:
        pairs = [max(pair) + 1 for pair in zip(level[::2], level[1::2], strict=False)]
        bits += sum(pairs)
        level = pairs + level[len(level) - len(level) % 2 :]
    return bits, level[0]


@FAST
@given(st.lists(st.tuples(st.integers(1, 200), st.integers(1, 16)), min_size=1, max_size=6))
def test_tree_bits_against_a_tree_added_pair_by_pair(trees: list[tuple[int, int]]) -> None:
    operands, width = (ints(column) for column in zip(*trees, strict=True))
    bits, out = tree_bits(operands, width)
    expected = [simulated_tree(*tree) for tree in trees]
    assert list(zip(bits.tolist(), out.tolist(), strict=True)) == expected
    assert operands.tolist() == [n for n, _ in trees]  # its arguments stay as they were


# Widths of sums


@pytest.mark.parametrize("codebook", ["binary", "ternary", "int2", "int3", "int4"])
@pytest.mark.parametrize("signed", [False, True])
def test_sum_bits_is_the_least_width_of_every_dot_product(codebook: str, signed: bool) -> None:
    for bits in (1, 2, 3):
        products = {w * a for w in codes(codebook) for a in activations(bits, signed)}
        sums = {0}
        for terms in (1, 2, 3, 4, 5):
            sums = {s + p for s in sums for p in products}  # every dot product of so many terms
            found = sum_bits(terms, codebook, bits, signed)
            assert found == two_complement(min(sums), max(sums)), (terms, bits)


@pytest.mark.parametrize("granularity", ["row", "pixel"])
@pytest.mark.parametrize("format_", ["fixed8", "shift"])
@pytest.mark.parametrize("signed", [False, True])
def test_the_scaled_sum_fits_its_accumulator(granularity: str, format_: str, signed: bool) -> None:
    """acc = sum_g m_g * partial_g of DESIGN section 4, at its extremes: all subgroups alike."""
    geo = geometry(conv(2, 1, 2, h=2), signed=signed)
    factors = range(-127, 128) if format_ == "fixed8" else [2**n for n in range(8)]
    for codebook, bits in itertools.product(["binary", "ternary", "int3"], [1, 2, 4]):
        layer = LayerScheme(weights=codebook, granularity=granularity, scale=format_)
        products = [w * a for w in codes(codebook) for a in activations(bits, signed)]
        terms = geo.c_in * (geo.k if granularity == "row" else 1)
        partial = (min(products) * terms, max(products) * terms)
        scaled = [m * p for m in (min(factors), max(factors)) for p in partial]
        subgroups = geo.fan_in // terms
        expected = two_complement(min(scaled) * subgroups, max(scaled) * subgroups)
        assert engine.result_bits(geo, layer, bits) == expected
        assert scale_max(layer) == max(factors)


@pytest.mark.parametrize("kind", ["plain", "ones", "fields"])
@pytest.mark.parametrize("signed", [False, True])
def test_the_adder_tree_holds_its_sum(kind: str, signed: bool) -> None:
    for bits, operands in itertools.product(range(1, 9), range(1, 12)):
        span = operand_range(bits, signed) if kind != "ones" else (0, 1)
        one = tree(operands, span, kind)
        levels, width = one.levels, one.width
        low, high = operands * span[0], operands * span[1]
        assert width == (two_complement(low, high) if low < 0 else high.bit_length())
        assert 2**levels >= operands / 3


@FAST
@given(st.integers(1, 200), st.integers(1, 8), st.booleans(), st.sampled_from(["plain", "fields"]))
def test_a_tree_adds_up_all_of_its_operands(n: int, bits: int, signed: bool, kind: str) -> None:
    """An adder makes one of two: n - 1 of them, each at least as wide as what it adds."""
    span = operand_range(bits, signed)
    one = tree(n, span, kind)
    least = two_complement(*span) if signed else bits
    assert one.first + one.adder >= (n - 1) * least and one.counted == 0
    assert one.levels == (n - 1).bit_length() + (kind == "fields")
    assert one.alone == (least if n == 1 or n % 2 else 0) * (kind == "plain")
    assert one.ff >= one.width * (one.levels > 0)
    assert tree(n + 1, span, kind).ff >= one.ff
    assert 2 * one.pairs + one.first_short + one.short >= (n - 1) * (least + 1)


# Products in DSPs


@pytest.mark.parametrize(
    ("codebook", "bits", "lanes"), [("int8", 8, 2), ("int4", 8, 3), ("int4", 4, 4)]
)
def test_lanes_per_dsp_of_the_reference(codebook: str, bits: int, lanes: int) -> None:
    assert lanes_per_dsp(DSP48E2, codebook, bits) == lanes


@pytest.mark.parametrize("port", [18, 25, 27])
@pytest.mark.parametrize("codebook", WEIGHTS)
def test_lanes_per_dsp_is_the_formula_of_the_reference(port: int, codebook: str) -> None:
    """lanes = 1 + floor((27 - n - W) / (W + A - 1)), n = 0 for narrow weights."""
    w = weight_bits(codebook)
    for a in range(1, 9):
        assert lanes_per_dsp((port, 18), codebook, a) == 1 + (port - w) // (w + a - 1)


def packed(products: tuple[int, ...], spacing: int) -> int:
    return sum(p << (spacing * i) for i, p in enumerate(products))


def unpacked(word: int, lanes: int, spacing: int, low_bits: list[int] | None) -> tuple[int, ...]:
    """Split a packed word into signed fields, each borrowing from the next one.

    Where a product needs spacing + 1 bits, its sign lies on the lowest bit of the next lane, which
    `low_bits` knows: it is w & a.
    """
    found = []
    for lane in range(lanes):
        if lane == lanes - 1:
            field = word
        elif low_bits is None:
            field = (word + (1 << (spacing - 1))) % (1 << spacing) - (1 << (spacing - 1))
        else:
            negative = (word >> spacing & 1) != low_bits[lane + 1]
            field = word % (1 << spacing) - (negative << spacing)
        found.append(field)
        word = (word - field) >> spacing
    return tuple(found)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("w", "a", "port"), [(3, 1, 9), (3, 2, 11), (3, 3, 13), (3, 4, 15), (4, 2, 14), (4, 4, 18)]
)
def test_packed_products_can_be_told_apart(w: int, a: int, port: int, signed: bool) -> None:
    """Every weight of every lane times every activation, through a multiplier of `port` bits."""
    codebook, spacing = f"int{w}", w + a - 1
    lanes = lanes_per_dsp((port, 18), codebook, a)
    assert lanes in (2, 3)
    for group in itertools.product(codes(codebook), repeat=lanes):
        word = packed(group, spacing)
        assert two_complement(word, word) <= port
        for x in activations(a, signed):
            low_bits = None if signed else [code & x & 1 for code in group]
            assert unpacked(word * x, lanes, spacing, low_bits) == tuple(code * x for code in group)


@FAST
@given(geometries(channels=8), st.sampled_from(["int3", "int4", "int8"]), st.integers(1, 8))
def test_every_product_has_a_lane_of_some_dsp(geo: Geometry, codebook: str, bits: int) -> None:
    pe, simd = foldings(geo, "pixel")
    counts = mac(geo, plain(codebook), bits, pe, simd, "dsp", DSP48E2)
    lanes = lanes_per_dsp(DSP48E2, codebook, bits)
    for p, s, dsp in zip(pe.tolist(), simd.tolist(), counts.dsp.tolist(), strict=True):
        at_once = max(1, p * geo.groups // geo.c_out)
        share_one_input = p // at_once  # PEs of one group: what may be packed
        assert dsp == at_once * s * -(-share_one_input // lanes)
    assert not np.any(counts.lut["masked_bits"]) and not np.any(counts.lut["select_bits"])


@FAST
@given(geometries(channels=8), st.integers(1, 8))
def test_codes_of_up_to_two_bits_stay_in_luts(geo: Geometry, bits: int) -> None:
    pe, simd = foldings(geo, "pixel")
    for codebook in WEIGHTS:
        dsp = total(mac(geo, plain(codebook), bits, pe, simd, "dsp", DSP48E2).dsp)
        assert (dsp > 0) == (codebook not in ("binary", "ternary", "int2"))
        assert (dsp > 0) == uses_dsp(codebook, "dsp")
        assert total(mac(geo, plain(codebook), bits, pe, simd, "lut", DSP48E2).dsp) == 0


def lut_of_mac(geo: Geometry, codebook: str, bits: int, pe: int, simd: int) -> float:
    counts = mac(geo, plain(codebook), bits, ints([pe]), ints([simd]), "lut", DSP48E2)
    price = load_lut("xcup").units["mac"].lut
    pairs = [np.array(price[name]) * total(bits) for name, bits in counts.lut.items()]
    luts, halves = np.sum(pairs, axis=0)
    return float(max(luts, halves / 2))


@settings(FAST, max_examples=30)
@given(geometries(channels=8), st.data())
def test_fewer_bits_never_cost_more_luts(geo: Geometry, data: st.DataObject) -> None:
    pe, simd = (
        int(n) for n in data.draw(st.sampled_from(list(zip(*foldings(geo, "row"), strict=True))))
    )
    for codebook in WEIGHTS:
        luts = [lut_of_mac(geo, codebook, bits, pe, simd) for bits in range(2, 9)]  # 1: counted
        assert luts == sorted(luts)
    for bits in range(1, 9):
        luts = [lut_of_mac(geo, f"int{n}", bits, pe, simd) for n in range(3, 9)]  # 2: ternary
        assert luts == sorted(luts)


# Scales


@FAST
@given(geometries(channels=6), CODEBOOK, st.sampled_from(["row", "pixel"]), st.integers(1, 8))
def test_multipliers_of_row_and_pixel_scales(
    geo: Geometry, codebook: str, granularity: str, bits: int
) -> None:
    """One takes turns among as many PEs as keep up, and no fewer would; past a subgroup SIMD /
    terms of them a PE."""
    pe, simd = foldings(geo, granularity)
    terms = geo.c_in * (geo.k if granularity == "row" else 1)
    partial = sum_bits(terms, codebook, bits, geo.signed)
    layer = LayerScheme(weights=codebook, granularity=granularity)
    counts = scale(geo, layer, bits, pe, simd, "dsp", DSP48E2)
    in_luts = scale(geo, layer, bits, pe, simd, "lut", DSP48E2)
    dsps = np.broadcast_to(counts.dsp, pe.shape).tolist()
    for p, s, dsp in zip(pe.tolist(), simd.tolist(), dsps, strict=True):
        multipliers, rest = divmod(dsp, requant.parts(partial, DSP48E2[0]))
        at_once = max(1, s // terms)
        assert rest == multipliers % at_once == 0
        fewest = taking_turns(p, max(1, terms // s))
        assert multipliers // at_once == fewest
    assert not np.any(counts.lut.get("row_bits", 0))
    assert total(in_luts.dsp) == 0
    products = in_luts.lut["row_bits"] + in_luts.lut["constant_bits"]
    assert (products > 0).all()

    shift = LayerScheme(weights=codebook, granularity=granularity, scale="shift")
    shifted = scale(geo, shift, bits, pe, simd, "dsp", DSP48E2)
    assert total(shifted.dsp) == 0
    for each in (counts, in_luts, shifted):  # the totals wait in registers until they are whole
        assert (each.ff >= pe * engine.result_bits(geo, layer, bits) * (each is not shifted)).all()


def taking_turns(lanes: int, most: int) -> int:
    """The fewest pieces of hardware, each for equally many lanes, at most `most`."""
    return next(n for n in range(1, lanes + 1) if lanes % n == 0 and lanes // n <= most)


@FAST
@given(geometries(), CODEBOOK, st.integers(1, 8), st.sampled_from(["layer", "channel"]))
def test_layer_and_channel_scales_vanish(
    geo: Geometry, codebook: str, bits: int, granularity: str
) -> None:
    layer = LayerScheme(weights=codebook, granularity=granularity)
    counts = scale(geo, layer, bits, *foldings(geo, granularity), "dsp", DSP48E2)
    assert not counts.lut and not counts.memories and not counts.work
    assert total(counts.ff) == total(counts.dsp) == 0


# Requantisation


@FAST
@given(st.integers(4, 40), st.integers(1, 8), st.integers(1, 64), st.integers(1, 64), st.data())
def test_comparators_keep_up_and_no_fewer_would(
    acc: int, bits: int, pe: int, period: int, data: st.DataObject
) -> None:
    """Each result needs `bits` comparisons in turn; pe results come every period."""
    channels = pe * data.draw(st.integers(1, 8))
    counts = requant.thresholds(acc, bits, channels, ints([pe]), ints([period]))
    comparators = total(counts.lut["compare_bits"]) // acc
    folds = channels // pe
    banks_of_search = taking_turns(pe, max(1, period // bits))
    if period < bits:  # a pipeline for each lane; a single threshold is a constant
        assert comparators == pe * (bits - (folds == 1))
    else:
        alone = bits == 1 and folds * (pe // banks_of_search) == 1
        assert comparators == (0 if alone else banks_of_search)
    stored = sum(total(m.width * m.depth * m.banks * (m.depth > 1)) for m in counts.memories)
    if channels // pe > 1:  # else tables are logic
        assert stored >= channels * (2 ** (bits - 1) - 1) * acc
    banks = {total(m.banks) for m in counts.memories if total(m.depth) > 1}
    assert banks <= {banks_of_search if period >= bits else pe}  # each reads at its own address


@FAST
@given(st.integers(4, 54), st.integers(1, 8), st.integers(1, 64), st.integers(1, 64))
def test_gain_multipliers_keep_up(acc: int, bits: int, pe: int, period: int) -> None:
    multipliers = taking_turns(pe, period)
    counts = requant.multiply(acc, bits, pe, ints([pe]), ints([period]), True, 27)
    assert total(counts.dsp) == multipliers * requant.parts(acc, 27)
    in_luts = requant.multiply(acc, bits, pe, ints([pe]), ints([period]), False, 27)
    assert total(in_luts.dsp) == 0
    products = total(in_luts.lut["row_bits"]) + total(in_luts.lut["constant_bits"])
    assert products >= multipliers * acc


def test_parts_of_a_wide_operand_hold_it() -> None:
    """All but the top part are unsigned: the sign of a port is lost to each."""
    for bits, port in itertools.product(range(1, 120), (18, 25, 27)):
        found = requant.parts(bits, port)
        assert found * (port - 1) + 1 >= bits
        assert found == 1 or (found - 1) * (port - 1) + 1 < bits


# Weights, queues, pools, additions: what they must hold


@FAST
@given(geometries(channels=8), CODEBOOK)
def test_the_weight_memory_holds_every_code_once(geo: Geometry, codebook: str) -> None:
    pe, simd = foldings(geo, "pixel")
    code = weight_bits(codebook)
    (memory,) = weights(geo, code, pe, simd, "block").memories
    stored = geo.c_out * geo.fan_in * code
    assert (memory.width * memory.depth * memory.banks == stored).all()
    streamed = weights(geo, code, pe, simd, "dram")
    assert (np.broadcast_to(streamed.dram_bits, pe.shape) == stored).all()


@FAST
@given(st.integers(1, 5000), st.integers(1, 512))
def test_a_queue_holds_its_words(words: int, width: int) -> None:
    counts = fifo(words, width)
    if counts.memories:
        (memory,) = counts.memories  # and the register that it is read into
        assert int(memory.width * (memory.depth + 1)) == words * width
        assert memory.registered
    else:
        assert words <= 2
        assert total(counts.ff) >= 2 * width


@FAST
@given(st.integers(1, 32), st.integers(1, 64), st.integers(1, 64))
def test_a_converter_holds_what_is_not_a_word_yet(bits: int, source: int, sink: int) -> None:
    ff = total(converter(bits, source, sink).ff)
    if source == sink:
        assert ff == 0
    elif source % sink == 0:  # the word stays at the input
        assert 0 < ff < bits + 64
    elif sink % source == 0:
        assert ff >= bits * (sink - source)  # the last part stays at the input
    else:
        assert ff >= bits * (sink + source - 2)  # a word of each, of which no code is whole


def kept(counts: Counts) -> int:
    """Bits of the memories of a unit; of one word they are registers."""
    return sum(total(m.width * m.depth * m.banks) for m in counts.memories)


@FAST
@given(st.integers(1, 6), st.integers(1, 3), st.integers(4, 12), st.integers(1, 8), st.data())
def test_a_max_pool_holds_its_open_windows(
    k: int, stride: int, side: int, bits: int, data: st.DataObject
) -> None:
    """Windows that are open from one row of the image to the next."""
    k = min(k, side)
    c = data.draw(st.sampled_from([1, 2, 4, 6]))
    lanes = data.draw(st.sampled_from([n for n in (1, 2, 3, 6) if c % n == 0]))
    out = (side - k) // stride + 1
    layer = MaxPool(name="pool", k=k, stride=stride)
    node = Node(layer, ("input",), Shape(c, side, side), Shape(c, out, out))
    open_rows = max(
        sum(r * stride <= y < r * stride + k - 1 for r in range(out)) for y in range(side)
    )
    counts = max_pool(node, bits, lanes)
    assert kept(counts) >= open_rows * out * c * bits
    if lanes < c:
        assert kept(counts) <= (open_rows + 1) * (out + 2) * 2 * c * bits


def test_a_mean_holds_the_sum_of_all_pixels() -> None:
    for side, bits in itertools.product([1, 2, 4, 7, 14], range(1, 9)):
        shape = Shape(8, side, side)
        node = Node(GlobalAvgPool(name="gap"), ("input",), shape, Shape(8, 1, 1))
        counts = mean_pool(node, bits, bits, 1)
        if side > 1:
            assert kept(counts) >= 8 * (side * side * (2**bits - 1)).bit_length()


def test_a_mean_pool_holds_its_open_windows() -> None:
    layer = AvgPool(name="pool", k=3, stride=1)
    node = Node(layer, ("input",), Shape(4, 8, 8), Shape(4, 6, 6))
    counts = mean_pool(node, 4, 4, 1)
    assert kept(counts) >= 2 * 6 * 4 * (6 * 15).bit_length()


def test_an_addition_takes_what_its_operands_and_codes_ask_for() -> None:
    shape = Shape(8, 4, 4)
    node = Node(Add(name="add", inputs=("a", "b"), relu=False), ("a", "b"), shape, shape)
    for bits in itertools.product(range(2, 9), range(2, 9)):
        sum_of = max(bits) + 1
        whole, clipped = add(node, bits, sum_of, 1), add(node, bits, max(bits), 1)
        assert sum(total(count) for count in whole.lut.values()) >= min(bits)
        assert total(whole.ff) == sum_of + 1  # and a valid bit
        assert total(clipped.ff) == max(bits) + 1
        four = add(node, bits, max(bits), 4)
        assert {n: total(c) for n, c in four.lut.items()} == {
            n: 4 * total(c) for n, c in clipped.lut.items()
        }


# Prices


def made() -> dict[str, list[Counts]]:
    """Counts of every unit, in every way to build it."""
    geo = geometry(conv(4, 4, 3, h=6, pad=(1, 1)), signed=False)
    grouped = geometry(conv(8, 8, 3, h=9, stride=2, groups=2), signed=True)
    pe, simd = foldings(geo, "row")
    period = geo.fan_in // simd
    shape = Shape(4, 4, 4)
    pool = Node(MaxPool(name="pool", k=2), ("input",), shape, Shape(4, 2, 2))
    sums = Node(Add(name="add", inputs=("a", "b")), ("a", "b"), shape, shape)
    found: dict[str, list[Counts]] = {
        "window": [window(g, 4, *foldings(g, "row")) for g in (geo, grouped)],
        "weights": [weights(geo, 4, pe, simd, s) for s in ("block", "ultra", "dram")],
        "mac": [],
        "scale": [],
        "requant": [requant.multiply(20, 4, 4, pe, period, dsp, 27) for dsp in (False, True)],
        "pool": [max_pool(pool, 4, 2), mean_pool(pool, 4, 4, 2)],
        "add": [add(sums, (4, 4), 4, 1)],
        "fifo": [fifo(2, 8), fifo(64, 8), converter(4, 2, 4)],
    }
    found["requant"].append(requant.thresholds(20, 4, 4, pe, period))
    for codebook, granularity, format_ in itertools.product(WEIGHTS, GRANULARITIES, SCALES):
        layer = LayerScheme(weights=codebook, granularity=granularity, scale=format_)
        for res in ("lut", "dsp"):
            found["mac"].append(mac(geo, layer, 4, pe, simd, res, DSP48E2))
            found["scale"].append(scale(geo, layer, 4, pe, simd, res, DSP48E2))
    return found


@pytest.mark.parametrize("family", ["xcup", "xc7", "ecp5"])
def test_every_count_has_a_price_and_every_price_a_count(family: str) -> None:
    for unit, counts in made().items():
        names = {name for one in counts for name in one.lut}
        assert names == set(load_lut(family).units[unit].lut) - {CONSTANT}, unit


def test_every_kind_of_work_has_a_price_and_every_price_is_of_some_work() -> None:
    names = {name for counts in made().values() for one in counts for name in one.work}
    assert names == set(load_energy().pj_per_bit)


def test_counts_are_never_negative_and_of_one_shape() -> None:
    for unit, counts in made().items():
        for one in counts:
            values = [*one.lut.values(), one.ff, one.dsp, *one.work.values()]
            assert all(np.all(np.asarray(value) >= 0) for value in values), unit
            np.broadcast_shapes(*(np.shape(value) for value in values))
