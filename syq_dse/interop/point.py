"""A point of a run that goes out: its design."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from syq_dse.cost import design
from syq_dse.cost.pricing import Pricing
from syq_dse.network import Network
from syq_dse.scheme import Scheme
from syq_dse.search import points, run
from syq_dse.search.settled import settled_point


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A design of a run with nothing left to choose."""

    name: str  # NETWORK-TARGET-POINT: what files are named by
    network: Network
    pricing: Pricing
    design: design.Settled

    @property
    def scheme(self) -> Scheme:
        return self.design.scheme


def read_point(folder: Path, name: str) -> Point:
    """A point of a run.

    Raises:
        InputError: no such run or point, or a file of it is broken.
    """
    with run.unchanged(folder):
        net, prices, settled = settled_point(folder, name)
        front = run.read_front(folder)
    whole = f"{front['network']}-{front['target']}-{points.point_of(front, name)}"
    return Point(name=whole, network=net, pricing=prices, design=settled)
