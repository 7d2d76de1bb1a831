"""The typed reader: what goes out comes back, and every error names file, key and value."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from syq_dse import records
from syq_dse.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Circle:
    op: ClassVar[str] = "circle"
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    op: ClassVar[str] = "square"
    side: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    text: str
    size: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One field of every type that the reader understands."""

    flag: bool
    count: int
    ratio: float
    title: str
    paper: Literal["a4", "a5", 3]
    note: str | None = None
    label: Label | None = None
    sizes: tuple[int, ...] = ()
    pair: tuple[int, str] = (0, "")
    grid: tuple[tuple[float, float], ...] = ()
    prices: dict[str, float] = field(default_factory=dict)
    labels: dict[str, Label] = field(default_factory=dict)
    shapes: tuple[Circle | Square, ...] = ()
    first: Circle | Square = Square(side=1)
    only: Circle | None = None
    switch: Literal[1, True] | None = None
    rest: Any = None

    def __post_init__(self) -> None:
        if self.title == "forbidden":
            raise InputError("title must not be forbidden")


integers = st.integers(-(2**53) + 1, 2**53 - 1)
numbers = st.floats(-1e299, 1e299)
labels = st.builds(Label, text=st.text(), size=st.none() | integers)
shapes = st.builds(Circle, radius=numbers) | st.builds(Square, side=integers)
sheets = st.builds(
    Sheet,
    flag=st.booleans(),
    count=integers,
    ratio=numbers,
    title=st.text().filter(lambda title: title != "forbidden"),
    paper=st.sampled_from(["a4", "a5", 3]),
    note=st.none() | st.text(),
    label=st.none() | labels,
    sizes=st.lists(integers, max_size=3).map(tuple),
    pair=st.tuples(integers, st.text()),
    grid=st.lists(st.tuples(numbers, numbers), max_size=3).map(tuple),
    prices=st.dictionaries(st.text(), numbers, max_size=3),
    labels=st.dictionaries(st.text(), labels, max_size=2),
    shapes=st.lists(shapes, max_size=3).map(tuple),
    first=shapes,
    only=st.none() | st.builds(Circle, radius=numbers),
    switch=st.sampled_from([None, 1, True]),
    rest=st.none() | st.booleans() | integers | st.lists(st.text(), max_size=2),
)
quick = settings(
    derandomize=True,
    deadline=None,
    max_examples=60,
    # Each example overwrites the same file; none reads what another wrote.
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

MINIMAL: dict[str, Any] = {"flag": True, "count": 1, "ratio": 1.5, "title": "t", "paper": "a4"}


@quick
@given(sheet=sheets)
def test_round_trip(sheet: Sheet) -> None:
    assert records.structure(records.plain(sheet), Sheet, "sheet.json") == sheet


@quick
@given(sheet=sheets)
def test_round_trip_through_a_file(sheet: Sheet, tmp_path: Path) -> None:
    path = tmp_path / "sheet.json"
    records.write_json(path, sheet)
    assert records.load(path, Sheet) == sheet


@quick
@given(sheet=sheets)
def test_plain_is_json(sheet: Sheet) -> None:
    plain = records.plain(sheet)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_plain_puts_op_first_and_leaves_none_out() -> None:
    assert list(records.plain(Circle(radius=1.0))) == ["op", "radius"]
    assert records.plain(Label(text="x")) == {"text": "x"}


def test_toml_and_json_hold_the_same_record(tmp_path: Path) -> None:
    toml, js = tmp_path / "sheet.toml", tmp_path / "sheet.json"
    toml.write_text(
        'flag = false\ncount = 2\nratio = 3\ntitle = "é"\npaper = 3\npair = [1, "x"]\n'
        '[[shapes]]\nop = "circle"\nradius = 1e3\n[labels.a]\ntext = "t"\n',
        encoding="utf-8",
    )
    records.write_json(js, records.read(toml))
    assert records.load(toml, Sheet) == records.load(js, Sheet)
    assert records.load(toml, Sheet).shapes == (Circle(radius=1000.0),)


def test_a_float_field_takes_an_integer_and_makes_it_a_float() -> None:
    ratio = records.structure({**MINIMAL, "ratio": 2}, Sheet, "sheet.toml").ratio
    assert isinstance(ratio, float)
    assert ratio == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flag": 1}, "flag: must be true or false, got 1"),
        ({"count": True}, "count: must be an integer, got True"),
        ({"count": 2.0}, "count: must be an integer, got 2.0"),
        ({"count": "2"}, "count: must be an integer, got '2'"),
        ({"count": 2**53}, "count: must be an integer, got 9007199254740992"),
        ({"count": None}, "count: must be an integer, got None"),
        ({"ratio": float("nan")}, "ratio: must be a finite number, got nan"),
        ({"ratio": float("inf")}, "ratio: must be a finite number, got inf"),
        ({"ratio": float("-inf")}, "ratio: must be a finite number, got -inf"),
        ({"ratio": 10**400}, "ratio: must be a finite number, got 1" + 56 * "0" + "..."),
        ({"ratio": False}, "ratio: must be a finite number, got False"),
        ({"title": 3}, "title: must be a string, got 3"),
        ({"title": "forbidden"}, "title must not be forbidden"),
        ({"paper": "a6"}, "paper: must be one of a4, a5, 3, got 'a6'"),
        ({"paper": ["a4"]}, "paper: must be one of a4, a5, 3, got ['a4']"),
        ({"paper": {"a4": 1}}, "paper: must be one of a4, a5, 3, got {'a4': 1}"),
        ({"paper": 3.0}, "paper: must be one of a4, a5, 3, got 3.0"),
        ({"paper": None}, "paper: must be one of a4, a5, 3, got None"),
        ({"switch": 1.0}, "switch: must be one of 1, True, got 1.0"),
        ({"switch": False}, "switch: must be one of 1, True, got False"),
        ({"note": 1}, "note: must be a string, got 1"),
        ({"sizes": "12"}, "sizes: must be a list, got '12'"),
        ({"sizes": {"a": 1}}, "sizes: must be a list, got {'a': 1}"),
        ({"sizes": [1, True]}, "sizes[1]: must be an integer, got True"),
        ({"pair": [1]}, "pair: must have 2 items, got 1"),
        ({"pair": [1, "x", 2]}, "pair: must have 2 items, got 3"),
        ({"pair": ["x", 1]}, "pair[0]: must be an integer, got 'x'"),
        ({"grid": [[1, 2], [3, "4"]]}, "grid[1][1]: must be a finite number, got '4'"),
        ({"prices": [1]}, "prices: must be a table, got [1]"),
        ({"prices": {"ink": "1"}}, "prices.ink: must be a finite number, got '1'"),
        ({"prices": {"a\nb": "1"}}, "prices.'a\\nb': must be a finite number, got '1'"),
        ({"label": "x"}, "label: must be a table, got 'x'"),
        ({"label": {"size": 1}}, "label: the key 'text' is missing"),
        (
            {"label": {"text": "x", "sise": 1}},
            "label: unknown key 'sise'; known: text, size (did you mean 'size'?)",
        ),
        ({"labels": {"a": {"text": 1}}}, "labels.a.text: must be a string, got 1"),
        (
            {"shapes": [{"op": "circle", "radius": 1}, {"op": "cirle", "radius": 1}]},
            "shapes[1]: unknown op 'cirle'; known: circle, square (did you mean 'circle'?)",
        ),
        ({"shapes": [{"op": 1}]}, "shapes[0]: unknown op 1; known: circle, square"),
        ({"shapes": [{"radius": 1}]}, "shapes[0]: the key 'op' is missing; known: circle, square"),
        ({"shapes": [3]}, "shapes[0]: must be a table, got 3"),
        ({"shapes": [["circle"]]}, "shapes[0]: must be a table, got ['circle']"),
        (
            {"first": {"op": "square", "radius": 1}},
            "first: unknown key 'radius'; known: op, side",
        ),
        ({"first": {"op": "square"}}, "first: the key 'side' is missing"),
        (
            {"only": {"op": "square", "radius": 1}},
            "only: unknown op 'square'; known: circle",
        ),
        ({"only": {"op": 1, "radius": 1}}, "only: unknown op 1; known: circle"),
    ],
)
def test_message_for_a_wrong_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        records.structure({**MINIMAL, **change}, Sheet, "sheet.toml")
    assert str(caught.value) == f"sheet.toml: {message}"


