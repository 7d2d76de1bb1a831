"""The units of an engine: counts against simulations, exhaustive sums, packed products."""

from __future__ import annotations

import ast
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse.cost import engine, units
from syq_dse.cost.counts import Counts, tree_bits
from syq_dse.cost.folding import Geometry, foldings, geometry
from syq_dse.cost.integers import ints
from syq_dse.cost.prices import load_energy, load_lut
from syq_dse.cost.units import requant
from syq_dse.cost.units.add import add
from syq_dse.cost.units.fifo import converter, fifo
from syq_dse.cost.units.mac import lanes_per_dsp, mac, sum_bits, uses_dsp
from syq_dse.cost.units.pool import max_pool, mean_pool
from syq_dse.cost.units.scale import scale, scale_max
from syq_dse.cost.units.weights import weights
from syq_dse.cost.units.window import window
from syq_dse.network import Add, AvgPool, Conv, GlobalAvgPool, MaxPool, Node, Shape
from syq_dse.scheme import GRANULARITIES, WEIGHTS, LayerScheme, weight_bits

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
        layer = LayerScheme(weights=codebook, granularity=granularity, scale=format_)  # type: ignore[arg-type]
        products = [w * a for w in codes(codebook) for a in activations(bits, signed)]
        terms = geo.c_in * (geo.k if granularity == "row" else 1)
        partial = (min(products) * terms, max(products) * terms)
        scaled = [m * p for m in (min(factors), max(factors)) for p in partial]
        subgroups = geo.fan_in // terms
        expected = two_complement(min(scaled) * subgroups, max(scaled) * subgroups)
        assert engine.result_bits(geo, layer, bits) == expected
        assert scale_max(layer) == max(factors)


def tree_width(geo: Geometry, codebook: str, bits: int, simd: int) -> int:
    """Width of the sum that leaves the adder tree of one PE, from the registers behind it."""
    counts = mac(geo, codebook, bits, ints(1), ints(simd), "lut", DSP48E2)
    registers = total(counts.ff) - sum_bits(geo.fan_in, codebook, bits, geo.signed)
    return registers // 2 if codebook == "binary" else registers  # binary: a second tree of sum(a)


@pytest.mark.parametrize(
    ("codebook", "signed"),
    [
        *itertools.product(["ternary", "int3", "int8"], [False]),
        *itertools.product(["int3", "int8"], [True]),
        ("ternary", True),
    ],
)
def test_the_adder_tree_holds_its_sum(codebook: str, signed: bool) -> None:
    for bits, simd in itertools.product(range(1, 9), range(1, 9)):
        geo = geometry(conv(simd, 1), signed=signed)
        products = [w * a for w in codes(codebook) for a in activations(bits, signed)]
        needed = two_complement(min(products) * simd, max(products) * simd)
        assert tree_width(geo, codebook, bits, simd) >= needed


