"""Energy of netlists that are small enough to work out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

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
