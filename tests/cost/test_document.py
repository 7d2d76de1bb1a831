"""The document of a design: its contract, and that its numbers follow from each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from syq_dse import network
from syq_dse.cost import design, pricing
from syq_dse.cost.clock import Reach
from syq_dse.cost.document import document
from syq_dse.cost.estimate import Cost, estimate, utilization
from syq_dse.cost.pricing import Pricing

INTERVAL, CLOCK_MHZ, LIMIT = 90_000, 125.0, 0.8
REACH = Reach(mhz=100.0, path_ns=10.0, layer="conv1", unit="mac", worst=0.07)
SHOWN = {
    "zcu102": {"lut", "ff", "dsp", "bram18", "uram", "lutram", "dram_bits"},
    "ihp-sg13g2": {"area_um2", "gate_equivalents", "ff", "sram_bits", "sram_um2"},
}
LAYER = {
    *("name", "weights", "granularity", "scale", "input_bits", "output_bits", "pe", "simd"),
    *("res_type", "ram_style", "cycles", "units", "total"),
}

Priced = tuple[Pricing, Cost]


@pytest.fixture(scope="module", params=SHOWN)
def priced(request: pytest.FixtureRequest) -> Priced:
    prices, net = pricing.load(request.param), network.load("lenet5")
    asked = design.uniform(net, "ternary,2,pixel")
    settled = design.settle(prices, net, asked, INTERVAL, None, None, LIMIT)
    return prices, estimate(prices, net, settled.scheme, INTERVAL, settled.folding)


def made(priced: Priced, **changes: Any) -> dict[str, Any]:
    arguments = {"interval": INTERVAL, "clock_mhz": CLOCK_MHZ, "limit": LIMIT} | changes
    return document(priced[0], "lenet5", priced[1], **arguments)


def test_the_keys_are_those_that_others_read(priced: Priced) -> None:
    found = made(priced)
    assert set(found) == {
        *("network", "target", "clock_mhz", "interval_cycles", "fps", "latency_us", "total"),
        *("capacity", "utilization", "limit", "fits", "tightest", "sized_for_cycles"),
        *("provenance", "warnings", "layers"),
    }
    shown = SHOWN[found["target"]]
    assert set(found["total"]) == {*shown, "energy_uj"}
    for layer in found["layers"]:
        assert set(layer) == LAYER
        for unit in (layer["total"], *layer["units"].values()):
            assert set(unit) == {*shown, "energy_pj"}
    assert set(found["utilization"]) == set(found["capacity"])


def test_numbers_follow_from_each_other(priced: Priced) -> None:
    prices, cost = priced
    found = made(priced, warnings=["a warning"])
    assert (found["network"], found["target"]) == ("lenet5", prices.target.name)
    assert found["sized_for_cycles"] == INTERVAL >= found["interval_cycles"]
    assert found["fps"] * found["interval_cycles"] == pytest.approx(CLOCK_MHZ * 1e6)
    assert found["latency_us"] * CLOCK_MHZ == pytest.approx(cost.latency_cycles)
    assert found["interval_cycles"] == max(layer["cycles"] for layer in found["layers"])
    assert found["warnings"] == ["a warning"]
    for layer in found["layers"]:
        for name, value in layer["total"].items():
            units = sum(unit[name] for unit in layer["units"].values())
            # LUTs of units may share one of six inputs; energy is rounded to 1 pJ a sum
            rounded = len(layer["units"]) if name == "energy_pj" else 0
            wanted = pytest.approx(units, rel=1e-9, abs=rounded)
            assert value <= units if name == "lut" else value == wanted
    for name, value in found["total"].items():
        layers = sum(layer["total"].get(name, 0) for layer in found["layers"])
        if name == "energy_uj":
            layers = sum(layer["total"]["energy_pj"] for layer in found["layers"]) / 1e6
        rounded = len(found["layers"]) / 1e6 if name == "energy_uj" else 0
        wanted = pytest.approx(layers, rel=1e-9, abs=rounded)
        assert value <= layers if name == "lut" else value == wanted
    shares = {name: found["total"][name] / size for name, size in found["capacity"].items() if size}
    assert shares == pytest.approx({name: found["utilization"][name] for name in shares})
    assert found["tightest"] == max(shares, key=lambda name: shares[name])


def test_a_design_fits_up_to_its_limit(priced: Priced) -> None:
    fullest = max(value for value in made(priced)["utilization"].values() if value is not None)
    assert made(priced, limit=fullest)["fits"]
    assert not made(priced, limit=fullest * 0.999)["fits"]


def test_layers_say_how_they_are_built(priced: Priced) -> None:
    for layer, cost in zip(made(priced)["layers"], priced[1].layers, strict=True):
        assert layer["name"] == cost.name
        assert (layer["input_bits"], layer["output_bits"]) == (cost.input_bits, cost.output_bits)
        engine = cost.folding is not None and cost.scheme is not None
        for key in ("weights", "granularity", "scale"):
            assert layer[key] == (getattr(cost.scheme, key) if engine else None)
        for key in ("pe", "simd", "res_type", "ram_style"):
            assert layer[key] == (getattr(cost.folding, key) if engine else None)


def test_what_the_part_has_not_is_null_and_does_not_fit() -> None:
    prices, net = pricing.load("zcu102"), network.load("lenet5")
    board = prices.target
    bare = replace(board, capacity=replace(board.capacity, dsp=0))
    asked = design.uniform(net, "int8,8,layer")
    settled = design.settle(prices, net, asked, INTERVAL, None, None, LIMIT)
    cost = estimate(prices, net, settled.scheme, INTERVAL, settled.folding)
    cost = replace(cost, total={**cost.total, "dsp": 1})
    found = made((replace(prices, board=bare), cost))
    assert found["utilization"]["dsp"] is None
    assert not found["fits"]
    assert found["tightest"] == "dsp"
    assert utilization({"dsp": 0}, {"dsp": 0}) == {"dsp": 0.0}


def test_a_clock_beyond_the_longest_path_is_a_warning(priced: Priced) -> None:
    found = made(priced, reach=REACH, warnings=["a warning"])
    assert found["reach"] == {
        "clock_mhz": 100.0,
        "path_ns": 10.0,
        "layer": "conv1",
        "unit": "mac",
        "worst_error": 0.07,
    }
    assert found["warnings"] == [
        "a warning",
        "clock: 125 MHz are more than the 100 MHz of the longest path, 10 ns in the mac of conv1; "
        "remedy: --clock 100",
    ]
    assert made(priced, reach=REACH, clock_mhz=100.0)["warnings"] == []
