"""The longest path of units by their parameters, and what limits a design."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from syq_dse import catalogue, network
from syq_dse.cost import asic, clock, design, gates, parameters, pricing
from syq_dse.cost.clock import Delays, UnitDelay
from syq_dse.cost.document import document
from syq_dse.cost.estimate import LIMIT, estimate
from syq_dse.cost.prices import UNITS
from syq_dse.errors import InputError

TECHNOLOGIES = catalogue.names("hwmodels", "asic")
SHIPPED = catalogue.folder("hwmodels") / gates.FOLDER


def made(**ns: dict[str, float]) -> Delays:
    error = {"mean": 0.1, "worst": 0.2}
    return Delays(
        technology="mine",
        status="calibrated",
        source="by hand",
        tool="none",
        register_ns=0.5,
        units={
            name: UnitDelay(runs=10, ns=values, least_ns=0.5, most_ns=9.0, error=error)
            for name, values in ns.items()
        },
    )


DELAYS = made(
    mac={"unit": 1.0, "unit.simd": 0.5},
    requant={"multiply": 2.0, "multiply.acc": 0.25, "constant": 1.5, "thresholds": 0.1},
    fifo={"queue": 0.1},
)


MULTIPLY: dict[str, int | str] = {
    "method": "multiply", "acc": 15, "channels": 8, "pe": 2, "period": 9,
}  # fmt: skip


def test_a_path_is_a_sum_of_logarithms_of_its_kind() -> None:
    assert DELAYS.path_ns("mac", {"simd": 7, "weights": "binary"}) == 1.0 + 0.5 * 3
    assert DELAYS.path_ns("requant", MULTIPLY) == 2.0 + 0.25 * 4
    one_gain = {**MULTIPLY, "channels": 2, "pe": 2, "period": 1}
    assert DELAYS.path_ns("requant", one_gain) == 1.5
    assert DELAYS.path_ns("requant", {**MULTIPLY, "method": "thresholds"}) == 0.5  # a register's


def test_message_of_what_was_not_timed() -> None:
    with pytest.raises(InputError, match=r"mine-clock\.toml: units: no delay of the unit 'pool'"):
        DELAYS.path_ns("pool", {"kind": "max"})
    with pytest.raises(InputError, match=r"units\.fifo: no run was 'converter'; raise --runs"):
        DELAYS.path_ns("fifo", {"from_lanes": 2, "to_lanes": 3})


def test_the_longest_path_limits_and_sram_comes_before_products() -> None:
    units: list[tuple[str, str, dict[str, int | str]]] = [
        ("conv1", "requant", MULTIPLY),
        ("conv2", "mac", {"simd": 7}),
    ]
    found = clock.reach(DELAYS, units, {})
    assert (found.layer, found.unit, found.path_ns) == ("conv1", "requant", 3.0)
    assert found.mhz == pytest.approx(1000 / 3)
    assert found.worst == 0.2
    slow = clock.reach(DELAYS, units, {"conv2": 4.0})
    assert (slow.layer, slow.unit, slow.path_ns) == ("conv2", "mac", 6.5)


def test_scaled_delays_are_all_longer() -> None:
    twice = DELAYS.scaled(2.0)
    assert twice.register_ns == 1.0
    assert twice.path_ns("mac", {"simd": 7}) == 2 * DELAYS.path_ns("mac", {"simd": 7})


@pytest.mark.parametrize("name", TECHNOLOGIES)
def test_every_unit_is_timed_and_the_default_clock_is_reached(name: str) -> None:
    delays = clock.load(name)
    assert set(delays.units) == set(UNITS)
    assert clock.text(delays) == (SHIPPED / f"{name}-clock.toml").read_text()
    prices = pricing.load(name)
    for net in (network.load("lenet5"), network.load("resnet8")):
        for text in ("binary,1,layer", "ternary,4,pixel", "int8,8,layer"):
            settled = design.settle(
                prices, net, design.uniform(net, text), 100_000, None, None, LIMIT
            )
            found = parameters.reach(prices, net, settled.scheme, settled.interval, settled.folding)
            assert found is not None
            assert found.mhz >= prices.target.clock_mhz


def test_boards_have_no_reach_and_a_clock_beyond_it_is_said() -> None:
    net = network.load("lenet5")
    asked = design.uniform(net, "ternary,2,layer")
    for name in ("zcu102", "ihp-sg13g2"):
        prices = pricing.load(name)
        one = design.settle(prices, net, asked, 50_000, None, None, LIMIT)
        found = parameters.reach(prices, net, one.scheme, one.interval, one.folding)
        cost = estimate(prices, net, one.scheme, one.interval, one.folding)
        text = document(prices, net.name, cost, one.interval, 2000.0, LIMIT, (), found)
        if name == "zcu102":
            assert found is None
            assert "reach" not in json.dumps(text)
        else:
            assert found is not None
            assert text["reach"]["clock_mhz"] == found.mhz
            (warning,) = text["warnings"]
            assert warning.startswith("clock: 2000 MHz are more than the ")
            slower = document(prices, net.name, cost, one.interval, 10.0, LIMIT, (), found)
            assert slower["warnings"] == []


def test_weights_in_sram_are_slower() -> None:
    prices = pricing.load("ihp-sg13g2")
    assert isinstance(prices, asic.Pricing)
    small, large = prices.access_ns(8, 256), prices.access_ns(64, 2048)
    assert 2 < small < large < 8
    other = pricing.load("asap7")
    assert isinstance(other, asic.Pricing)
    assert other.access_ns(8, 256) < small


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_message_of_delays_that_are_none(value: float) -> None:
    with pytest.raises(InputError, match=r"ns\.unit must be 0 to 1e\+06, got "):
        replace(DELAYS.units["mac"], ns={"unit": value})
