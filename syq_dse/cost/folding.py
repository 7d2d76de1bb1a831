"""Folding: how many PEs and SIMD lanes an engine has, and the cycles that it then takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from syq_dse.cost.integers import Ints, divisors, ints
from syq_dse.errors import InputError
from syq_dse.network import Node, Shape

ResType = Literal["lut", "dsp"]
RamStyle = Literal["distributed", "block", "ultra", "dram"]

RES_TYPES: tuple[ResType, ...] = ("lut", "dsp")
RAM_STYLES: tuple[RamStyle, ...] = ("distributed", "block", "ultra", "dram")


@dataclass(frozen=True, slots=True, kw_only=True)
class Folding:
    """How one engine is built."""

    pe: int  # output channels at once
    simd: int  # inputs of one PE at once
    res_type: ResType = "lut"  # what multiplies: LUTs or DSPs
    ram_style: RamStyle = "distributed"  # where the weights are


@dataclass(frozen=True, slots=True, kw_only=True)
class Geometry:
    """The sizes of one engine that its hardware depends on."""

    c_in: int  # input channels of one group
    c_out: int  # output channels of all groups
    groups: int
    k: int
    stride: int
    pad: tuple[int, int]  # rows and columns of zeros before and after
    h_in: int
    w_in: int
    h_out: int
    w_out: int
    signed: bool  # whether the activations that it reads are signed

    @property
    def fan_in(self) -> int:
        return self.k * self.k * self.c_in

    @property
    def positions(self) -> int:
        """Output pixels."""
        return self.h_out * self.w_out

    def groups_at_once(self, pe: Ints) -> Ints:
        """Groups whose outputs are computed in the same cycle; each reads its own inputs."""
        return ints(pe * self.groups // self.c_out).clip(min=1)


def geometry(node: Node, signed: bool) -> Geometry:
    """The geometry of a conv or dense layer."""
    return Geometry(
        c_in=node.in_shape.c // node.groups,
        c_out=node.out_shape.c,
        groups=node.groups,
        k=node.k,
        stride=node.stride,
        pad=node.pad,
        h_in=node.in_shape.h,
        w_in=node.in_shape.w,
        h_out=node.out_shape.h,
        w_out=node.out_shape.w,
        signed=signed,
    )


def pes(geo: Geometry) -> list[int]:
    """Legal PEs: divisors of one group's outputs, then whole groups."""
    group = geo.c_out // geo.groups
    return sorted({*divisors(group), *(group * d for d in divisors(geo.groups))})


def simds(geo: Geometry, granularity: str) -> list[int]:
    """Legal SIMDs: divisors of c_in, then c_in times a divisor of k * k.

    Row-wise scaling needs whole rows past one row, so there it is c_in times a divisor of k, or k
    times such.
    """
    k = geo.k
    if granularity == "row":
        pixels = {*divisors(k), *(k * d for d in divisors(k))}
    else:
        pixels = set(divisors(k * k))
    return sorted({*divisors(geo.c_in), *(geo.c_in * p for p in pixels)})


def foldings(geo: Geometry, granularity: str) -> tuple[Ints, Ints]:
    """Every legal (pe, simd) as two arrays of one length."""
    pairs = [(pe, simd) for pe in pes(geo) for simd in simds(geo, granularity)]
    pe, simd = ints([p for p, _ in pairs]), ints([s for _, s in pairs])
    legal = whole_groups(geo, pe, simd) & (writes(geo, pe, simd) <= cycles(geo, pe, simd))
    return pe[legal], simd[legal]


