"""Designs that are asked for: what wins over what, what is tried, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from syq_dse import network
from syq_dse.cost import design, pricing, timing
from syq_dse.cost.design import Asked, settle
from syq_dse.cost.estimate import LIMIT, choose, estimate, geometries, least_intervals, utilization
from syq_dse.cost.folding import Folding, cycles
from syq_dse.cost.integers import ints
from syq_dse.errors import InfeasibleError, InputError
from syq_dse.network import Network
from syq_dse.records import plain
from syq_dse.scheme import file_of

NETWORK = """
name = "tiny"
provenance = "made up for tests"
classes = 4
input = [2, 8, 8]
recipe = { dataset = "none" }
layers = [
  { name = "conv1", op = "conv", c_out = 4, k = 3 },
  { name = "conv2", op = "conv", c_out = 8, k = 3 },
  { name = "flatten", op = "flatten" },
  { name = "dense", op = "dense", c_out = 4, relu = false },
]
"""
BOARD = pricing.load("zcu102")
SMALL = pricing.load("pynq-z1")


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Network:
    path = tmp_path_factory.mktemp("network") / "tiny.toml"
    path.write_text(NETWORK)
    return network.load(str(path))


@pytest.fixture(scope="module")
def asked(net: Network) -> Asked:
    return design.uniform(net, "ternary,2,pixel")


# Which clock and interval


@pytest.mark.parametrize(
    ("given", "of_file", "board", "wanted"),
    [
        (50.0, 60.0, None, 50.0),  # the command line's
        (None, 60.0, None, 60.0),  # the file's
        (None, 60.0, "zcu102", 60.0),  # which was for this board
        (None, 60.0, "u250", BOARD.target.clock_mhz),  # for another
        (None, None, None, BOARD.target.clock_mhz),
        (1, None, None, 1),
        (2000, None, None, 2000),
    ],
)
def test_the_clock_that_counts(
    net: Network, asked: Asked, given: Any, of_file: Any, board: str | None, wanted: float
) -> None:
    asked = replace(asked, clock_mhz=of_file, target=board)
    assert settle(BOARD, net, asked, 5000, None, given, LIMIT).clock_mhz == wanted


def test_the_interval_that_counts(net: Network, asked: Asked) -> None:
    """What is given, else the file's, else that of the foldings where all are given."""
    of_file = replace(asked, interval=7000)
    assert settle(BOARD, net, of_file, None, None, None, LIMIT).interval == 7000
    assert settle(BOARD, net, of_file, 6000, None, None, LIMIT).interval == 6000
    assert settle(BOARD, net, of_file, None, 20_000, 200, LIMIT).interval == 10_000
    folding = choose(BOARD, net, asked.scheme, 6000)
    folded = replace(asked, folding=folding)
    geos = geometries(net)
    slowest = max(
        int(cycles(geos[name], ints(fold.pe), ints(fold.simd))) for name, fold in folding.items()
    )
    settled = settle(BOARD, net, folded, None, None, None, LIMIT)
    assert (settled.interval, dict(settled.folding)) == (slowest, folding)


@pytest.mark.parametrize("limit", [0.1, 0.03, 0.00006])
@pytest.mark.parametrize("folded", [False, True])
def test_the_shortest_of_the_grid_that_fits(
    monkeypatch: pytest.MonkeyPatch, net: Network, asked: Asked, folded: bool, limit: float
) -> None:
    """By trying each, with what is given kept; where none fits, the longest."""
    if folded:
        asked = replace(asked, folding={"conv2": Folding(pe=2, simd=4)})
    monkeypatch.setattr(design, "GRID", 8)
    tried = design.grid(net, 8)
    fitting = []
    for interval in tried:
        chosen = choose(SMALL, net, asked.scheme, interval, asked.folding)
        total = estimate(SMALL, net, asked.scheme, interval, chosen).total
        used = utilization(total, SMALL.capacity(interval, 100.0))
        fitting += [interval] if max(used.values()) <= limit else []
    settled = settle(SMALL, net, asked, None, None, 100.0, limit)
    assert settled.interval == min(fitting, default=tried[-1])
    assert (settled.folding["conv2"] == Folding(pe=2, simd=4)) >= folded


