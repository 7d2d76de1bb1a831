"""Boards and device families: every number against a second listing, then the messages."""

from __future__ import annotations

from pathlib import Path

import pytest

from syq_dse import catalogue, records, target
from syq_dse.errors import InputError

BOARDS = catalogue.names("hwmodels", "fpga")
FAMILIES = catalogue.names("hwmodels", "families")

# Not copied from hwmodels/: AMD and Avnet parts from Vivado's utilisation reports of these devices
# (available LUT, FF, DSP, RAMB18, URAM, LUT as memory), ECP5 from nextpnr-ecp5 0.11 --85k.
COUNTED = {
    "arty-a7-100t": (63_400, 126_800, 240, 270, 0, 19_000),
    "kv260": (117_120, 234_240, 1_248, 288, 64, 57_600),
    "pynq-z1": (53_200, 106_400, 220, 280, 0, 17_400),
    "pynq-z2": (53_200, 106_400, 220, 280, 0, 17_400),
    "u250": (1_728_000, 3_456_000, 12_288, 2 * 2_688, 1_280, 791_040),
    "u280": (1_303_680, 2_607_360, 9_024, 2 * 2_016, 960, 8 * 75_120),
    "ultra96-v2": (70_560, 141_120, 360, 432, 0, 28_800),
    "ulx3s-85f": (83_640, 83_640, 156, 208, 0, 6 * 10_455),
    "zcu102": (274_080, 548_160, 2_520, 1_824, 0, 144_000),
    "zcu104": (230_400, 460_800, 1_728, 624, 96, 101_760),
}

# Distributed RAM [kbit] as data sheets print it: DS891 (a decimal of a Mbit), DS180, FPGA-DS-02012.
DISTRIBUTED_RAM = {
    "arty-a7-100t": (1_188, 0.5),
    "kv260": (3.5 * 1024, 0.05 * 1024),
    "ultra96-v2": (1.8 * 1024, 0.05 * 1024),
    "ulx3s-85f": (669 * 1000 / 1024, 0.5),  # Lattice counts 1000 bits here
    "zcu102": (8.8 * 1024, 0.05 * 1024),
    "zcu104": (6.2 * 1024, 0.05 * 1024),
}

# Bits in a transfer, transfers a second [10^6].
MEMORY_BUS = {
    "arty-a7-100t": (16, 650),
    "kv260": (64, 2_400),
    "pynq-z1": (16, 1_050),
    "pynq-z2": (16, 1_050),
    "u250": (4 * 64, 2_400),
    "u280": (32 * 64, 1_797),  # HBM2: 32 pseudo channels of 14.375 GB/s
    "ultra96-v2": (32, 1_066),
    "ulx3s-85f": (16, 166),
    "zcu102": (64, 2_133),
    "zcu104": (64, 2_133),
}

MINIMAL = """\
name = "bench"
description = "a board on the bench"
part = "xc7a35t"
family = "xc7"
clock_mhz = 100
source = "a napkin"
[capacity]
lut = 20800
ff = 41600
dsp = 90
bram18 = 100
lutram = 9600
[dram]
bandwidth_gb_s = 1.3
source = "another napkin"
"""


def test_the_second_listings_cover_every_shipped_board() -> None:
    assert set(COUNTED) == set(MEMORY_BUS) == set(BOARDS)


@pytest.mark.parametrize("name", BOARDS)
def test_capacity_is_what_the_tools_count(name: str) -> None:
    c = target.load(name).capacity
    assert (c.lut, c.ff, c.dsp, c.bram18, c.uram, c.lutram) == COUNTED[name]


@pytest.mark.parametrize("name", DISTRIBUTED_RAM)
def test_lutram_holds_the_distributed_ram_of_the_data_sheet(name: str) -> None:
    board = target.load(name)
    family = target.load_family(board.family)
    # The data sheets count what LUTs store as single-port RAM: no LUT lost to the write address.
    stored = board.capacity.lutram * 2**family.lut_inputs
    if board.family == "ecp5":
        stored = stored * 4 // 6  # four of six LUT4s store, two are the write port
    kbit, rounding = DISTRIBUTED_RAM[name]
    assert stored / 1024 == pytest.approx(kbit, abs=rounding)


@pytest.mark.parametrize("name", BOARDS)
def test_bandwidth_is_width_times_rate(name: str) -> None:
    width_bits, megatransfers = MEMORY_BUS[name]
    peak_gb_s = width_bits / 8 * megatransfers / 1000
    # The files round to two digits.
    assert target.load(name).dram.bandwidth_gb_s == pytest.approx(peak_gb_s, rel=0.02)


@pytest.mark.parametrize("name", BOARDS)
def test_laws_of_a_board(name: str) -> None:
    board = target.load(name)
    family = target.load_family(board.family)
    c = board.capacity
    assert board.name == name
    assert c.lutram < c.lut <= c.ff
    assert c.lutram % family.lutram[0].lut == 0  # whole slices
    assert c.uram == 0 or family.uram is not None
    if board.family != "ecp5":
        assert c.bram18 % 2 == 0  # halves of BRAM36
        assert c.ff == 2 * c.lut
    assert all((board.description, board.source, board.dram.source))


@pytest.mark.parametrize("name", FAMILIES)
def test_laws_of_a_family(name: str) -> None:
    family = target.load_family(name)
    assert family.name == name
    assert family.multiplier[0] >= family.multiplier[1] >= 18
    assert family.rom_depth_per_lut == 2**family.lut_inputs

    depths = [depth for depth, _ in family.bram18]
    assert all(depth & (depth - 1) == 0 for depth in depths)
    assert depths == sorted(set(depths), reverse=True)
    sizes = [depth * width for depth, width in family.bram18]
    assert all(size in (16_384, 18_432) for size in sizes)  # parity bits from nine bits on
    assert {width for _, width in family.bram18} >= {1, 36}

    if family.uram:
        assert family.uram[0] * family.uram[1] == 288 * 1024
    assert family.lutram[0].depth == family.rom_depth_per_lut
    for ram in family.lutram:  # the write port takes its share
        assert ram.depth * ram.width < ram.lut * 2**family.lut_inputs


