"""Whole networks as hardware, compiled, against the integer model and the cost model's cycles."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from syq_dse import network, records, target
from syq_dse.cost import design, parameters
from syq_dse.cost.estimate import choose, estimate, least_intervals, requant_methods
from syq_dse.cost.fpga import pricing
from syq_dse.errors import InfeasibleError
from syq_dse.quant import integer
from syq_dse.rtl import emit, engine, verify

NETWORK = """
name = "tiny"
provenance = "a test"
classes = 3
input = [2, 6, 6]
recipe = { dataset = "none", epochs = 1 }
layers = [
  { name = "conv1", op = "conv", c_out = 4, k = 3, pad = 1 },
  { name = "conv2", op = "conv", c_out = 4, k = 3, pad = 1, relu = false },
  { name = "join", op = "add", inputs = ["conv2", "conv1"] },
  { name = "pool", op = "max_pool", k = 2 },
  { name = "conv3", op = "conv", c_out = 4, k = 3, groups = 2, pad = 1 },
  { name = "flat", op = "flatten" },
  { name = "dense", op = "dense", c_out = 3, batch_norm = false, relu = false },
]
"""


@pytest.mark.parametrize(
    ("uniform", "interval", "board"),
    [
        ("ternary,3,pixel", 400, "zcu102"),
        ("binary,1,row,shift", 72, "ulx3s-85f"),
        ("int4,4,pixel", 1300, "pynq-z1"),
        ("ternary,2,row", 36, "pynq-z1"),  # a pixel a cycle: weights are constants
    ],
)
def test_a_network_gives_what_integers_give(
    tmp_path: Path, uniform: str, interval: int, board: str
) -> None:
    (tmp_path / "tiny.toml").write_text(NETWORK)
    net = network.load(str(tmp_path / "tiny.toml"))
    prices = pricing(target.load(board))
    scheme = design.uniform(net, uniform).scheme
    chosen = choose(prices, net, scheme, interval)
    methods = requant_methods(prices, net, scheme, chosen)
    integers = integer.draw(net, scheme, 3, methods)
    built = engine.build(prices, net, scheme, interval, chosen, integers)
    cost = estimate(prices, net, scheme, interval, chosen)
    texts = emit.files(net, built)
    found = verify.simulate_design(net, scheme, interval, built, texts, integers, images=4)
    assert found.interval_cycles == cost.interval_cycles
    assert found.latency_cycles <= cost.latency_cycles
    for resource in ("dsp", "bram18", "uram"):
        assert sum(e.estimate[resource] for e in built) == cost.total[resource]
    # of these constants, of a network this small, and in the mean over all
    assert sum(e.estimate["lut"] for e in built) == pytest.approx(cost.total["lut"], rel=0.05)
    counted = parameters.of_design(prices, net, scheme, interval, chosen)
    made = [(one.layer, one.unit, dict(one.parameters)) for e in built for one in e.instances]
    assert sorted(counted, key=str) == sorted(made, key=str)
    listed = emit.manifest(net, built)
    assert {entry["file"] for entry in listed} == set(texts)
    assert records.plain(listed) == listed


POOLED = """
name = "pooled"
provenance = "made up"
classes = 3
input = [2, 9, 11]
recipe = { dataset = "mnist" }
layers = [
  { name = "conv1", op = "conv", c_out = 4, k = 3, pad = 1 },
  { name = "pool1", op = "max_pool", k = 3, stride = 1, pad = 1 },
  { name = "conv2", op = "conv", c_out = 4, k = 3 },
  { name = "pool2", op = "max_pool", k = 3, stride = 1 },
  { name = "flat", op = "flatten" },
  { name = "dense", op = "dense", c_out = 3, batch_norm = false, relu = false },
]
"""


@pytest.mark.parametrize("slower", [1, 1.3, 2, 5])
def test_the_interval_counts_the_padding_of_pools(tmp_path: Path, slower: float) -> None:
    """And queues hold what a pool that writes late writes at once."""
    (tmp_path / "pooled.toml").write_text(POOLED)
    net = network.load(str(tmp_path / "pooled.toml"))
    prices = pricing(target.load("zcu102"))
    scheme = design.uniform(net, "binary,2,layer").scheme
    limits = least_intervals(net)
    least = max(limits.values())
    assert limits["pool1"] == 9 * 12 + 11 - 1
    interval = round(slower * least)
    chosen = choose(prices, net, scheme, interval)
    integers = integer.draw(net, scheme, 7, requant_methods(prices, net, scheme, chosen))
    built = engine.build(prices, net, scheme, interval, chosen, integers)
    texts = emit.files(net, built)
    found = verify.simulate_design(net, scheme, interval, built, texts, integers, images=8)
    cost = estimate(prices, net, scheme, interval, chosen)
    assert found.interval_cycles == cost.interval_cycles <= interval
    assert found.latency_cycles <= cost.latency_cycles
    slowest = max(limits, key=lambda name: limits[name])
    with pytest.raises(InfeasibleError, match=f"is 1 less than {slowest} needs"):
        choose(prices, net, scheme, least - 1)


def test_weights_from_outside_come_in_on_their_streams(tmp_path: Path) -> None:
    """UltraRAM is loaded once, DRAM is read for every image."""
    (tmp_path / "tiny.toml").write_text(NETWORK)
    net = network.load(str(tmp_path / "tiny.toml"))
    prices = pricing(target.load("zcu102"))
    scheme = design.uniform(net, "ternary,2,row").scheme
    chosen = choose(prices, net, scheme, 600)
    chosen |= {
        "conv2": replace(chosen["conv2"], ram_style="ultra"),
        "dense": replace(chosen["dense"], ram_style="dram"),
    }
    integers = integer.draw(net, scheme, 5, requant_methods(prices, net, scheme, chosen))
    built = engine.build(prices, net, scheme, 600, chosen, integers)
    texts = emit.files(net, built)
    assert [e.layer for e in built if e.loaded_bits] == ["conv2", "dense"]
    found = verify.simulate_design(net, scheme, 600, built, texts, integers, images=4)
    cost = estimate(prices, net, scheme, 600, chosen)
    assert found.interval_cycles == cost.interval_cycles
