"""The design space: each thing once, what is fixed, and what a wrong space says."""

from __future__ import annotations

from typing import Any

import pytest

from syq_dse import catalogue, network, target
from syq_dse.cost.fpga import pricing
from syq_dse.errors import InputError
from syq_dse.network import INPUT
from syq_dse.scheme import LayerScheme, fixed_bits, normal, tensors
from syq_dse.search import space
from syq_dse.search.space import Space

from .small import NETWORKS, board

SHIPPED = catalogue.names("models")

WIDE = Space(
    weights=("binary", "ternary", "int4"),
    granularity=("layer", "row", "pixel", "channel"),
    bits=(8, 1, 3),
)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_scheme_of_a_layer_once(name: str) -> None:
    net = network.load(name)
    for node in net.engines:
        found = space.schemes(WIDE, net, node)
        assert len(set(found)) == len(found)
        assert all(normal(node, scheme) == scheme for scheme in found)
        if node in (net.engines[0], net.engines[-1]):
            assert found == (LayerScheme(),)
        elif node.k == 1:  # layer, row and pixel are one, and no scale is left in hardware
            assert len(found) == 3 * 2
        else:  # layer, channel; row and pixel in two formats
            assert len(found) == 3 * (2 + 2 * 2)


@pytest.mark.parametrize("name", SHIPPED)
def test_precisions_of_every_tensor(name: str) -> None:
    net = network.load(name)
    found = space.bits(WIDE, net)
    kinds = {t.name: t.kind for t in tensors(net).values()}
    last = tensors(net)[net.engines[-1].inputs[0]].name
    assert set(found) == {n for n, kind in kinds.items() if kind != "result"}
    for tensor, bits in found.items():
        fixed = tensor in (INPUT, last) or kinds[tensor] == "residual"
        assert bits == ((8,) if fixed else (1, 3, 8))
        assert fixed == (tensor in fixed_bits(net))


@pytest.mark.parametrize(
    ("sizes", "res_types", "ram_styles"),
    [
        ({}, {"lut", "dsp"}, {"distributed", "block", "dram"}),
        ({"dsp": 0}, {"lut"}, {"distributed", "block", "dram"}),
        ({"bram18": 0, "bandwidth_gb_s": 0.0}, {"lut", "dsp"}, {"distributed"}),
        ({"uram": 4, "family": "xcup"}, {"lut", "dsp"}, {"distributed", "block", "ultra", "dram"}),
    ],
)
def test_a_choice_uses_only_what_the_part_has(
    sizes: dict[str, Any], res_types: set[str], ram_styles: set[str]
) -> None:
    net = NETWORKS["depthwise"]
    found = space.choices(Space(), net, pricing(board(**sizes)))
    every = [choice for options in found.values() for choice in options]
    assert {choice.res_type for choice in every} == res_types
    assert {choice.ram_style for choice in every} == ram_styles
    for name, options in found.items():
        assert len(set(options)) == len(options)
        if name != "last":  # only dense layers read each weight once an image
            assert not any(choice.ram_style == "dram" for choice in options)


def test_every_design_is_a_different_one() -> None:
    """A table holds no design twice, under any name."""
    priced = space.build(WIDE, NETWORKS["residual"], pricing(target.load("pynq-z1")))
    for options in (*priced.choices.values(), *priced.bits.values(), [priced.intervals]):
        assert len(set(options)) == len(options)
    assert list(priced.intervals) == sorted(set(priced.intervals))


@pytest.mark.parametrize("name", SHIPPED)
def test_smaller_networks_get_more_intervals(name: str) -> None:
    net = network.load(name)
    count = space.points(Space(), net)
    assert 24 <= count <= 96
    assert count == 96 or count == 24 or abs(count * len(net.engines) - 480) < len(net.engines)
    assert space.points(Space(intervals=7), net) == 7


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"bits": ()}, "bits must list at least one value, none twice, got ()"),
        (
            {"weights": ("binary", "binary")},
            "weights must list at least one value, none twice, got ('binary', 'binary')",
        ),
        ({"granularity": ()}, "granularity must list at least one value, none twice, got ()"),
        ({"scale": ()}, "scale must list at least one value, none twice, got ()"),
        ({"bits": (0, 4)}, "bits must be 1 to 8, got [0, 4]"),
        ({"bits": (9,)}, "bits must be 1 to 8, got [9]"),
        ({"intervals": 0}, "intervals must be 1 to 1024, got 0"),
        ({"intervals": 1025}, "intervals must be 1 to 1024, got 1025"),
    ],
)
def test_message_of_a_wrong_space(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        Space(**fields)
    assert str(caught.value) == message