@pytest.mark.parametrize(
    ("line", "broken", "text"),
    [
        ("lut_inputs = 6", "lut_inputs = 0", "lut_inputs must be at least 1, got 0"),
        ("uram = [4096, 72]", "uram = [0, 72]", "uram must have positive sizes, got [[0, 72]]"),
        (
            "multiplier = [27, 18]",
            "multiplier = [18, 27]",
            "multiplier: the wider operand is first, got [18, 27]",
        ),
        ("depth = 32", "depth = 0", "lutram[1]: depth must be at least 1, got 0"),
    ],
)
def test_a_broken_family(line: str, broken: str, text: str, tmp_path: Path) -> None:
    shipped = (catalogue.folder("hwmodels") / "families" / "xcup.toml").read_text(encoding="utf-8")
    assert line in shipped
    path = tmp_path / "odd.toml"
    path.write_text(shipped.replace(line, broken), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        records.load(path, target.Family)
    assert str(caught.value) == f"odd.toml: {text}"


def test_every_family_has_a_board() -> None:
    assert {target.load(name).family for name in BOARDS} == set(FAMILIES) == {"ecp5", "xc7", "xcup"}


def test_only_ultrascale_plus_has_uram() -> None:
    assert [name for name in FAMILIES if target.load_family(name).uram] == ["xcup"]


@pytest.mark.parametrize("name", BOARDS)
def test_board_round_trip(name: str) -> None:
    board = target.load(name)
    assert records.structure(records.plain(board), target.Board, name) == board


@pytest.mark.parametrize("name", FAMILIES)
def test_family_round_trip(name: str) -> None:
    family = target.load_family(name)
    assert records.structure(records.plain(family), target.Family, name) == family


def test_a_users_file_is_a_board_too(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(MINIMAL)
    board = target.load(str(path))
    assert (board.name, board.clock_mhz, board.capacity.uram) == ("bench", 100.0, 0)


@pytest.mark.parametrize(
    ("line", "instead", "message"),
    [
        (
            "dsp = 90",
            "dsps = 90",
            "bench.toml: capacity: unknown key 'dsps';"
            " known: lut, ff, dsp, bram18, uram, lutram (did you mean 'dsp'?)",
        ),
        ("lut = 20800", "lut = -1", "bench.toml: capacity: lut must be at least 1, got -1"),
        ("ff = 41600", "ff = 0", "bench.toml: capacity: ff must be at least 1, got 0"),
        ("dsp = 90", "dsp = -1", "bench.toml: capacity: dsp must be at least 0, got -1"),
        (
            "lutram = 9600",
            "lutram = 20801",
            "bench.toml: capacity: lutram must not exceed lut=20800, got 20801",
        ),
        ("clock_mhz = 100", "clock_mhz = 0", "bench.toml: clock_mhz must be 1 to 2000, got 0.0"),
        (
            "clock_mhz = 100",
            "clock_mhz = 2001",
            "bench.toml: clock_mhz must be 1 to 2000, got 2001.0",
        ),
        (
            "clock_mhz = 100",
            "clock_mhz = nan",
            "bench.toml: clock_mhz: must be a finite number, got nan",
        ),
        (
            "bandwidth_gb_s = 1.3",
            "bandwidth_gb_s = -1",
            "bench.toml: dram: bandwidth_gb_s must be 0 to 1000000, got -1.0",
        ),
        ("bram18 = 100\n", "", "bench.toml: capacity: the key 'bram18' is missing"),
        ('part = "xc7a35t"\n', "", "bench.toml: the key 'part' is missing"),
        (
            "bram18 = 100",
            "bram18 = 100.0",
            "bench.toml: capacity.bram18: must be an integer, got 100.0",
        ),
    ],
)
def test_message_for_a_wrong_board(tmp_path: Path, line: str, instead: str, message: str) -> None:
    assert MINIMAL.count(line) == 1
    path = tmp_path / "bench.toml"
    path.write_text(MINIMAL.replace(line, instead))
    with pytest.raises(InputError) as caught:
        target.load(str(path))
    assert str(caught.value) == message


def test_message_for_a_board_that_is_not_toml(tmp_path: Path) -> None:
    path = tmp_path / "bench.toml"
    path.write_text("name: bench\n")
    with pytest.raises(InputError) as caught:
        target.load(str(path))
    assert str(caught.value).startswith(f"{path}: does not parse as TOML: ")
    assert "line 1" in str(caught.value)


def test_message_for_an_unknown_board() -> None:
    with pytest.raises(InputError) as caught:
        target.load("zcu103")
    assert str(caught.value) == (
        f"unknown target 'zcu103'; known: {', '.join(BOARDS)} (did you mean 'zcu104'?);"
        " a path to a .toml file works too"
    )


def test_message_for_an_unknown_family() -> None:
    with pytest.raises(InputError) as caught:
        target.load_family("xcvu")
    assert str(caught.value) == (
        "unknown family 'xcvu'; known: ecp5, xc7, xcup (did you mean 'xcup'?);"
        " a path to a .toml file works too"
    )


def test_message_for_a_memory_of_no_width() -> None:
    plain = records.plain(target.load_family("xcup")) | {"bram18": [[512, 0]]}
    with pytest.raises(InputError) as caught:
        records.structure(plain, target.Family, "family.toml")
    assert str(caught.value) == "family.toml: bram18 must have positive sizes, got [[512, 0]]"