def test_a_record_outside_a_union_may_leave_op_out() -> None:
    with_op = records.structure({"op": "circle", "radius": 1}, Circle, "circle.toml")
    assert with_op == records.structure({"radius": 1}, Circle, "circle.toml") == Circle(radius=1.0)


def test_a_field_may_be_called_op() -> None:
    @dataclass(frozen=True, slots=True)
    class Step:
        op: str

    step = Step("any")
    assert records.plain(step) == {"op": "any"}
    assert records.structure({"op": "any"}, Step, "step.toml") == step


def test_message_for_an_unknown_key_names_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        records.structure({**MINIMAL, "titel": "x"}, Sheet, "sheet.toml")
    assert str(caught.value) == (
        "sheet.toml: unknown key 'titel'; known: flag, count, ratio, title, paper, note, label,"
        " sizes, pair, grid, prices, labels, shapes, first, only, switch, rest"
        " (did you mean 'title'?)"
    )


@pytest.mark.parametrize("key", MINIMAL)
def test_message_for_a_missing_key(key: str) -> None:
    plain = {name: value for name, value in MINIMAL.items() if name != key}
    with pytest.raises(InputError) as caught:
        records.structure(plain, Sheet, "sheet.toml")
    assert str(caught.value) == f"sheet.toml: the key '{key}' is missing"