def test_a_grid_goes_from_the_fastest_to_the_slowest(net: Network) -> None:
    geos = geometries(net)
    made = design.grid(net, 24)
    assert made == tuple(sorted(set(made)))
    assert 6 <= len(made) <= 24
    assert made[0] == max(least_intervals(net).values())
    assert made[-1] == timing.slowest_interval(geos)
    longest = made[len(made) // 2]
    shorter = design.grid(net, 24, longest)
    assert (shorter[0], shorter[-1]) == (made[0], longest)
    with pytest.raises(InfeasibleError):
        design.grid(net, 24, made[0] - 1)


def test_an_interval_is_the_longest_that_meets_a_frame_rate() -> None:
    for clock, fps in ((100.0, 30.0), (99.9, 7.3), (2000.0, 1e6), (300.0, 3e8), (1.0, 0.9)):
        most = design.longest_interval(clock, fps)
        assert most == 0 or clock * 1e6 / most >= fps
        assert clock * 1e6 / (most + 1) < fps


# What is refused


@pytest.mark.parametrize(
    ("interval", "fps", "clock", "limit", "message"),
    [
        (5000, None, 0.99, 0.8, "clock must be 1 to 2000 MHz, got 0.99"),
        (5000, None, 2000.5, 0.8, "clock must be 1 to 2000 MHz, got 2000.5"),
        (5000, None, None, 0.0, "limit must be above 0 and at most 1, got 0"),
        (5000, None, None, 1.01, "limit must be above 0 and at most 1, got 1.01"),
        (None, 0.0, None, 0.8, "fps must be positive, got 0"),
        (None, float("inf"), None, 0.8, "fps must be positive, got inf"),
        (None, 3e8, 200, 0.8, "3e+08 fps at 200 MHz leave no whole cycle an image"),
        (2**53 + 1, None, None, 0.8, "interval must be at most 9007199254740992 cycles"),
    ],
)
def test_message_of_a_value_outside_its_range(
    net: Network, asked: Asked, interval: Any, fps: Any, clock: Any, limit: float, message: str
) -> None:
    with pytest.raises((InputError, InfeasibleError)) as caught:
        settle(BOARD, net, asked, interval, fps, clock, limit)
    assert str(caught.value) == message


def test_message_of_an_interval_that_a_given_folding_misses(net: Network, asked: Asked) -> None:
    """36 positions of 4 x 3 x 3 x 2 products, one at a time."""
    slow = replace(asked, folding={"conv1": Folding(pe=1, simd=1)})
    assert settle(BOARD, net, slow, 2592, None, None, LIMIT).folding["conv1"].pe == 1
    with pytest.raises(InfeasibleError) as caught:
        settle(BOARD, net, slow, 2590, None, None, LIMIT)
    assert str(caught.value) == "folding.conv1: takes 2592 cycles, 2 more than 2590"


# Files


def test_a_point_reads_back(net: Network, asked: Asked) -> None:
    folding = choose(BOARD, net, asked.scheme, 6000)
    point = {
        "network": "tiny",
        "target": "zcu102",
        "interval_cycles": 6000,
        "clock_mhz": 120,
        "scheme": plain(file_of(net, asked.scheme)),
        "folding": plain(folding),
    }
    found = design.of_document(net, point, "p.json")
    assert found == Asked(
        scheme=asked.scheme, folding=folding, interval=6000, clock_mhz=120, target="zcu102"
    )
    for key, value, message in (
        ("network", "lenet5", "is a point of 'lenet5', got network 'tiny'"),
        ("clock_mhz", True, "clock_mhz must be a number, 1 to 2000, got True"),
        ("clock_mhz", 0.5, "clock_mhz must be a number, 1 to 2000, got 0.5"),
        ("clock_mhz", 2001, "clock_mhz must be a number, 1 to 2000, got 2001"),
        ("interval_cycles", 0, "interval_cycles must be a positive integer, got 0"),
        ("interval_cycles", 1.5, "interval_cycles must be a positive integer, got 1.5"),
        ("interval_cycles", True, "interval_cycles must be a positive integer, got True"),
        ("scheme", "ternary", "scheme: must be a table"),
    ):
        with pytest.raises(InputError) as caught:
            design.of_document(net, point | {key: value}, "p.json")
        assert str(caught.value) == f"p.json: {message}"
    bare = design.of_document(net, {"scheme": point["scheme"]}, "p.json")
    assert bare == asked


def test_a_scheme_file_has_no_interval(net: Network, tmp_path: Path) -> None:
    path = tmp_path / "scheme.toml"
    path.write_text(
        '[layers.conv2]\nweights = "binary"\nbits = 3\n[folding.conv2]\npe = 2\nsimd = 4\n'
    )
    found = design.read(net, path)
    assert found.scheme.layers["conv2"].weights == "binary"
    assert dict(found.folding) == {"conv2": Folding(pe=2, simd=4)}
    assert (found.interval, found.clock_mhz, found.target) == (None, None, None)
    path.write_text(path.read_text().replace("pe = 2", "pe = 3"))
    with pytest.raises(InputError, match=r"scheme\.toml: folding\.conv2"):
        design.read(net, path)
