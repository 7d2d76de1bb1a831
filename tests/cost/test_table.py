"""The table of all choices, against estimate() and choose(), design by design."""

from __future__ import annotations

import random
from functools import cache

import numpy as np
import pytest

from syq_dse import network, target
from syq_dse.cost import fpga, table, timing
from syq_dse.cost.estimate import choose, estimate, geometries
from syq_dse.cost.fpga import COLUMNS
from syq_dse.cost.table import Choice, Table
from syq_dse.errors import InfeasibleError
from syq_dse.network import Network
from syq_dse.scheme import GRANULARITIES, SCALES, WEIGHTS, LayerScheme, tensors
from syq_dse.search import space
from syq_dse.search.space import Space

NETWORKS = ["fmnist-vgg", "resnet8", "cnv", "mobilenet-v1", "alexnet"]
BOARDS = ["zcu102", "ulx3s-85f", "pynq-z1", "u250"]

SMALL = Space(
    weights=("ternary", "int4"),
    granularity=("layer", "row", "pixel", "channel"),
    bits=(2, 8),
    intervals=2,
)


@cache
def built(name: str, board: str) -> Table:
    return space.build(SMALL, network.load(name), fpga.pricing(target.load(board)))


def designs(priced: Table, count: int, seed: int) -> np.ndarray:
    draw = random.Random(seed)
    return np.array([[draw.randrange(size) for size in priced.sizes] for _ in range(count)])


def free_table(net: Network, board: str, intervals: list[int], seed: int) -> Table:
    """A table of what the space leaves out too: any first layer, any input and residual bits."""
    draw = random.Random(seed)
    pricing = fpga.pricing(target.load(board))
    geos = geometries(net)
    choices = {
        node.name: [
            Choice(
                LayerScheme(
                    weights=draw.choice(WEIGHTS),
                    granularity=draw.choice(GRANULARITIES),
                    scale=draw.choice(SCALES),
                ),
                draw.choice(pricing.res_types()),
                draw.choice(pricing.ram_styles(geos[node.name])),
            )
            for _ in range(4)
        ]
        for node in net.engines
    }
    names = sorted({t.name for t in tensors(net).values() if t.kind != "result"})
    bits = {name: sorted(draw.sample(range(1, 9), 3)) for name in names}
    return table.build(pricing, net, intervals, choices, bits)


def agrees(priced: Table, rows: np.ndarray) -> None:
    """Every integer of each design, from the table and from estimate()."""
    found = table.price(priced, rows)
    for at, row in enumerate(rows):
        design, chosen = priced.scheme_of(row), priced.foldings_of(row)
        interval = priced.intervals[row[0]]
        cost = estimate(priced.pricing, priced.network, design, interval, chosen)
        assert dict(zip(COLUMNS, found.total[at].tolist(), strict=True)) == cost.total
        assert found.interval_cycles[at] == cost.interval_cycles
        assert found.latency_cycles[at] == cost.latency_cycles


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_table_is_estimate_to_the_last_integer(name: str, board: str) -> None:
    priced = built(name, board)
    agrees(priced, designs(priced, count=4, seed=NETWORKS.index(name)))
    corners = np.array([[0] * len(priced.sizes), [size - 1 for size in priced.sizes]])
    agrees(priced, corners)


@pytest.mark.parametrize("name", ["fmnist-vgg", "resnet8"])
def test_choices_outside_the_default_space_agree_too(name: str) -> None:
    net = network.load(name)
    least = timing.fastest_interval(geometries(net))
    for seed, board in enumerate(["ulx3s-85f", "u250"]):
        priced = free_table(net, board, [least, 7 * least], seed)
        agrees(priced, designs(priced, count=6, seed=seed))


