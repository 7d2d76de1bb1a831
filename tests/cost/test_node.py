"""Scaling to other nodes: the paper's own example, and what lies between and beyond."""

from __future__ import annotations

import itertools

import pytest

from syq_dse.cost import asic, pricing
from syq_dse.cost.node import NODES, scaling
from syq_dse.errors import InputError


def test_the_example_of_the_corrigendum() -> None:
    # 65 nm at 1.3 V to 32 nm at 0.9 V: 0.4571 / 2.604
    assert scaling(65, 1.3, 32).energy == pytest.approx(0.1755, rel=1e-3)


@pytest.mark.parametrize("nm", NODES)
def test_a_node_to_itself_changes_nothing(nm: float) -> None:
    found = scaling(nm, NODES[nm].volts, nm)
    assert (found.area, found.energy, found.delay) == pytest.approx((1, 1, 1))


def test_smaller_is_smaller_and_takes_less() -> None:
    found = [scaling(130, 1.2, nm) for nm in (100, 90, 65, 55, 45, 40, 32, 28, 22, 20, 16)]
    for one, two in itertools.pairwise(found):
        assert two.area < one.area
        assert two.energy < one.energy
        assert two.volts <= one.volts
        if two.to_nm >= 32:
            assert two.delay < one.delay


@pytest.mark.parametrize("nm", [6.9, 181.0, 0.0, -28.0, float("nan")])
def test_message_of_a_node_outside_of_the_tables(nm: float) -> None:
    with pytest.raises(InputError, match=r"--node: .* nm is outside 7 to 180 nm of the tables"):
        scaling(130, 1.2, nm)


def test_a_scaled_technology_is_marked_and_scaled_all_over() -> None:
    own, small = pricing.load("ihp-sg13g2"), pricing.load("ihp-sg13g2", None, 28)
    assert isinstance(own, asic.Pricing)
    assert isinstance(small, asic.Pricing)
    by = scaling(130, 1.2, 28)
    assert small.gates.nand2_um2 == pytest.approx(own.gates.nand2_um2 * by.area)
    assert small.scale == pytest.approx(by.area)
    assert small.energy_scale == pytest.approx(by.energy)
    assert small.energy.flip_flop_fj == pytest.approx(own.energy.flip_flop_fj * by.energy)
    assert small.access_ns(8, 256) == pytest.approx(own.access_ns(8, 256) * by.delay)
    assert small.target.node_nm == 28
    assert small.target.clock_mhz > own.target.clock_mhz
    text = small.provenance()["node"]
    assert text.startswith("extrapolated from 130 to 28 nm at 0.9 V")
    assert "ihp-sg13g2 to asap7: area" in text
    assert "node" not in own.provenance()
    assert "node" not in pricing.load("ihp-sg13g2", None, 130).provenance()


def test_scaling_is_off_as_it_is_said_to_be() -> None:
    for one in asic.seen_scalings():
        assert 0.2 < one.area < 5
        assert 0.05 < one.energy < 20
        assert 0.1 < one.delay < 10
    with pytest.raises(InputError, match="--node is for a technology; 'zcu102' is a board"):
        pricing.load("zcu102", None, 28)
