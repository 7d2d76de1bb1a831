"""Energy of netlists that are small enough to work out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from syq_dse.errors import InputError
from syq_dse.rtl import toggles
from syq_dse.rtl.liberty import Cell, cells, read

INVERTER = Cell(inputs={"A": 0.5}, outputs={"Y": "!A"}, toggle_pj={"Y": 3.0})
EXCLUSIVE = Cell(inputs={"A": 1.0, "B": 2.0}, outputs={"Y": "A^B"}, toggle_pj={"Y": 5.0})
FLIP_FLOP = Cell(
    inputs={"C": 0.25, "D": 4.0},
    outputs={"Q": "IQ", "QN": "IQN"},
    toggle_pj={"Q": 7.0, "QN": 11.0},
    clock="C",
    clock_pj=13.0,
    state=("IQ", "IQN", "D"),
)
OF = {"INV": INVERTER, "XOR": EXCLUSIVE, "DFF": FLIP_FLOP}
VOLTS = 2.0


def energy(found: dict[str, tuple[str, dict[str, int]]], inputs: dict[str, int]) -> toggles.Energy:
    module = {
        "cells": {
            name: {"type": kind, "connections": {pin: [net] for pin, net in pins.items()}}
            for name, (kind, pins) in found.items()
        },
        "ports": {name: {"direction": "input", "bits": [net]} for name, net in inputs.items()},
    }
    return toggles.energy(module, OF, VOLTS, toggles.RandomWords(0), "small")


def test_an_inverter_toggles_with_its_input() -> None:
    found = energy({"u": ("INV", {"A": 2, "Y": 3})}, {"s_data": 2})
    # each toggle: the input's pin is charged by whoever drives it, the output has no load
    per_toggle = 0.5 * 0.5 * VOLTS**2 + 3.0
    assert found.logic_pj == pytest.approx(found.toggles * per_toggle)
    assert found.toggles == pytest.approx(0.5, abs=0.05)  # random words
    assert found.clock_pj == 0


def test_what_is_constant_takes_nothing() -> None:
    found = energy({"u": ("XOR", {"A": 2, "B": 2, "Y": 3})}, {"s_data": 2})
    assert found.toggles == 0
    found = energy({"u": ("INV", {"A": 2, "Y": 3})}, {"s_valid": 2})
    assert (found.toggles, found.logic_pj) == (0, 0)


def test_a_flip_flop_that_divides_by_two() -> None:
    # Q inverted on itself: it toggles in every cycle, and so does the inverter
    found = energy(
        {"f": ("DFF", {"C": 9, "D": 3, "Q": 2}), "u": ("INV", {"A": 2, "Y": 3})}, {"clk": 9}
    )
    assert found.toggles == 1
    assert found.logic_pj == pytest.approx(7.0 + 0.5 * 0.5 * VOLTS**2 + 3.0 + 0.5 * 4.0 * VOLTS**2)
    assert found.clock_pj == pytest.approx(13.0 + 0.25 * VOLTS**2)


def test_a_delay_and_an_exclusive_or_see_changes() -> None:
    # d ^ q is 1 where the input has changed; both outputs of the flip-flop follow the input
    found = energy(
        {
            "f": ("DFF", {"C": 9, "D": 2, "Q": 3, "QN": 5}),
            "x": ("XOR", {"A": 2, "B": 3, "Y": 4}),
        },
        {"clk": 9, "s_data": 2},
    )
    assert found.toggles == pytest.approx(0.5, abs=0.05)


def test_gates_are_ordered_whatever_their_place_in_the_file() -> None:
    chain = {f"u{i}": ("INV", {"A": i + 2, "Y": i + 3}) for i in range(6)}
    there = energy(chain, {"s_data": 2})
    back = energy(dict(reversed(chain.items())), {"s_data": 2})
    assert there == back


DEBIAN = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")


@pytest.mark.skipif(not DEBIAN.is_file(), reason="qflow-tech-osu018 is not installed")
def test_cells_of_debians_library() -> None:
    library = read([DEBIAN])
    found = cells(library)
    nand, flip_flop = found[library.nand2], found[library.flip_flop]
    assert set(nand.inputs) == {"A", "B"}
    assert all(0.001 < load < 0.1 for load in nand.inputs.values())  # pF
    assert 0 < nand.toggle_pj["Y"] < 1
    assert flip_flop.state is not None
    assert flip_flop.clock == "CLK"
    assert flip_flop.clock_pj > 0


def test_an_sram_gives_back_what_was_written() -> None:
    sram = {
        "type": "syq_sram",
        "parameters": {"RD_PORTS": "1", "WR_PORTS": "1", "RD_CLK_ENABLE": "1"},
        "connections": {
            "RD_EN": ["1"], "RD_ADDR": [4], "RD_DATA": [3],
            "WR_EN": ["1"], "WR_ADDR": [4], "WR_DATA": [2],
        },
    }  # fmt: skip
    inverter = {"type": "INV", "connections": {"A": [3], "Y": [5]}}
    module = {
        "cells": {"m": sram, "u": inverter},
        "ports": {"s_data": {"direction": "input", "bits": [2]}},
    }
    # one word, address 0: the word before comes out
    one = toggles.energy(module, OF, VOLTS, toggles.RandomWords(0), "small")
    assert one.toggles == pytest.approx(0.5, abs=0.05)
    without = {**sram, "parameters": {**sram["parameters"], "RD_CLK_ENABLE": "0"}}
    with pytest.raises(InputError, match="small: its SRAM is not one of a read and a write port"):
        broken = {**module, "cells": {"m": without}}
        toggles.energy(broken, OF, VOLTS, toggles.RandomWords(0), "small")


def test_words_wait_until_they_are_taken() -> None:
    words = {"s": [[lane, 3 - lane % 4, 2] for lane in range(toggles.LANES)]}
    found = toggles.Streams(words, 5, 7)
    assert (found.warm_up, found.cycles) == (5, 7)
    first = toggles.planes(list(range(toggles.LANES)), 6)
    assert found.drive("s_data", 6) == first
    found.see({"s_ready": False})
    assert found.drive("s_data", 6) == first
    for _ in range(3):  # over and over
        found.see({"s_ready": True})
    assert found.drive("s_data", 6) == first
    with pytest.raises(InputError, match="input t_data: has no words to come"):
        found.drive("t_data", 6)


def test_planes_are_the_bits_of_each_lane() -> None:
    words = [5 if lane == 3 else 0 for lane in range(toggles.LANES)]
    assert toggles.planes(words, 3) == [1 << 3, 0, 1 << 3]


def test_addresses_count_up_and_words_are_random() -> None:
    found = toggles.RandomWords(0)
    rows = [found.drive("r_addr", 4) for _ in range(3)]
    lanes = [
        [sum((plane >> lane & 1) << bit for bit, plane in enumerate(row)) for row in rows]
        for lane in range(toggles.LANES)
    ]
    assert all((b - a) % 16 == 1 and (c - b) % 16 == 1 for a, b, c in lanes)
    assert len({a for a, _, _ in lanes}) > 8
