"""estimate() and choose(): sums of units, the smallest folding by trying all, laws, messages."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse import catalogue, network, scheme, target
from syq_dse.cost import design, engine, fpga, prices, timing
from syq_dse.cost.estimate import (
    LIMIT,
    Cost,
    check_interval,
    choose,
    estimate,
    geometries,
    tightest,
    utilization,
)
from syq_dse.cost.folding import RAM_STYLES, RES_TYPES, Folding, foldings, lanes
from syq_dse.cost.fpga import COLUMNS, Pricing
from syq_dse.errors import InfeasibleError, InputError
from syq_dse.network import (
    INPUT,
    Add,
    Conv,
    Dense,
    Flatten,
    Layer,
    MaxPool,
    Network,
    NetworkFile,
    Node,
    Recipe,
)
from syq_dse.scheme import GRANULARITIES, SCALES, WEIGHTS, LayerScheme, Scheme, normal, tensors

NETWORKS = catalogue.names("models")
BOARDS = catalogue.names("hwmodels", "fpga")
FAMILIES = ("zcu102", "ulx3s-85f", "pynq-z1", "u250")  # each family, and UltraRAM


@cache
def pricing(board: str) -> Pricing:
    return fpga.pricing(target.load(board))


def any_scheme(net: Network, seed: int) -> Scheme:
    """Every layer and every tensor drawn by itself, from all that DESIGN section 3 names."""
    draw = random.Random(seed)
    layers = {
        node.name: LayerScheme(
            weights=draw.choice(WEIGHTS),
            granularity=draw.choice(GRANULARITIES),
            scale=draw.choice(SCALES),
        )
        for node in net.engines
    }
    names = {t.name for t in tensors(net).values() if t.kind != "result"}
    return Scheme(layers=layers, bits={name: draw.randint(1, 8) for name in sorted(names)})


def any_interval(net: Network, seed: int) -> int:
    """Between one pixel a cycle and one PE and lane, evenly in the logarithm."""
    geos = geometries(net)
    least, most = timing.fastest_interval(geos), timing.slowest_interval(geos)
    return round(least * (most / least) ** random.Random(seed).random())


def priced(board: str, net: Network, wanted: Scheme, interval: int) -> Cost:
    chosen = choose(pricing(board), net, wanted, interval)
    return estimate(pricing(board), net, wanted, interval, chosen)


def share(board: str, cost: Cost) -> int:
    """Share of the part, as the folding was chosen by."""
    return sum(
        int(pricing(board).share_of(fpga.ints([layer.total[name] for name in COLUMNS])))
        for layer in cost.layers
    )


# Every design has a price


@pytest.mark.parametrize(
    ("name", "board"),
    [(n, b) for n in NETWORKS for b in BOARDS if b in FAMILIES or n == "resnet8"],
)
def test_any_scheme_has_a_price_that_its_units_add_up_to(name: str, board: str) -> None:
    net = network.load(name)
    seed = NETWORKS.index(name) * len(BOARDS) + BOARDS.index(board)
    wanted, interval = any_scheme(net, seed), any_interval(net, seed)
    cost = priced(board, net, wanted, interval)

    total = dict.fromkeys(COLUMNS, 0)
    for layer in cost.layers:
        assert set(layer.units) <= set(prices.UNITS)
        units = [unit for unit in layer.units.values() if min(unit.values()) >= 0]
        assert len(units) == len(layer.units)
        summed = {column: sum(unit[column] for unit in units) for column in COLUMNS}
        assert layer.total | {"lut": 0} == summed | {"lut": 0}
        # LUTs that units share count once
        assert max(unit["lut"] for unit in units) <= layer.total["lut"] <= summed["lut"]
        for column, value in layer.total.items():
            total[column] += value
    assert cost.total == total

    priced_layers = {layer.name: layer for layer in cost.layers}
    for node in net.engines:
        layer, fold = priced_layers[node.name], priced_layers[node.name].folding
        assert fold is not None and layer.scheme == wanted.layers[node.name]
        folds = node.out_shape.c // fold.pe * (node.fan_in // fold.simd)
        assert layer.cycles == node.out_shape.pixels * folds <= interval
    # the words of a stream may take longer than the engines on both of its ends
    shapes = [net.shape_of(INPUT), *(node.out_shape for node in net.nodes)]
    words = [shape.size // lanes(shape, interval) for shape in shapes]
    assert cost.interval_cycles == max(*words, *(layer.cycles for layer in cost.layers))
    assert cost.interval_cycles <= interval < cost.latency_cycles

    capacity_of = pricing(board).board.capacity
    assert capacity_of.dsp or not cost.total["dsp"]
    assert capacity_of.uram or not cost.total["uram"]


# The smallest folding


def drawn() -> Network:
    """Few foldings of every kind: a kernel of 4, depthwise, groups, 1x1 with a stride, dense."""
    layers: list[Layer] = [
        Conv(name="square", c_out=8, k=4, pad=2, pad_after=1),
        Conv(name="depthwise", c_out=8, k=3, pad=1, groups=8),
        Conv(name="grouped", c_out=8, k=3, stride=2, pad=1, groups=2, relu=False),
        Conv(name="bypass", input="depthwise", c_out=8, k=1, stride=2, relu=False),
        Add(name="add", inputs=("grouped", "bypass")),
        MaxPool(name="pool", k=3),
        Flatten(name="flatten"),
        Dense(name="fc", c_out=4, relu=False),
    ]
    file = NetworkFile(
        name="drawn",
        provenance="a test",
        classes=4,
        input=(2, 6, 6),
        recipe=Recipe(dataset="none"),
        layers=tuple(layers),
    )
    return network.build(file)


def smallest(
    board: str, net: Network, wanted: Scheme, node: Node, interval: int
) -> tuple[int, list[Folding]]:
    """Least share of a layer, and every way to build it that has it, by pricing all of them."""
    geo, written = geometries(net)[node.name], tensors(net)
    layer = scheme.normal(node, wanted.layers[node.name])
    bits = wanted.bits[written[node.inputs[0]].name]
    out = written[node.name]
    out_bits = wanted.bits.get(out.name) or engine.result_bits(geo, layer, bits)
    queue = timing.queues(net, interval)[node.name, node.inputs[0]]
    link = lanes(node.out_shape, interval)
    found: dict[Folding, int] = {}
    limits = pricing(board).board
    for pe, simd in zip(*foldings(geo, layer.granularity), strict=True):
        if geo.positions * (geo.c_out // pe) * (geo.fan_in // simd) > interval:
            continue
        for res in RES_TYPES if limits.capacity.dsp else RES_TYPES[:1]:
            for style in RAM_STYLES:
                if style == "ultra" and not limits.capacity.uram:
                    continue
                if style == "dram" and geo.positions > 1:
                    continue
                fold = Folding(pe=int(pe), simd=int(simd), res_type=res, ram_style=style)
                units = engine.engine_units(
                    pricing(board), geo, layer, bits, out, out_bits, queue, link, fold
                )
                row = fpga.settled(np.sum(list(units.values()), axis=0))
                found[fold] = int(pricing(board).share_of(row))
    least = min(found.values())
    return least, [fold for fold, value in found.items() if value == least]


@pytest.mark.parametrize(
    ("name", "board", "interval"),
    [
        ("drawn", "zcu102", 81),
        ("drawn", "zcu104", 200),
        ("drawn", "pynq-z1", 700),
        ("drawn", "ulx3s-85f", 1_500),
        ("drawn", "u250", 10_000),
        ("lenet5", "zcu102", 784),
        ("resnet8", "u250", 1_536),
    ],
)
def test_choose_takes_the_smallest_of_all_foldings(name: str, board: str, interval: int) -> None:
    net = drawn() if name == "drawn" else network.load(name)
    wanted = any_scheme(net, interval)
    chosen = choose(pricing(board), net, wanted, interval)
    for node in net.engines:
        least, best = smallest(board, net, wanted, node, interval)
        assert chosen[node.name] in best, (node.name, least)
        # of equal ones the first by what multiplies, then by where the weights are, then by size
        first = min(
            best, key=lambda f: (RES_TYPES.index(f.res_type), RAM_STYLES.index(f.ram_style))
        )
        assert chosen[node.name] == first


def test_a_given_folding_is_kept_whatever_its_cycles() -> None:
    net = network.load("lenet5")
    wanted = scheme.parse_uniform(net, "ternary,4,pixel")
    slow = Folding(pe=1, simd=1, res_type="dsp", ram_style="block")
    chosen = choose(pricing("zcu102"), net, wanted, 784, {"conv2": slow})
    assert chosen["conv2"] == slow
    assert chosen["conv1"] != slow
    cost = estimate(pricing("zcu102"), net, wanted, 784, chosen)
    assert cost.interval_cycles == 10 * 10 * 16 * 5 * 5 * 6


# Laws


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    name=st.sampled_from(["lenet5", "fmnist-vgg", "resnet8", "cybersec-mlp"]),
    board=st.sampled_from(["zcu102", "ulx3s-85f", "pynq-z1", "u250"]),
    seed=st.integers(0, 10**6),
    factor=st.floats(1, 8),
)
def test_a_longer_interval_never_costs_a_larger_share(
    name: str, board: str, seed: int, factor: float
) -> None:
    net = network.load(name)
    wanted, interval = any_scheme(net, seed), any_interval(net, seed)
    short = share(board, priced(board, net, wanted, interval))
    longer = share(board, priced(board, net, wanted, int(interval * factor)))
    assert longer <= short


@pytest.mark.parametrize("name", ["cybersec-mlp", "mobilenet-v1", "resnet50"])
def test_layer_row_and_pixel_are_one_choice_on_one_pixel(name: str) -> None:
    net = network.load(name)
    node = next(node for node in net.engines if node.k == 1)
    made = {
        normal(node, LayerScheme(weights="ternary", granularity=g, scale=s))
        for g in ("layer", "row", "pixel")
        for s in SCALES
    }
    assert len(made) == 1


@pytest.mark.parametrize("granularity", ["row", "pixel"])
def test_a_uniform_row_or_pixel_costs_dense_layers_nothing(granularity: str) -> None:
    net = network.load("cybersec-mlp")
    layer = scheme.parse_uniform(net, "ternary,4,layer")
    finer = scheme.parse_uniform(net, f"ternary,4,{granularity}")
    assert priced("zcu102", net, finer, 128).total == priced("zcu102", net, layer, 128).total


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_layer_and_channel_scales_need_no_unit(granularity: str) -> None:
    net = network.load("fmnist-vgg")
    cost = priced("zcu102", net, scheme.parse_uniform(net, f"ternary,4,{granularity}"), 5_000)
    scales = [layer.units["scale"] for layer in cost.layers if "scale" in layer.units]
    assert len(scales) == len(net.engines)
    assert not any(value for unit in scales for value in unit.values())
    pixel = priced("zcu102", net, scheme.parse_uniform(net, "ternary,4,pixel"), 5_000)
    inner = {layer.name: layer.units["scale"]["lut"] for layer in pixel.layers if layer.folding}
    assert all(inner[name] for name in ("conv2", "conv3", "conv4"))


def test_a_part_without_dsps_multiplies_in_luts() -> None:
    board = target.load("zcu102")
    bare = replace(pricing("zcu102"), board=replace(board, capacity=replace(board.capacity, dsp=0)))
    net = network.load("fmnist-vgg")
    for text in ("int8,8,pixel", "ternary,4,row"):
        wanted = scheme.parse_uniform(net, text)
        chosen = choose(bare, net, wanted, 10_000)
        assert {fold.res_type for fold in chosen.values()} == {"lut"}
        assert estimate(bare, net, wanted, 10_000, chosen).total["dsp"] == 0


def test_weights_leave_the_chip_only_where_they_do_not_fit() -> None:
    net = network.load("alexnet")
    wanted = scheme.parse_uniform(net, "int8,8,layer")
    for board, streams in (("u250", False), ("ulx3s-85f", True)):
        chosen = choose(pricing(board), net, wanted, 5_000_000)
        styles = {name: fold.ram_style for name, fold in chosen.items()}
        assert (styles["fc0"] == "dram") == streams
        assert all(styles[node.name] != "dram" for node in net.engines if node.out_shape.h > 1)


def test_the_shortest_interval_that_fits_is_taken() -> None:
    net, board = network.load("mobilenet-v1"), "arty-a7-100t"
    asked = design.uniform(net, "binary,2,row")
    settled = design.settle(pricing(board), net, asked, None, None, None, LIMIT)
    shorter = [t for t in design.grid(net, design.GRID) if t < settled.interval]
    for interval in shorter:
        total = priced(board, net, asked.scheme, interval).total
        offered = pricing(board).capacity(interval, settled.clock_mhz)
        assert max(utilization(total, offered).values()) > LIMIT, interval


# Capacity


def test_capacity_offers_dram_bits_by_the_interval() -> None:
    """17.1 GB/s at 200 MHz are 684 bits a cycle."""
    offered = pricing("zcu102").capacity(1000, 200.0)
    assert offered == {
        "lut": 274_080,
        "ff": 548_160,
        "dsp": 2_520,
        "bram18": 1_824,
        "uram": 0,
        "lutram": 144_000,
        "dram_bits": 684_000,
    }


def test_utilization_of_what_a_part_has_not() -> None:
    used = utilization({"lut": 50, "uram": 0, "dsp": 1}, {"lut": 100, "uram": 0, "dsp": 0})
    assert used == {"lut": 0.5, "uram": 0.0, "dsp": float("inf")}
    assert tightest(used) == "dsp"


# What a user reads


def test_message_for_an_interval_that_no_folding_meets() -> None:
    net = network.load("fmnist-vgg")
    with pytest.raises(InfeasibleError) as caught:
        choose(pricing("zcu102"), net, scheme.parse_uniform(net, "binary,1,layer"), 700)
    assert str(caught.value) == (
        "fmnist-vgg: an interval of 700 cycles is 84 less than conv1 needs with its fastest "
        "folding; the least is 784"
    )
    assert caught.value.exit_code == 3
    check_interval(net, 784)


def test_message_for_a_layer_that_no_engine_is_slow_enough_for() -> None:
    """A depthwise 1x1 kernel that reads one pixel in nine."""
    net = network.build(
        NetworkFile(
            name="sparse",
            provenance="a test",
            classes=4,
            input=(2, 9, 9),
            recipe=Recipe(dataset="none"),
            layers=(
                Conv(name="skips", c_out=2, k=1, stride=3, groups=2),
                Flatten(name="flatten"),
                Dense(name="fc", c_out=4, relu=False),
            ),
        )
    )
    with pytest.raises(InputError) as caught:
        geometries(net)
    assert str(caught.value) == (
        "sparse: skips has no hardware: an image comes in more slowly than one PE works with one "
        "SIMD lane; use a smaller stride than 3"
    )


@pytest.mark.parametrize(
    ("given_folding", "message"),
    [
        (
            {"conv9": Folding(pe=1, simd=1)},
            "folding.conv9: unknown layer with weights 'conv9'; known: conv1, conv2, dense1, "
            "dense2, dense3 (did you mean 'conv2'?)",
        ),
        (
            {"conv1": Folding(pe=4, simd=1)},
            "folding.conv1.pe: must be one of 1, 2, 3, 6, got 4",
        ),
        (
            {"conv2": Folding(pe=1, simd=4)},
            "folding.conv2.simd: must be one of 1, 2, 3, 6, 30, 150, got 4",
        ),
        (
            {"conv2": Folding(pe=1, simd=1, ram_style="dram")},
            "folding.conv2.ram_style: only dense layers stream from dram",
        ),
    ],
)
def test_message_for_a_folding_that_cannot_be(
    given_folding: dict[str, Folding], message: str
) -> None:
    net = network.load("lenet5")
    wanted = scheme.parse_uniform(net, "ternary,4,pixel")
    with pytest.raises(InputError) as caught:
        choose(pricing("zcu102"), net, wanted, 10_000, given_folding)
    assert str(caught.value) == message
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("style", ["ultra", "dram"])
def test_a_folding_asks_for_what_the_part_has(style: str) -> None:
    """ECP5 has no UltraRAM: `ultra` is an AssertionError, no line for the user."""
    net = network.load("lenet5")
    wanted = scheme.parse_uniform(net, "ternary,4,pixel")
    fold = Folding(pe=1, simd=1, ram_style=style)
    bare = replace(pricing("ulx3s-85f"), board=target.load("ulx3s-85f"))
    no_dram = replace(bare.board, dram=replace(bare.board.dram, bandwidth_gb_s=0))
    bare = replace(bare, board=no_dram)
    with pytest.raises(InputError, match="ram_style"):
        chosen = choose(bare, net, wanted, 100_000, {"dense1": fold})
        estimate(bare, net, wanted, 100_000, chosen)


# Widths of streams


def test_the_fifo_of_an_engine_is_its_queue_and_two_conversions() -> None:
    """conv2 of lenet5: words of the stream before it, of its window, of its PEs, of its output."""
    net, interval = network.load("lenet5"), 784
    wanted = scheme.parse_uniform(net, "ternary,4,layer")
    fold = Folding(pe=8, simd=3)
    queue = timing.queues(net, interval)["conv2", "pool1"]
    link = lanes(net.by_name["conv2"].out_shape, interval)
    assert (queue.lanes, link) == (6, 4)
    chosen = choose(pricing("zcu102"), net, wanted, interval, {"conv2": fold})
    cost = estimate(pricing("zcu102"), net, wanted, interval, chosen)
    units = next(layer.units for layer in cost.layers if layer.name == "conv2")

    at = pricing("zcu102")
    parts = [
        engine.queue_unit(at, queue, 4),
        engine.convert_unit(at, 4, queue.lanes, 3),
        engine.convert_unit(at, 4, 8, link),
    ]
    assert all(part[..., fpga.FF].all() for part in parts)
    assert units["fifo"] == fpga.as_mapping(fpga.settled(sum(parts).reshape(-1)))


def test_words_that_stay_as_they_are_cost_nothing() -> None:
    assert not engine.output_unit(pricing("zcu102"), 8, fpga.ints([4]), 4).any()
