"""Liberty files: which cells there are, and what is wrong with a file."""

from __future__ import annotations

import gzip
from itertools import product
from pathlib import Path

import pytest

from syq_dse.errors import InputError
from syq_dse.rtl import liberty
from syq_dse.rtl.liberty import read, truth

GATE = """
  cell ({name}) {{ area : {area};
    pin (A) {{ direction : input; }} pin (B) {{ direction : input; }}
    pin (Y) {{ direction : output; function : "{function}"; }} }}"""
FLIP_FLOP = """
  cell (DFF) { area : 20.5; ff (IQ, IQN) { clocked_on : "C"; next_state : "D"; }
    pin (C) { direction : input; } pin (D) { direction : input; }
    pin (Q) { direction : output; function : "IQ"; } }"""


def library(*cells: str) -> str:
    return "library (small) {" + "".join(cells) + "\n}\n"


def nand(name: str, area: float, function: str = "!(A B)") -> str:
    return GATE.format(name=name, area=area, function=function)


WHOLE = library(nand("NAND_X2", 6), nand("NAND_X1", 4), nand("NOR", 3, "!(A+B)"), FLIP_FLOP)


def test_smallest_nand_and_flip_flop_are_found(tmp_path: Path) -> None:
    path = tmp_path / "small.lib"
    path.write_text(WHOLE)
    found = read([path])
    assert (found.nand2, found.nand2_area, found.flip_flop) == ("NAND_X1", 4.0, "DFF")
    assert found.areas == {"NAND_X2": 6.0, "NAND_X1": 4.0, "NOR": 3.0, "DFF": 20.5}


def test_compressed_and_in_parts_it_is_the_same_library(tmp_path: Path) -> None:
    (tmp_path / "a.lib.gz").write_bytes(gzip.compress(library(nand("N", 4, "A' + B'")).encode()))
    (tmp_path / "b.lib").write_text("/* } */" + library(FLIP_FLOP))
    found = read([tmp_path / "a.lib.gz", tmp_path / "b.lib"])
    assert (found.nand2, found.flip_flop) == ("N", "DFF")
    assert [file.name for file in found.files] == ["a.lib", "b.lib"]
    plain = tmp_path / "a.lib"
    plain.write_text(library(nand("N", 4, "A' + B'")))
    assert read([plain, tmp_path / "b.lib"]).files == found.files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (WHOLE[:-3].encode(), "is cut: 18 groups begin, 17 end"),
        (gzip.compress(WHOLE.encode())[:-20], "is cut: its gzip stream does not end"),
        (b"module x; endmodule", "is no Liberty file: has no library group"),
        (b"\xff\xfe\x00", "is no Liberty file: not text; unpack it first"),
        (b"library (x) { }", "holds no cell"),
        (library(FLIP_FLOP).encode(), "no cell is a NAND of two inputs; give all files"),
        (library(nand("N", 4)).encode(), r"no cell is a flip-flop \(ff group\); give all files"),
        (library(nand("NOR", 3, "!(A+B)"), FLIP_FLOP).encode(), "no cell is a NAND"),
    ],
)
def test_message_of_a_broken_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.lib"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read([path])


def test_a_cell_is_in_one_file_only(tmp_path: Path) -> None:
    path = tmp_path / "small.lib"
    path.write_text(WHOLE)
    with pytest.raises(InputError, match="cell NAND_X2: is in an earlier file too"):
        read([path, path])
    with pytest.raises(InputError, match=r"missing\.lib: cannot be read"):
        read([tmp_path / "missing.lib"])


@pytest.mark.parametrize(
    ("function", "python"),
    [
        ("!(A&B)", "not (a and b)"),
        ("A B' + !C", "(a and not b) or not c"),
        ("(A ^ B)*C", "(a != b) and c"),
        ("!A | B & C", "(not a) or (b and c)"),
        ("((A))''", "a"),
    ],
)
def test_functions_have_the_values_of_python(function: str, python: str) -> None:
    wanted = tuple(
        int(bool(eval(python, {}, {"a": a, "b": b, "c": c})))  # an oracle of its own
        for a, b, c in product((0, 1), repeat=3)
    )
    assert truth(function, ["A", "B", "C"]) == wanted


@pytest.mark.parametrize("function", ["A &", "(A", "A $ B", "D", ""])
def test_what_is_no_function_is_refused(function: str) -> None:
    with pytest.raises(ValueError):
        truth(function, ["A", "B", "C"])


DEBIAN = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")


@pytest.mark.skipif(not DEBIAN.is_file(), reason="qflow-tech-osu018 is not installed")
def test_debians_library() -> None:
    found = liberty.read([DEBIAN])
    assert (found.nand2, found.nand2_area) == ("NAND2X1", 24.0)