def cycles(geo: Geometry, pe: Ints, simd: Ints) -> Ints:
    """Clock cycles of one image through a folded engine, without stalls.

    Source: matrix-vector unit of FINN-R (Blott et al., 2018).
    """
    return geo.positions * (geo.c_out // ints(pe)) * (geo.fan_in // ints(simd))


def all_at_once(geo: Geometry, pe: Ints, simd: Ints) -> npt.NDArray[np.bool_]:
    """Whether an engine uses all of its weights in every cycle: they are constants then."""
    found: npt.NDArray[np.bool_] = np.asarray(pe * simd == geo.c_out * geo.fan_in)
    return found


@cache
def least_cycles(geo: Geometry) -> int:
    """Cycles of the fastest folding that every granularity has."""
    return int(cycles(geo, *foldings(geo, "row")).min())


@cache
def can_be_folded(geo: Geometry) -> bool:
    """Whether there is a legal folding: none is slow enough where windows skip most pixels."""
    return len(foldings(geo, "row")[0]) > 0


def whole_groups(geo: Geometry, pe: Ints, simd: Ints) -> npt.NDArray[np.bool_]:
    """Whether an engine that works on several groups at once reads whole pixels of each."""
    return np.asarray((geo.groups_at_once(pe) == 1) | (simd % geo.c_in == 0))


def word_channels(geo: Geometry, pe: Ints, simd: Ints) -> Ints:
    """Channels of one pixel that an engine reads at once, of all groups that it works on."""
    channels: Ints = np.minimum(simd, geo.c_in) * geo.groups_at_once(pe)
    return channels


def words_a_pixel(geo: Geometry, pe: Ints, simd: Ints) -> Ints:
    """Words in which an engine's window takes in one pixel."""
    return geo.c_in * geo.groups // word_channels(geo, pe, simd)


def shifts(geo: Geometry, pe: Ints, simd: Ints) -> npt.NDArray[np.bool_]:
    """Whether the window is a shift register: whole windows that move by a pixel a word.

    It computes where the padding is, so that every word that comes in gives a window; it needs as
    many windows as pixels, and rows longer than the kernel.
    """
    same = (geo.h_out, geo.w_out, geo.stride) == (geo.h_in, geo.w_in, 1)
    fits = same and geo.k > 1 and geo.w_in >= geo.k + 2
    whole = (simd == geo.fan_in) & (words_a_pixel(geo, pe, simd) == 1)
    return np.asarray(whole & fits)


def writes(geo: Geometry, pe: Ints, simd: Ints) -> Ints:
    """Cycles in which the window takes in one image, one word a cycle, zeros around it included."""
    rows, columns = padded(geo)
    pixels = np.where(shifts(geo, pe, simd), geo.h_in * geo.w_in, rows * columns)
    written: Ints = pixels * words_a_pixel(geo, pe, simd)
    return written


def padded(geo: Geometry) -> tuple[int, int]:
    """Rows and columns of an image with the zeros around it that windows reach."""
    before = geo.pad[0]
    rows = max(before + geo.h_in, (geo.h_out - 1) * geo.stride + geo.k)
    columns = max(before + geo.w_in, (geo.w_out - 1) * geo.stride + geo.k)
    return rows, columns


def check(geo: Geometry, granularity: str, name: str, fold: Folding) -> None:
    """Refuse a folding that the hardware cannot have.

    Raises:
        InputError: names the layer, the legal values and the given one.
    """
    for what, value, legal in (
        ("pe", fold.pe, pes(geo)),
        ("simd", fold.simd, simds(geo, granularity)),
    ):
        if value not in legal:
            values = ", ".join(map(str, legal))
            raise InputError(f"folding.{name}.{what}: must be one of {values}, got {value}")
    pe, simd = ints(fold.pe), ints(fold.simd)
    if not whole_groups(geo, pe, simd):
        raise InputError(
            f"folding.{name}.simd: must be a multiple of c_in={geo.c_in} where pe={fold.pe} works "
            f"on several groups, got {fold.simd}"
        )
    if writes(geo, pe, simd) > cycles(geo, pe, simd):
        raise InputError(
            f"folding.{name}: takes in an image of {int(writes(geo, pe, simd))} words in "
            f"{int(cycles(geo, pe, simd))} cycles, got pe={fold.pe}, simd={fold.simd}; fold more"
        )
    if fold.ram_style == "dram" and geo.positions != 1:
        raise InputError(f"folding.{name}.ram_style: only dense layers stream from dram")


def lanes(shape: Shape, interval: int, keeps_up: Callable[[int], bool] = lambda n: True) -> int:
    """Channels that a stream carries a cycle, so that one image passes within the interval.

    A divisor of the channels, or whole pixels: then a divisor of a row of them. The least that
    keeps up; the most there is where none does.

    Args:
        keeps_up: whether those who read so many channels a cycle keep up, too.
    """
    legal = [*divisors(shape.c), *(shape.c * d for d in divisors(shape.w)[1:])]
    return next((n for n in legal if shape.size // n <= interval and keeps_up(n)), legal[-1])
