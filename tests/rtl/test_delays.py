"""Timing of hardware whose depth is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from syq_dse.errors import InputError
from syq_dse.rtl import delays
from syq_dse.rtl.liberty import Library, LibraryFile, read

DEBIAN = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")

debians = pytest.mark.skipif(not DEBIAN.is_file(), reason="qflow-tech-osu018 is not installed")


def parity(bits: int) -> str:
    return f"module parity_{bits}(input [{bits - 1}:0] a, output y); assign y = ^a; endmodule\n"


@debians
def test_a_tree_of_twice_the_inputs_is_one_gate_deeper() -> None:
    library = read([DEBIAN])
    modules = {f"parity_{bits}": parity(bits) for bits in (2, 4, 16)}
    modules["wire_1"] = "module wire_1(input a, output y); assign y = a; endmodule\n"
    found = delays.measure(modules, library)
    assert 0 == found["wire_1"] < found["parity_2"] < found["parity_4"] < found["parity_16"]
    assert 2.5 * found["parity_2"] < found["parity_16"] < 8 * found["parity_2"]
    assert 0.05 < delays.register_ns(library) < 1


FLIP_FLOP = """
cell (DFF) {{ area : 4;
  ff (IQ, IQN) {{ clocked_on : "C"; next_state : "D"; }}
  pin (C) {{ direction : input; }}
  pin (D) {{ direction : input;
    timing () {{ timing_type : setup_rising;
      rise_constraint (t) {{ values ("1, 2, 3", "4, 5, 6", "7, 8, 9"); }}
      fall_constraint (t) {{ values ("0, 0, 0", "0, 7, 0", "0, 0, 0"); }} }} }}
  pin (Q) {{ direction : output; function : "IQ";
    timing () {{ timing_type : rising_edge;
      cell_rise (t) {{ values ("10, 20, 30", "40, 50, 60", "70, 80, 90"); }}
      cell_fall (t) {{ values ("10, 20, 30", "40, {fall}, 60", "70, 80, 90"); }} }} }}
}}
"""


def library_of(unit: str, fall: str = "30") -> Library:
    text = f'library (x) {{ time_unit : "{unit}"; {FLIP_FLOP.format(fall=fall)} }}'
    return Library(
        files=(LibraryFile(name="x.lib", sha256="0"),),
        texts=(text,),
        areas={"DFF": 4.0},
        nand2="NAND2",
        flip_flop="DFF",
    )


@pytest.mark.parametrize(("unit", "scale"), [("1ns", 1.0), ("1ps", 1e-3), ("10ps", 1e-2)])
def test_a_flip_flop_is_its_delay_and_its_set_up_in_its_library_s_unit(
    unit: str, scale: float
) -> None:
    # the entries in the middle of three rows and columns
    assert delays.register_ns(library_of(unit)) == pytest.approx(scale * (50 + 7))


def test_message_of_a_library_without_timing() -> None:
    bare = library_of("1ns")
    text = bare.texts[0].replace("rising_edge", "none").replace("setup_rising", "none")
    without = Library(
        files=bare.files, texts=(text,), areas=bare.areas, nand2="NAND2", flip_flop="DFF"
    )
    with pytest.raises(InputError, match="DFF: no delay from clock to output in its Liberty file"):
        delays.register_ns(without)
