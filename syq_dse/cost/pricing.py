"""The prices of a target: of a board (cost/fpga.py) or of a technology (cost/asic.py).

Both have the same methods and rows of as many columns, which `columns` names.
"""

from __future__ import annotations

from syq_dse import catalogue, target, technology
from syq_dse.cost import asic, fpga
from syq_dse.errors import InputError, unknown

Pricing = fpga.Pricing | asic.Pricing

SHOWN = tuple(dict.fromkeys((*fpga.Pricing.shown, *asic.Pricing.shown)))
"""Resources that documents show, of boards and of technologies."""

BOARDS, TECHNOLOGIES = "fpga", "asic"


def load(name: str, area_mm2: float | None = None, node_nm: float | None = None) -> Pricing:
    """The prices of a shipped target, or of the one in a user's TOML file.

    Args:
        area_mm2: budget of a technology; None: its own.
        node_nm: that a technology is scaled to; None: its own.

    Raises:
        InputError: no such target, or a budget or node for a board.
    """
    if _is_technology(name):
        return asic.pricing(technology.load(name), area_mm2, node_nm)
    if area_mm2 is not None:
        raise InputError(f"--area-mm2 is for a technology; '{name}' has the size of its part")
    if node_nm is not None:
        raise InputError(f"--node is for a technology; '{name}' is a board")
    return fpga.pricing(target.load(name))


def names() -> list[str]:
    """The shipped targets: boards, then technologies."""
    return catalogue.names("hwmodels", BOARDS) + catalogue.names("hwmodels", TECHNOLOGIES)


def _is_technology(name: str) -> bool:
    if catalogue.is_path(name):
        from syq_dse import records

        path = catalogue.find("target", name, "hwmodels")
        return "node_nm" in records.read(path)
    if name not in names():
        text = unknown("target", name, names())
        raise InputError(f"{text}; a path to a .toml file works too")
    return name in catalogue.names("hwmodels", TECHNOLOGIES)


def read(name: str) -> target.Board | technology.Technology:
    """A target by itself."""
    return technology.load(name) if _is_technology(name) else target.load(name)