def test_a_long_value_is_cut_in_the_message() -> None:
    with pytest.raises(InputError) as caught:
        records.structure({**MINIMAL, "count": "x" * 1000}, Sheet, "sheet.toml")
    assert str(caught.value) == f"sheet.toml: count: must be an integer, got '{'x' * 56}..."


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.toml", b"x = \xff", "is not UTF-8 text (byte 4)"),
        ("a.json", b'{"x": "\xe9"}', "is not UTF-8 text (byte 7)"),
        ("a.json", b'{"x": ' + b"[" * 100_000, "is nested too deeply"),
        ("a.toml", b"x = " + b"[" * 100_000, "is nested too deeply"),
        ("a.json", b"[1, 2]", "must hold a table of keys, got [1, 2]"),
        ("a.json", b"null", "must hold a table of keys, got None"),
        (
            "a.json",
            b'{"x": [{"y": 1, "z": 2, "y": 1}]}',
            "does not parse as JSON: the key 'y' stands twice in one table",
        ),
        (
            "a.json",
            b'{"a\\nb": 1, "a\\nb": 2}',
            "does not parse as JSON: the key 'a\\nb' stands twice in one table",
        ),
    ],
)
def test_message_for_a_wrong_file(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        records.read(path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(("name", "text"), [("a.toml", 'x = "é"'), ("a.json", '{"x": "é"}')])
def test_a_byte_order_mark_is_skipped(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert records.read(path) == {"x": "é"}


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.toml", "x = 1\nx = 2\n", "TOML"),
        ("a.toml", '{"x": 1}\n', "TOML"),
        ("a.toml", "x = 1\ny = [1,\n", "TOML"),
        ("a.json", "x = 1\n", "JSON"),
        ("a.json", "", "JSON"),
        ("a.json", '{"x": ' + "1" * 5000 + "}", "JSON"),
    ],
)
def test_message_for_a_file_that_does_not_parse(
    tmp_path: Path, name: str, content: str, kind: str
) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        records.read(path)
    # What follows is the parser's own text, which differs between Python versions.
    assert str(caught.value).startswith(f"{path}: does not parse as {kind}: ")


def test_message_for_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        records.read(tmp_path / "a.toml")
    assert str(caught.value) == f"{tmp_path}/a.toml: cannot be read: No such file or directory"


def test_message_for_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        records.read(tmp_path)
    assert str(caught.value) == f"{tmp_path}: cannot be read: Is a directory"


def test_message_for_a_file_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "LARGEST_FILE", 10)
    path = tmp_path / "a.toml"
    path.write_text("x = 100000\n")
    with pytest.raises(InputError) as caught:
        records.read(path)
    assert str(caught.value) == f"{path}: a description has at most 10 bytes"


