"""Other process nodes than those of the libraries: area, energy and delay scaled.

Source: A. Stillmaker, B. Baas, Scaling equations for the accurate prediction of CMOS device
performance from 180 nm to 7 nm, Integration 58 (2017) 74-81, tables of area, delay and energy
(high-performance transistors from 45 nm on); the authors' corrigendum changes an example only, and
confirms the coefficients of 65 and 32 nm. Voltages are the nominal ones of the Predictive
Technology Model, which the equations were fitted to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from syq_dse.errors import InputError

SOURCE = "Stillmaker and Baas, Integration 58 (2017) 74-81"


@dataclass(frozen=True, slots=True)
class Node:
    """One column of the paper's tables."""

    area: float  # of a circuit, by that at 130 nm
    volts: float  # nominal
    delay: tuple[float, float, float, float]  # polynomial of the supply, highest power first
    energy: tuple[float, float, float]


NODES: dict[float, Node] = {
    180: Node(2.9, 1.8, (0, 97.09, -356.7, 406.5), (0, 24.64, -17.98)),
    130: Node(1.0, 1.3, (-76.65, 334.9, -493.4, 275.8), (7.171, -6.709, 2.904)),
    90: Node(0.44, 1.2, (-60.34, 262.5, -384.2, 210.9), (4.762, -4.781, 2.092)),
    65: Node(0.23, 1.1, (-53.3, 230.4, -333.9, 178.6), (3.755, -4.398, 1.975)),
    45: Node(0.16, 1.0, (-501.6, 1567, -1619, 566.1), (1.018, -0.3107, 0.1539)),
    32: Node(0.072, 0.9, (-1047, 2982, -2797, 873.5), (0.8367, -0.4341, 0.1701)),
    20: Node(0.033, 0.9, (0, 34.63, -66.37, 41.15), (0.373, -0.1582, 0.04104)),
    16: Node(0.03, 0.85, (0, 24.8, -47.52, 28.87), (0.2958, -0.1241, 0.03024)),
    14: Node(0.027, 0.8, (-40.66, 109.2, -100.6, 35.92), (0.2363, -0.09675, 0.02239)),
    10: Node(0.016, 0.75, (-34.95, 93.65, -85.99, 30.4), (0.2068, -0.09311, 0.02375)),
    7: Node(0.0092, 0.7, (-28.58, 76.6, -70.26, 24.69), (0.1776, -0.09097, 0.02447)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaling:
    """Factors from one node, at its supply, to another at its nominal supply."""

    from_nm: float
    to_nm: float
    volts: float
    area: float
    energy: float
    delay: float


def scaling(from_nm: float, volts: float, to_nm: float) -> Scaling:
    """Factors by the equations; between two nodes of the tables by the logarithm of both.

    By them 20 nm is slower than 32 nm, whose nominal supply is the same.

    Raises:
        InputError: a node is outside of the tables, 7 to 180 nm.

    >>> round(scaling(130, 1.3, 45).area, 3), round(scaling(65, 1.3, 32).energy, 3)
    (0.16, 0.176)
    """
    least, most = min(NODES), max(NODES)
    for nm in (from_nm, to_nm):
        if not least <= nm <= most:
            raise InputError(f"--node: {nm:g} nm is outside {least:g} to {most:g} nm of the tables")
    area, to_volts, delay, energy = _at(to_nm, volts if to_nm == from_nm else None)
    from_area, _, from_delay, from_energy = _at(from_nm, volts)
    return Scaling(
        from_nm=from_nm,
        to_nm=to_nm,
        volts=to_volts,
        area=area / from_area,
        energy=energy / from_energy,
        delay=delay / from_delay,
    )


def _at(nm: float, volts: float | None) -> tuple[float, float, float, float]:
    """Area, supply, delay and energy of a node; supply None: its nominal one."""
    above = min(node for node in NODES if node >= nm)
    below = max(node for node in NODES if node <= nm)
    part = 0.0 if above == below else math.log(nm / below) / math.log(above / below)
    low, high = NODES[below], NODES[above]
    supply = low.volts + part * (high.volts - low.volts)
    ends = [
        (node.area, _value(node.delay, at), _value(node.energy, at))
        for node in (low, high)
        for at in [node.volts if volts is None else volts]
    ]
    if min(min(end) for end in ends) <= 0:
        raise InputError(
            f"--node: no scaling from {nm:g} nm at {volts} V: outside of the equations"
        )
    area, delay, energy = (
        math.exp((1 - part) * math.log(a) + part * math.log(b)) for a, b in zip(*ends, strict=True)
    )
    return area, supply if volts is None else volts, delay, energy


def _value(polynomial: tuple[float, ...], volts: float) -> float:
    found = 0.0
    for coefficient in polynomial:
        found = found * volts + coefficient
    return found
