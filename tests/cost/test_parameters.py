"""What units are built with, against the hardware that is built and the samples of calibration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from syq_dse import catalogue, network
from syq_dse.cost import design, parameters, pricing
from syq_dse.cost.estimate import choose, requant_methods
from syq_dse.quant import integer
from syq_dse.rtl import engine, runs

NETWORK = """
name = "tiny"
provenance = "a test"
classes = 3
input = [2, 9, 7]
recipe = { dataset = "none", epochs = 1 }
layers = [
  { name = "conv1", op = "conv", c_out = 4, k = 3, pad = 1, pad_after = 2, stride = 2 },
  { name = "conv2", op = "conv", c_out = 4, k = 3, pad = 1, relu = false },
  { name = "conv3", op = "conv", input = "conv1", c_out = 4, k = 1, relu = false },
  { name = "join", op = "add", inputs = ["conv2", "conv3"] },
  { name = "pool", op = "max_pool", k = 3, stride = 2, pad = 1 },
  { name = "conv4", op = "conv", c_out = 8, k = 2, groups = 2, pad = 1 },
  { name = "mean", op = "global_avg_pool" },
  { name = "flat", op = "flatten" },
  { name = "dense", op = "dense", c_out = 3, batch_norm = false, relu = false },
]
"""
DESIGNS = [("ternary,3,pixel", 600), ("binary,1,row,shift", 130), ("int4,4,channel", 3000)]


def found(path: Path, target: str, uniform: str, interval: int) -> tuple[list[Any], list[Any]]:
    """The parameters of every unit, as they are counted and as its hardware has them."""
    (path / "tiny.toml").write_text(NETWORK)
    net, prices = network.load(str(path / "tiny.toml")), pricing.load(target)
    scheme = design.uniform(net, uniform).scheme
    chosen = choose(prices, net, scheme, interval)
    integers = integer.draw(net, scheme, 3, requant_methods(prices, net, scheme, chosen))
    built = engine.build(prices, net, scheme, interval, chosen, integers)
    counted = list(parameters.of_design(prices, net, scheme, interval, chosen))
    made = [(one.layer, one.unit, dict(one.parameters)) for e in built for one in e.instances]
    return counted, made


@pytest.mark.parametrize("target", ["zcu102", "ulx3s-85f", "ihp-sg13g2"])
@pytest.mark.parametrize(("uniform", "interval"), DESIGNS)
def test_units_are_counted_with_what_they_are_built_with(
    tmp_path: Path, target: str, uniform: str, interval: int
) -> None:
    counted, made = found(tmp_path, target, uniform, interval)
    assert sorted(counted, key=str) == sorted(made, key=str)
    samples = runs.read(catalogue.folder("hwmodels") / "calibration" / "xcup_samples.csv")
    for _, unit, own in counted:
        known = {name for run in samples if run.unit == unit for name in run.parameters}
        numbers = {name for name, value in own.items() if isinstance(value, int)}
        assert numbers <= known, unit
