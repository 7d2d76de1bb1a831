"""The delay of an engine, against its hardware."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from amaranth import Module
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from syq_dse import network, target
from syq_dse.cost import fpga, timing
from syq_dse.cost.estimate import choose, geometries, requant_methods
from syq_dse.cost.folding import Folding, can_be_folded, cycles, foldings, geometry, lanes
from syq_dse.cost.integers import ints
from syq_dse.network import Conv, Flatten, NetworkFile, Node, Recipe
from syq_dse.quant import integer
from syq_dse.rtl import engine
from syq_dse.rtl.stream import Unit
from syq_dse.scheme import GRANULARITIES, SCALES, WEIGHTS, LayerScheme, Scheme, normal, tensors

from ..rtl.streams import trace
from .shapes import convs


class Chained(Unit):
    """The units of an engine, one behind the other."""

    def __init__(self, built: engine.Engine) -> None:
        (queue,) = built.inputs.values()
        self.units = [*(unit.hardware for unit in queue), *(part.hardware for part in built.chain)]
        self.weights = built.weights.hardware if built.weights else None
        self.mac = next(part.hardware for part in built.chain if part.unit == "mac")
        super().__init__(len(self.units[0].s_data), len(self.units[-1].m_data))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        if self.weights is not None:  # else they are constants
            m.submodules.weights = self.weights
            m.d.comb += [
                self.mac.w_valid.eq(self.weights.m_valid),
                self.weights.m_ready.eq(self.mac.w_ready),
                self.mac.w_data.eq(self.weights.m_data),
            ]
        valid, ready, data = self.s_valid, self.s_ready, self.s_data
        for index, unit in enumerate(self.units):
            m.submodules[f"unit_{index}"] = unit
            m.d.comb += [unit.s_valid.eq(valid), ready.eq(unit.s_ready), unit.s_data.eq(data)]
            valid, ready, data = unit.m_valid, unit.m_ready, unit.m_data
        m.d.comb += [self.m_valid.eq(valid), ready.eq(self.m_ready), self.m_data.eq(data)]
        return m


@cache
def pricing() -> fpga.Pricing:
    return fpga.pricing(target.load("zcu102"))


def build(node: Node) -> network.Network:
    """A layer, and one behind it that reads its codes."""
    assert isinstance(node.layer, Conv)
    shape = node.in_shape
    return network.build(
        NetworkFile(
            name="drawn",
            provenance="a test",
            classes=2,
            input=(shape.c, shape.h, shape.w),
            recipe=Recipe(dataset="none"),
            layers=(
                node.layer,
                Flatten(name="flatten"),
                network.Dense(name="fc", c_out=2, relu=False),
            ),
        )
    )


@pytest.mark.filterwarnings("ignore:.* created but never used")  # the layer behind it
@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    node=convs(channels=4, side=5, kernels=(1, 2, 3), strides=2, groups=2),
    layer=st.builds(
        LayerScheme,
        weights=st.sampled_from(WEIGHTS),
        granularity=st.sampled_from(GRANULARITIES),
        scale=st.sampled_from(SCALES),
    ),
    bits=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    res=st.sampled_from(["lut", "dsp"]),
    data=st.data(),
)
def test_the_delay_of_an_engine_is_an_upper_bound(
    node: Node, layer: LayerScheme, bits: tuple[int, int], res: str, data: st.DataObject
) -> None:
    """Cycles from the first word of an image to the last one of the first output pixel."""
    assume(can_be_folded(geometry(node, signed=False)))
    net = build(node)
    first, *others = net.engines
    geo = geometries(net)[first.name]
    fine = normal(first, layer)
    pe, simd = data.draw(st.sampled_from(list(zip(*foldings(geo, fine.granularity), strict=True))))
    interval = int(cycles(geo, pe, simd)) + data.draw(st.sampled_from([0, 7, 1000]))
    assume(interval >= timing.fastest_interval(geometries(net)))
    names = {t.name for t in tensors(net).values() if t.kind != "result"}
    wanted = Scheme(
        layers={first.name: layer}
        | {n.name: LayerScheme(weights="ternary", granularity="layer") for n in others},
        bits={name: bits[name != "input"] for name in names},
    )
    fold = Folding(pe=int(pe), simd=int(simd), res_type=res)
    chosen = choose(pricing(), net, wanted, interval, {first.name: fold})
    methods = requant_methods(pricing(), net, wanted, chosen)
    integers = integer.draw(net, wanted, 1, methods)
    built, *_ = engine.build(pricing(), net, wanted, interval, chosen, integers)

    words = input_words(net, interval, bits[0])
    width = lanes(first.out_shape, interval)
    pixel = -(-first.out_shape.c // width)
    _, taken = trace(Chained(built), words, pixel)
    bound = timing.pixel_period(first.in_shape.pixels, interval) + timing.delay(
        net, first, interval
    )
    bound += int(timing.busy(geo, fine.granularity, ints(fold.pe), ints(fold.simd)))
    assert taken[-1] + 1 <= bound


def input_words(net: network.Network, interval: int, bits: int) -> Sequence[int]:
    shape = net.input_shape
    codes = np.random.default_rng(0).integers(0, 2**bits, (shape.c, shape.h, shape.w))
    return engine.input_words(net, interval, bits, codes)
