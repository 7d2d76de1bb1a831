"""A target: what a board offers (capacity, clock, memories, bandwidth), and the source of that."""

from __future__ import annotations

from dataclasses import dataclass, fields

from syq_dse import catalogue, records
from syq_dse.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What the part holds. BRAM18 are block RAMs of 18 kbit (EBR on ECP5)."""

    lut: int
    ff: int
    dsp: int
    bram18: int
    uram: int = 0  # UltraRAM blocks of 288 kbit
    lutram: int  # LUTs that can be memory; part of `lut`

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 1 if field.name in ("lut", "ff") else 0
            if getattr(self, field.name) < least:
                raise InputError(
                    f"{field.name} must be at least {least}, got {getattr(self, field.name)}"
                )
        if self.lutram > self.lut:
            raise InputError(f"lutram must not exceed lut={self.lut}, got {self.lutram}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dram:
    """Memory beside the part that the fabric can stream weights from."""

    bandwidth_gb_s: float  # peak, 10^9 bytes a second; 0: the board has none
    source: str

    def __post_init__(self) -> None:
        if not 0 <= self.bandwidth_gb_s <= 1e6:
            raise InputError(f"bandwidth_gb_s must be 0 to 1000000, got {self.bandwidth_gb_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """An FPGA board."""

    name: str
    description: str
    part: str
    family: str  # names hwmodels/families/FAMILY.toml and hwmodels/calibration/FAMILY.toml
    clock_mhz: float  # default clock of the accelerator
    capacity: Capacity
    dram: Dram
    source: str  # the data sheet of the capacity

    def __post_init__(self) -> None:
        catalogue.check_name(self.name)
        if not 1 <= self.clock_mhz <= 2000:
            raise InputError(f"clock_mhz must be 1 to 2000, got {self.clock_mhz}")


def _check_positive(record: object, *fields: str) -> None:
    for name in fields:
        if getattr(record, name) < 1:
            raise InputError(f"{name} must be at least 1, got {getattr(record, name)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LutRam:
    """Distributed RAM with one write and one read port: `lut` LUTs hold depth x width bits."""

    depth: int
    width: int
    lut: int

    def __post_init__(self) -> None:
        _check_positive(self, "depth", "width", "lut")


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What all parts of a device family share."""

    name: str
    lut_inputs: int
    multiplier: tuple[int, int]  # signed operands of one DSP [bits], the wider first
    bram18: tuple[tuple[int, int], ...]  # (depth, width) of one write and one read port
    uram: tuple[int, int] | None = None  # (depth, width); cannot be initialised from the bitstream
    rom_depth_per_lut: int  # bits of constant table that one LUT holds
    lutram: tuple[LutRam, ...]  # the shape that takes the fewest LUTs is used
    source: str

    def __post_init__(self) -> None:
        _check_positive(self, "lut_inputs", "rom_depth_per_lut")
        shapes = {"bram18": self.bram18, "uram": (self.uram or (1, 1),)}
        for name, listed in {**shapes, "multiplier": (self.multiplier,)}.items():
            if not listed or min(min(shape) for shape in listed) < 1:
                raise InputError(f"{name} must have positive sizes, got {list(map(list, listed))}")
        if self.multiplier[0] < self.multiplier[1]:
            raise InputError(f"multiplier: the wider operand is first, got {list(self.multiplier)}")
        if not self.lutram:
            raise InputError("lutram must list at least one shape")


def load(name: str) -> Board:
    """The shipped board of this name, or the one in a user's TOML file.

    >>> load("zcu102").capacity.dsp
    2520
    """
    return records.load(catalogue.find("target", name, "hwmodels", ("fpga",)), Board)


def load_family(name: str) -> Family:
    """The device family of a board."""
    return records.load(catalogue.find("family", name, "hwmodels", ("families",)), Family)