def test_the_binary_tree_adds_activations_only() -> None:
    """sum(+-a) = 2 * sum(a where w = +1) - sum(a): both trees hold 0 to simd * (2**bits - 1)."""
    for bits, simd in itertools.product(range(1, 9), range(1, 9)):
        geo = geometry(conv(simd, 1), signed=False)
        largest = simd * (2**bits - 1)
        assert tree_width(geo, "binary", bits, simd) >= largest.bit_length()


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
    counts = mac(geo, codebook, bits, pe, simd, "dsp", DSP48E2)
    lanes = lanes_per_dsp(DSP48E2, codebook, bits)
    for p, s, dsp in zip(pe.tolist(), simd.tolist(), counts.dsp.tolist(), strict=True):
        at_once = max(1, p * geo.groups // geo.c_out)
        share_one_input = p // at_once  # PEs of one group: what may be packed
        assert dsp == at_once * s * -(-share_one_input // lanes)
    assert "product_bits" not in counts.lut


@FAST
@given(geometries(channels=8), st.integers(1, 8))
def test_codes_of_up_to_two_bits_stay_in_luts(geo: Geometry, bits: int) -> None:
    pe, simd = foldings(geo, "pixel")
    for codebook in WEIGHTS:
        dsp = total(mac(geo, codebook, bits, pe, simd, "dsp", DSP48E2).dsp)
        assert (dsp > 0) == (codebook not in ("binary", "ternary", "int2"))
        assert (dsp > 0) == uses_dsp(codebook, "dsp")
        assert total(mac(geo, codebook, bits, pe, simd, "lut", DSP48E2).dsp) == 0


def lut_of_mac(geo: Geometry, codebook: str, bits: int, pe: int, simd: int) -> float:
    counts = mac(geo, codebook, bits, ints(pe), ints(simd), "lut", DSP48E2)
    price = load_lut("xcup").lut_per_bit
    return sum(price[name] * total(bits) for name, bits in counts.lut.items())


@settings(FAST, max_examples=30)
@given(geometries(channels=8), st.data())
def test_fewer_bits_never_cost_more_luts(geo: Geometry, data: st.DataObject) -> None:
    pe, simd = (
        int(n) for n in data.draw(st.sampled_from(list(zip(*foldings(geo, "row"), strict=True))))
    )
    for codebook in WEIGHTS:
        luts = [lut_of_mac(geo, codebook, bits, pe, simd) for bits in range(1, 9)]
        assert luts == sorted(luts)
    for bits in range(1, 9):
        luts = [lut_of_mac(geo, f"int{n}", bits, pe, simd) for n in range(2, 9)]
        assert luts == sorted(luts)


# Scales


@FAST
@given(geometries(channels=6), CODEBOOK, st.sampled_from(["row", "pixel"]), st.integers(1, 8))
def test_multipliers_of_row_and_pixel_scales(
    geo: Geometry, codebook: str, granularity: str, bits: int
) -> None:
    """DESIGN section 3: one a PE while SIMD stays in a subgroup, else SIMD / its terms of them."""
    pe, simd = foldings(geo, granularity)
    terms = geo.c_in * (geo.k if granularity == "row" else 1)
    expected = [p * max(1, s // terms) for p, s in zip(pe.tolist(), simd.tolist(), strict=True)]
    layer = LayerScheme(weights=codebook, granularity=granularity)  # type: ignore[arg-type]
    counts = scale(geo, layer, bits, pe, simd, "dsp", DSP48E2)
    assert counts.dsp.tolist() == expected
    assert "product_bits" not in counts.lut

    partial = sum_bits(terms, codebook, bits, geo.signed)
    in_luts = scale(geo, layer, bits, pe, simd, "lut", DSP48E2)
    assert in_luts.lut["product_bits"].tolist() == [n * partial * 8 for n in expected]

    shift = LayerScheme(weights=codebook, granularity=granularity, scale="shift")  # type: ignore[arg-type]
    shifted = scale(geo, shift, bits, pe, simd, "dsp", DSP48E2)
    assert total(shifted.dsp) == 0
    assert shifted.lut["shift_bits"].tolist() == [n * (partial + 7) * 3 for n in expected]

    for counts in (in_luts, shifted):  # K or K * K entries a layer
        (table,) = counts.memories
        entries = geo.k if granularity == "row" else geo.k**2
        held = table.width * table.depth // (8 if counts is in_luts else 3)
        assert ((held >= entries) & (held < entries + simd // terms + 1)).all()


@FAST
@given(geometries(), CODEBOOK, st.integers(1, 8), st.sampled_from(["layer", "channel"]))
def test_layer_and_channel_scales_vanish(
    geo: Geometry, codebook: str, bits: int, granularity: str
) -> None:
    layer = LayerScheme(weights=codebook, granularity=granularity)  # type: ignore[arg-type]
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
    counts = requant.thresholds(acc, bits, channels, ints(pe), ints(period))
    comparators = int(counts.lut["compare_bits"]) // acc
    assert comparators * period >= pe * bits
    assert (comparators - 1) * period < pe * bits

    # A schedule: comparisons in order of result and level, dealt out period by period. Levels of a
    # result then follow each other in time, so that none waits for one that comes later.
    slots = [divmod(i, period) for i in range(pe * bits)]
    assert {comparator for comparator, _ in slots} <= set(range(comparators))
    for result in range(pe):
        own = slots[result * bits : (result + 1) * bits]
        for (one, at), (other, then) in itertools.pairwise(own):
            assert (one == other and then == at + 1) or (other == one + 1 and then == 0)

    (table,) = counts.memories
    assert int(table.width * table.depth * table.banks) >= channels * (2**bits - 1) * acc


def test_each_comparator_reads_at_its_own_address() -> None:
    counts = requant.thresholds(20, 4, 64, ints(16), ints(8))
    (table,) = counts.memories
    assert int(counts.lut["compare_bits"]) // 20 == 8
    assert (int(table.banks), int(table.width)) == (8, 20)


@FAST
@given(st.integers(4, 54), st.integers(1, 8), st.integers(1, 64), st.integers(1, 64))
def test_gain_multipliers_keep_up(acc: int, bits: int, pe: int, period: int) -> None:
    counts = requant.multiply(acc, bits, pe, ints(pe), ints(period), True, 27)
    multipliers = -(-pe // period)
    assert multipliers * period >= pe
    assert int(counts.dsp) == multipliers * (1 if acc <= 27 else 2)
    in_luts = requant.multiply(acc, bits, pe, ints(pe), ints(period), False, 27)
    assert total(in_luts.dsp) == 0
    assert int(in_luts.lut["product_bits"]) == multipliers * acc * 16


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
        (memory,) = counts.memories
        assert int(memory.width * memory.depth) == words * width
    else:
        assert words <= 2
        assert total(counts.ff) == 2 * width


@FAST
@given(st.integers(1, 32), st.integers(1, 64), st.integers(1, 64))
def test_a_converter_holds_the_wider_word(bits: int, source: int, sink: int) -> None:
    counts = converter(bits, source, sink)
    held = bits * max(source, sink) if source != sink else 0
    assert int(counts.lut["convert_bits"]) == held
    assert int(counts.ff) == held + held.bit_length()
    assert total(converter(bits, sink, source).ff) == total(counts.ff)


@FAST
@given(st.integers(1, 6), st.integers(1, 3), st.integers(4, 12), st.integers(1, 8), st.data())
def test_a_max_pool_holds_its_open_windows(
    k: int, stride: int, side: int, bits: int, data: st.DataObject
) -> None:
    k = min(k, side)
    c = data.draw(st.sampled_from([1, 2, 4, 6]))
    lanes = data.draw(st.sampled_from([n for n in (1, 2, 3, 6) if c % n == 0]))
    out = (side - k) // stride + 1
    layer = MaxPool(name="pool", k=k, stride=stride)
    node = Node(layer, ("input",), Shape(c, side, side), Shape(c, out, out))
    open_rows = max(
        sum(r * stride <= y <= r * stride + k - 1 for r in range(out)) for y in range(side)
    )
    (memory,) = max_pool(node, bits, lanes).memories
    assert int(memory.width * memory.depth) >= open_rows * out * c * bits


def test_a_mean_holds_the_sum_of_all_pixels() -> None:
    for side, bits in itertools.product([1, 2, 4, 7, 14], range(1, 9)):
        shape = Shape(8, side, side)
        node = Node(GlobalAvgPool(name="gap"), ("input",), shape, Shape(8, 1, 1))
        (memory,) = mean_pool(node, bits, bits, 1).memories
        assert int(memory.width) >= (side * side * (2**bits - 1)).bit_length()
        assert int(memory.depth) == 8


def test_a_mean_pool_holds_its_open_windows() -> None:
    layer = AvgPool(name="pool", k=3, stride=1)
    node = Node(layer, ("input",), Shape(4, 8, 8), Shape(4, 6, 6))
    (memory,) = mean_pool(node, 4, 4, 1).memories
    assert int(memory.width * memory.depth) >= 3 * 6 * 4 * (9 * 15).bit_length()


def test_an_addition_has_one_bit_more_than_its_operands() -> None:
    shape = Shape(8, 4, 4)
    node = Node(Add(name="add", inputs=("a", "b")), ("a", "b"), shape, shape)
    counts = add(node, (8, 5), 4, 2)
    assert (total(counts.lut["adder_bits"]), total(counts.lut["clip_bits"])) == (2 * 9, 2 * 4)


# Prices


def counted_names() -> Iterator[tuple[str, str]]:
    """("lut" or "work", name) of every count that the source of a unit can make."""
    for path in sorted(Path(units.__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        work = [k.value for k in ast.walk(tree) if isinstance(k, ast.keyword) and k.arg == "work"]
        in_work = {id(node) for value in work for node in ast.walk(value)}
        for node in ast.walk(tree):
            keys: list[ast.expr | None] = []
            if isinstance(node, ast.Dict):
                keys = list(node.keys)
            elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
                keys = [node.slice]
            for key in keys:
                if isinstance(key, ast.Constant) and isinstance(key.value, str):
                    yield ("work" if id(key) in in_work else "lut"), key.value


@pytest.mark.parametrize("family", ["xcup", "xc7", "ecp5"])
def test_every_count_has_a_price_and_every_price_a_count(family: str) -> None:
    names = set(counted_names())
    assert {name for kind, name in names if kind == "lut"} == set(load_lut(family).lut_per_bit)
    assert {name for kind, name in names if kind == "work"} == set(load_energy().pj_per_bit)
    assert set(load_lut(family).lut_per_unit) == set(engine.UNITS)


def test_the_names_found_are_all_that_units_count() -> None:
    """The counts that run, so that the reading of the source above misses none."""
    geo = geometry(conv(4, 4, 3, h=6, pad=(1, 1)), signed=False)
    pe, simd = foldings(geo, "pixel")
    made: list[Counts] = []
    for codebook, granularity in itertools.product(WEIGHTS, GRANULARITIES):
        for res in ("lut", "dsp"):
            layer = LayerScheme(weights=codebook, granularity=granularity, scale="shift")  # type: ignore[arg-type]
            fixed = LayerScheme(weights=codebook, granularity=granularity)  # type: ignore[arg-type]
            made += [mac(geo, codebook, 4, pe, simd, res, DSP48E2)]  # type: ignore[arg-type]
            made += [scale(geo, s, 4, pe, simd, res, DSP48E2) for s in (layer, fixed)]  # type: ignore[arg-type]
    period = geo.fan_in // simd
    made += [requant.multiply(20, 4, 4, pe, period, dsp, 27) for dsp in (False, True)]
    made += [requant.thresholds(20, 4, 4, pe, period), window(geo, 4, pe, simd)]
    made += [weights(geo, 4, pe, simd, style) for style in ("block", "dram")]  # type: ignore[arg-type]
    made += [fifo(2, 8), fifo(64, 8), converter(4, 2, 4)]
    shape = Shape(4, 4, 4)
    pool = Node(MaxPool(name="pool", k=2), ("input",), shape, Shape(4, 2, 2))
    made += [max_pool(pool, 4, 2), mean_pool(pool, 4, 4, 2)]
    made += [add(Node(Add(name="add", inputs=("a", "b")), ("a", "b"), shape, shape), (4, 4), 4, 1)]
    names = {("lut", n) for c in made for n in c.lut} | {("work", n) for c in made for n in c.work}
    assert names == set(counted_names())
    assert isinstance(conv(1, 1).layer, Conv)
