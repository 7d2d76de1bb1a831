"""A point of a run as a settled design: what hardware is made of."""

from __future__ import annotations

from pathlib import Path

from syq_dse import network
from syq_dse.cost import design
from syq_dse.cost.estimate import LIMIT
from syq_dse.cost.pricing import Pricing, load
from syq_dse.search import points, run


def settled_point(folder: Path, name: str) -> tuple[network.Network, Pricing, design.Settled]:
    """The network, the prices of its board, and the design of one point.

    Raises:
        InputError: no such run or point, or a file of it is broken.
    """
    study = run.read_record(folder).study
    net = network.load(study.network)
    prices = load(study.target, study.area_mm2, study.node_nm)
    with run.unchanged(folder):
        point = points.point_of(run.read_front(folder), name)
        run.read_point(folder, point)
        asked = design.read(net, folder / "points" / f"{point}.json")
    return net, prices, design.settle(prices, net, asked, None, None, None, LIMIT)
