"""A technology: the library of an ASIC target, its defaults, and the source of both."""

from __future__ import annotations

from dataclasses import dataclass

from syq_dse import catalogue, records
from syq_dse.errors import InputError
from syq_dse.target import Family, LutRam

WHOLE = 2**30
"""Words and bits of a memory that is one block, of any size."""

FAMILY = Family(
    name="asic",
    lut_inputs=6,
    multiplier=(18, 18),
    bram18=((WHOLE, WHOLE),),
    uram=(WHOLE, WHOLE),
    rom_depth_per_lut=64,
    lutram=(LutRam(depth=WHOLE, width=WHOLE, lut=1),),
    source="none: what depends on a technology is in hwmodels/asic",
)
"""What the hardware units ask of a device family, for silicon: memories are whole, SRAM is style
"ultra" since it has no initial contents; nothing is multiplied in DSPs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Technology:
    """A silicon process with a library of standard cells."""

    name: str  # names hwmodels/calibration/NAME.toml
    description: str
    node_nm: float
    supply_v: float
    clock_mhz: float  # default clock of the accelerator
    area_mm2: float  # default budget of the accelerator
    source: str  # library, corner, licence
    dont_use: tuple[str, ...] = ()  # patterns of cells that mapping leaves out
    area_scale: float = 1.0  # um2 of the library's unit of area
    calibration: str | None = None  # folder that `syq-dse calibrate` has left; None: the shipped

    def __post_init__(self) -> None:
        catalogue.check_name(self.name)
        for name in ("node_nm", "supply_v", "area_mm2", "area_scale"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} must be positive, got {getattr(self, name)}")
        if not 1 <= self.clock_mhz <= 2000:
            raise InputError(f"clock_mhz must be 1 to 2000, got {self.clock_mhz}")


def load(name: str) -> Technology:
    """The shipped technology of this name, or the one in a user's TOML file.

    >>> load("ihp-sg13g2").node_nm
    130.0
    """
    return records.load(catalogue.find("technology", name, "hwmodels", ("asic",)), Technology)