def _no_space(*arguments: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("step", ["fsync", "chmod", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "out.json"
    records.write_json(path, {"x": 1})
    before = path.read_bytes()
    monkeypatch.setattr(os, step, _no_space)
    with pytest.raises(InputError) as caught:
        records.write_json(path, {"x": 2})
    assert str(caught.value) == f"{path}: cannot be written: No space left on device"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "out.json"
    records.write_json(path, {"x": 1})
    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        records.write_json(path, {"x": 2})
    assert records.read(path) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"x": float("nan")}, "x: must be a finite number, got nan"),
        ({"x": [1, {"y": float("-inf")}]}, "x[1].y: must be a finite number, got -inf"),
        ({"x": np.float32("nan")}, "x: must be a finite number, got nan"),
        (Sheet(**MINIMAL, rest=(1, {2})), "rest[1]: must be JSON, got {2}"),
        ({"a\nb": 1j}, "'a\\nb': must be JSON, got 1j"),
        (float("nan"), "must be a finite number, got nan"),
    ],
)
def test_a_value_that_is_not_json_touches_no_file(
    tmp_path: Path, value: object, message: str
) -> None:
    path = tmp_path / "out.json"
    records.write_json(path, {"x": 1})
    with pytest.raises(InputError) as caught:
        records.write_json(path, value)
    assert str(caught.value) == f"{path}: {message}"
    assert records.read(path) == {"x": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (np.int64(2**40), 2**40),
        (np.uint8(255), 255),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.bool_(True), True),
        (np.array(3), 3),
    ],
)
def test_numbers_of_numpy_become_plain(number: Any, expected: float, tmp_path: Path) -> None:
    plain = records.plain({"x": (number,)})["x"][0]
    assert (plain, type(plain)) == (expected, type(expected))
    records.write_json(tmp_path / "out.json", {"x": number})
    assert records.read(tmp_path / "out.json") == {"x": expected}


def test_text_that_is_not_unicode_touches_no_file(tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    records.write_text(path, "before")
    with pytest.raises(InputError) as caught:
        records.write_text(path, "ab\ud800")
    assert str(caught.value) == f"{path}: cannot be written: '\\ud800' is no character"
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_message_for_a_folder_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*arguments: object, **options: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.mkstemp", read_only)  # root may write where others may not
    path = tmp_path / "out.json"
    with pytest.raises(InputError) as caught:
        records.write_json(path, {"x": 1})
    assert str(caught.value) == f"{path}: cannot be written: Read-only file system"
    assert list(tmp_path.iterdir()) == []


def test_message_for_a_folder_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "no" / "out.json"
    with pytest.raises(InputError) as caught:
        records.write_json(path, {"x": 1})
    assert str(caught.value) == f"{path}: cannot be written: No such file or directory"


def test_a_written_file_is_readable_by_all_and_ends_in_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    records.write_json(path, Label(text="é"))
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.read_text(encoding="utf-8").endswith("}\n")


def test_a_pipe_is_written_into_and_stays_one(tmp_path: Path) -> None:
    """Nor does root replace /dev/null by a file."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    records.write_bytes(pipe, b"text")
    assert os.read(reader, 9) == b"text"
    os.close(reader)
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]