@pytest.mark.parametrize("board", BOARDS)
@pytest.mark.parametrize("name", ["fmnist-vgg", "resnet8", "alexnet"])
def test_a_table_of_one_design_picks_what_choose_chooses(name: str, board: str) -> None:
    priced = built(name, board)
    for row in designs(priced, count=3, seed=1):
        design, interval = priced.scheme_of(row), priced.intervals[row[0]]
        chosen = choose(priced.pricing, priced.network, design, interval)
        choices = {
            engine: [Choice(design.layers[engine], fold.res_type, fold.ram_style)]
            for engine, fold in chosen.items()
        }
        bits = {tensor: [value] for tensor, value in design.bits.items()}
        one = table.build(priced.pricing, priced.network, [interval], choices, bits)
        assert set(one.sizes) == {1}
        only = np.zeros((1, len(one.sizes)), int)
        assert one.foldings_of(only[0]) == chosen
        assert one.scheme_of(only[0]) == design
        agrees(one, only)


def test_the_best_choice_of_a_table_is_what_choose_chooses() -> None:
    """choose() also picks what multiplies and where weights are: the least share of all rows."""
    priced = built("fmnist-vgg", "u250")
    pricing, net = priced.pricing, priced.network
    for row in designs(priced, count=4, seed=2):
        design, interval = priced.scheme_of(row), priced.intervals[row[0]]
        chosen = choose(pricing, net, design, interval)
        best = row.copy()
        for engine, fold in chosen.items():
            choice = Choice(design.layers[engine], fold.res_type, fold.ram_style)
            best[priced.variables.index(engine)] = priced.choices[engine].index(choice)
        assert priced.foldings_of(best) == chosen
        for engine, options in priced.choices.items():
            for index, option in enumerate(options):
                if option.scheme == design.layers[engine]:
                    other = best.copy()
                    other[priced.variables.index(engine)] = index
                    total = table.price(priced, np.stack([best, other])).total
                    least, share = pricing.share_of(total).tolist()
                    assert least <= share, (engine, option)


def test_designs_are_priced_alone_as_together() -> None:
    priced = built("resnet8", "zcu102")
    rows = designs(priced, count=table.CHUNK + 5, seed=3)
    together = table.price(priced, rows)
    for at in (0, table.CHUNK - 1, table.CHUNK, table.CHUNK + 4):
        alone = table.price(priced, rows[at : at + 1])
        assert (alone.total[0] == together.total[at]).all()
        assert alone.interval_cycles[0] == together.interval_cycles[at]
        assert alone.latency_cycles[0] == together.latency_cycles[at]
    assert table.price(priced, rows[:0]).total.shape == (0, len(COLUMNS))


def test_the_integers_of_a_design() -> None:
    priced = built("resnet8", "zcu102")
    engines = [node.name for node in priced.network.engines]
    assert priced.variables[: 1 + len(engines)] == ("interval", *engines)
    assert priced.sizes[0] == len(priced.intervals)
    assert priced.sizes[1] == 2 * 2  # int8, scale by layer; LUTs or DSPs; LUTs or block RAM
    assert len(priced.variables) == len(priced.sizes)
    assert dict(zip(priced.variables, priced.sizes, strict=True))["bits.layer1.conv2"] == 1


@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_message_for_an_integer_outside_its_range(wrong: int) -> None:
    priced = built("fmnist-vgg", "zcu102")
    row = designs(priced, count=1, seed=0)
    row[0, priced.variables.index("conv3")] = wrong
    with pytest.raises(
        ValueError, match=r"^every design's 'conv3' must be an index of its values$"
    ):
        table.price(priced, row)


def test_message_for_an_interval_that_no_folding_meets() -> None:
    priced = built("fmnist-vgg", "zcu102")
    with pytest.raises(InfeasibleError) as caught:
        table.build(priced.pricing, priced.network, [783], priced.choices, priced.bits)
    assert str(caught.value) == (
        "fmnist-vgg: an interval of 783 cycles is 1 less than conv1 needs with its fastest "
        "folding; the least is 784"
    )


def test_progress_names_every_layer() -> None:
    priced = built("fmnist-vgg", "zcu102")
    seen: list[tuple[int, int, str]] = []

    def progress(done: int, layers: int, name: str) -> None:
        seen.append((done, layers, name))

    choices = {name: options[:1] for name, options in priced.choices.items()}
    table.build(
        priced.pricing, priced.network, priced.intervals[:1], choices, priced.bits, progress
    )
    names = [node.name for node in priced.network.nodes]
    assert seen == [(i, len(names), name) for i, name in enumerate(names)]
