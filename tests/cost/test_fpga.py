"""Memories by the part's shapes, against tiles that are laid one by one; shares of a part."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from syq_dse import target
from syq_dse.cost import fpga
from syq_dse.cost.counts import Memory
from syq_dse.cost.fpga import BRAM18, COLUMNS, DRAM, DSP, FF, LUT, LUTRAM, URAM

FAST = settings(derandomize=True, max_examples=150, deadline=None)
FAMILIES = ["ecp5", "xc7", "xcup"]
BOARDS = ["zcu102", "ulx3s-85f", "pynq-z1", "u250"]

DEPTHS = st.one_of(st.integers(2, 600), st.sampled_from([1024, 4096, 4097, 16384, 20000]))
WIDTHS = st.one_of(st.integers(1, 80), st.sampled_from([144, 288, 1000]))


def tiles(depth: int, width: int, shape: tuple[int, int]) -> int:
    """Blocks of one shape that cover every bit, laid from the corner; whole blocks only."""
    count = 0
    for _ in range(0, depth, shape[0]):
        for _ in range(0, width, shape[1]):
            count += 1
    return count


def laid(depth: int, width: int, shape: tuple[int, int]) -> bool:
    """Whether that many blocks, laid side by side, cover every bit of the memory."""
    covered = np.zeros((depth, width), dtype=bool)
    for row in range(0, depth, shape[0]):
        for column in range(0, width, shape[1]):
            covered[row : row + shape[0], column : column + shape[1]] = True
    return bool(covered.all())


def multiplexer(ways: int, inputs: int) -> int:
    """LUTs of a multiplexer of `ways` words, a bit wide: each joins up to `inputs` into one."""
    count = 0
    while ways > 1:
        groups = [min(inputs, ways - first) for first in range(0, ways, inputs)]
        count += sum(1 for group in groups if group > 1)
        ways = len(groups)
    return count


def joins(rows: int, width: int, counted: int, part: target.Family) -> int:
    """LUTs that join rows of a memory: multiplexers of what is read, and one a row for its enable.

    Of two rows the enables are of two inputs, which are no LUTs by themselves.

    Four-input LUTs take what Yosys was seen to take, which follows no rule: `counted`, if it is
    about two thirds to four thirds of a LUT a row and a bit.
    """
    if rows == 1:
        return 0
    if part.lut_inputs >= 6:
        return width * multiplexer(rows, 4) + (rows if rows > 2 else 0)
    within = width * rows // 2 <= counted - rows <= width * rows * 4 // 3
    return counted if within else 0


@pytest.mark.parametrize("family", FAMILIES)
@FAST
@given(depth=DEPTHS, width=WIDTHS, banks=st.integers(1, 9), constant=st.booleans())
def test_block_takes_the_shape_of_fewest_blocks(
    family: str, depth: int, width: int, banks: int, constant: bool
) -> None:
    part = target.load_family(family)
    row = fpga.block(Memory(width=width, depth=depth, banks=banks, constant=constant), part)
    fewest = min(tiles(depth, width, shape) for shape in part.bram18)
    best = next(shape for shape in part.bram18 if tiles(depth, width, shape) == fewest)
    assert laid(min(depth, 600), width, best)
    assert int(row[BRAM18]) == banks * fewest
    rows = tiles(depth, 1, (best[0], 1))
    assert int(row[FF]) == banks * (rows - 1).bit_length()  # which row was read
    assert int(row[LUT]) == banks * joins(rows, width, int(row[LUT]) // banks, part)
    assert not row[[DSP, URAM, LUTRAM, DRAM]].any()


@pytest.mark.parametrize(
    ("depth", "width", "blocks"),
    [
        (512, 36, 1),
        (1024, 18, 1),
        (2048, 9, 1),
        (4096, 4, 1),
        (8192, 2, 1),
        (16384, 1, 1),
        (513, 36, 2),
        (512, 37, 2),
        (1025, 18, 2),
        (16385, 1, 2),
        (512, 72, 2),
        (2, 1, 1),
        (1, 4096, 0),
        (0, 8, 0),
    ],
)
@pytest.mark.parametrize("family", FAMILIES)
def test_known_numbers_of_bram18(family: str, depth: int, width: int, blocks: int) -> None:
    """AMD UG573 table 1-7, UG473 table 1-7, Lattice TN1264: 18 kbit, 36 bits wide at most."""
    row = fpga.block(Memory(width=width, depth=depth), target.load_family(family))
    assert int(row[BRAM18]) == blocks


@FAST
@given(depth=DEPTHS, width=WIDTHS, banks=st.integers(1, 9))
def test_ultra_counts_blocks_of_4096_by_72(depth: int, width: int, banks: int) -> None:
    row = fpga.ultra(Memory(width=width, depth=depth, banks=banks), target.load_family("xcup"))
    found = dict(zip(COLUMNS, row[: fpga.HALVES].tolist(), strict=True))
    assert found.pop("uram") == banks * tiles(depth, width, (4096, 72))
    rows = tiles(depth, 1, (4096, 1))
    assert found.pop("ff") == banks * (rows - 1).bit_length()  # which row was read
    assert (found.pop("lut") > 0) == (rows > 1)  # a multiplexer joins rows
    assert not any(found.values())


@pytest.mark.parametrize("family", FAMILIES)
@FAST
@given(depth=DEPTHS, width=WIDTHS, banks=st.integers(1, 9))
def test_distributed_counts_tiles_and_multiplexers(
    family: str, depth: int, width: int, banks: int
) -> None:
    part = target.load_family(family)
    row = fpga.distributed(Memory(width=width, depth=depth, banks=banks), part)
    built = [
        (tiles(depth, width, (ram.depth, ram.width)) * ram.lut, tiles(depth, 1, (ram.depth, 1)))
        for ram in part.lutram
    ]
    cells = int(row[LUTRAM]) // banks
    joined = int(row[LUT]) // banks - cells
    assert (cells, joined) in [(c, joins(rows, width, joined, part)) for c, rows in built]
    assert row[[LUT, LUTRAM]].tolist() == [banks * (cells + joined), banks * cells]
    assert int(row[FF]) == banks * width  # what was read
    assert not row[[DSP, BRAM18, URAM, DRAM]].any()

    wired = Memory(width=width, depth=depth, banks=banks, registered=False)
    assert int(fpga.distributed(wired, part)[FF]) == 0
    table = fpga.distributed(Memory(width=width, depth=depth, banks=banks, constant=True), part)
    stored = banks * tiles(depth, width, (part.rom_depth_per_lut, 1))
    if depth > fpga.FEW_WORDS:  # else columns are equal or wires
        assert stored <= int(table[LUT]) <= 2 * stored
    else:
        assert int(table[LUT]) <= stored
    assert int(table[FF]) == banks * width
    assert int(table[LUTRAM]) == int(table[BRAM18]) == 0


def test_the_lutram_shape_is_chosen_with_its_multiplexers() -> None:
    """160 x 49 bits: 5 x 4 RAM32M16, the last of them half used, as Yosys takes them.

    200 x 20 bits are 4 x 3 RAM64M8.
    """
    row = fpga.distributed(Memory(width=49, depth=160), target.load_family("xcup"))
    assert row[[LUT, LUTRAM]].tolist() == [5 * 4 * 8 + 2 * 49 + 5, 5 * 4 * 8]
    row = fpga.distributed(Memory(width=20, depth=200), target.load_family("xcup"))
    assert row[[LUT, LUTRAM]].tolist() == [4 * 3 * 8 + 20 + 4, 4 * 3 * 8]


@pytest.mark.parametrize("style", [fpga.distributed, fpga.block, fpga.ultra])
def test_one_word_is_a_register_or_wiring(style: object) -> None:
    part = target.load_family("xcup")
    assert callable(style)
    word = style(Memory(width=40, depth=1, banks=3), part)
    assert word.tolist() == [120 if name == "ff" else 0 for name in COLUMNS] + [0]
    assert not style(Memory(width=40, depth=1, banks=3, constant=True), part).any()
    assert not style(Memory(width=40, depth=0, banks=3), part).any()


@FAST
@given(
    board=st.sampled_from(BOARDS),
    depth=st.integers(0, 5000),
    width=st.integers(1, 300),
    banks=st.integers(1, 9),
    constant=st.booleans(),
)
def test_the_cheapest_memory_is_taken(
    board: str, depth: int, width: int, banks: int, constant: bool
) -> None:
    """Of the styles that the part has, the one of the smallest share; constants need contents."""
    pricing = fpga.pricing(target.load(board))
    memory = Memory(width=width, depth=depth, banks=banks, constant=constant)
    styles = [fpga.distributed, fpga.block]
    styles += [fpga.ultra] if pricing.board.capacity.uram and not constant else []
    shares = [
        int(pricing.share_of(fpga.settled(style(memory, pricing.family)))) for style in styles
    ]
    taken = fpga.map_memory(memory, pricing)
    assert int(pricing.share_of(fpga.settled(taken))) == min(shares)
    assert (taken == styles[shares.index(min(shares))](memory, pricing.family)).all()


@FAST
@given(st.lists(st.tuples(DEPTHS, WIDTHS, st.integers(1, 9)), min_size=1, max_size=6))
def test_many_memories_at_once_are_each_by_itself(sizes: list[tuple[int, int, int]]) -> None:
    pricing = fpga.pricing(target.load("u250"))
    depth, width, banks = (np.array(column) for column in zip(*sizes, strict=True))
    for constant in (False, True):
        rows = fpga.map_memory(
            Memory(width=width, depth=depth, banks=banks, constant=constant), pricing
        )
        for row, (d, w, b) in zip(rows, sizes, strict=True):
            alone = fpga.map_memory(Memory(width=w, depth=d, banks=b, constant=constant), pricing)
            assert (row == alone).all()


# Shares of a part


@pytest.mark.parametrize("name", BOARDS)
def test_share_of_one_resource_is_its_part_of_the_capacity(name: str) -> None:
    pricing = fpga.pricing(target.load(name))
    capacity = pricing.board.capacity
    sizes = (capacity.lut, capacity.ff, capacity.dsp, capacity.bram18, capacity.uram)
    for column, size in zip((LUT, FF, DSP, BRAM18, URAM), sizes, strict=True):
        row = np.zeros(len(COLUMNS), np.int64)
        row[column] = max(1, size)
        expected = fpga.PART if size else 1000 * fpga.PART
        # each unit's share is rounded to 10^-9 of the part
        assert abs(int(pricing.share_of(row)) - expected) <= size / 2


def test_reading_dram_counts_as_a_whole_part() -> None:
    pricing = fpga.pricing(target.load("zcu102"))
    row = np.zeros((2, len(COLUMNS)), np.int64)
    row[1, DRAM] = 1
    assert pricing.share_of(row).tolist() == [0, fpga.PART]


def test_as_mapping_names_the_columns() -> None:
    row = np.arange(len(COLUMNS))
    assert list(fpga.as_mapping(row).items()) == list(zip(COLUMNS, range(8), strict=True))
    assert [COLUMNS[i] for i in (LUT, FF, DSP, BRAM18, URAM, LUTRAM, DRAM)] == list(COLUMNS[:7])


def test_a_board_without_lutram_keeps_memories_out_of_luts() -> None:
    board = target.load("zcu102")
    bare = replace(board, capacity=replace(board.capacity, lutram=0))
    pricing = fpga.pricing(bare)
    for depth, width in itertools.product((2, 16, 64, 512), (1, 8, 64)):
        assert int(fpga.map_memory(Memory(width=width, depth=depth), pricing)[LUTRAM]) == 0
