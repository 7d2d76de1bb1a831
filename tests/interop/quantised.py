"""Designs of networks, and the networks as QONNX, for the tests of FINN and hls4ml."""

from __future__ import annotations

from pathlib import Path

from syq_dse.cost import design, pricing
from syq_dse.cost.folding import Folding
from syq_dse.interop import qonnx as export
from syq_dse.interop.point import Point
from syq_dse.network import Network
from syq_dse.scheme import Scheme

from .workbench import trained


def point(
    net: Network,
    chosen: Scheme,
    interval: int | None = None,
    target: str = "zcu102",
    folding: dict[str, Folding] | None = None,
) -> Point:
    """A design of a network."""
    prices = pricing.load(target)
    asked = design.Asked(scheme=chosen, folding=folding or {})
    settled = design.settle(prices, net, asked, interval, None, None, 0.8)
    return Point(name=f"{net.name}-{target}-1", network=net, pricing=prices, design=settled)


def exported(net: Network, chosen: Scheme, out: Path) -> Path:
    """The network as `export --format qonnx` writes it once it is trained, by quantisers alone."""
    found = {path.name: path for path in export.write(trained(net, chosen, 3), net.name, out)}
    return found.get(f"{net.name}.rounded.onnx", found[f"{net.name}.qonnx.onnx"])
