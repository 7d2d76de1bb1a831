"""Tables, sentences and progress."""

from __future__ import annotations

import sys

import pytest

from syq_dse.cli import output


def test_numbers_stand_to_the_right_with_one_number_of_decimals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = [
        {"name": "a", "pe": None, "share": 0.5, "us": 1234.5678},
        {"name": "long", "pe": 16, "share": 12.25, "us": 87.25},
    ]
    output.print_table(rows, {"share": 1})
    assert capsys.readouterr().out == (
        "name  pe  share       us\n"
        "a      -    0.5  1234.57\n"
        "long  16   12.2    87.25\n"
    )  # fmt: skip


def test_a_long_name_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table([{"name": "x" * 300, "pe": 1}])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= output.LONGEST_NAME + 4
    assert "..." in lines[1]


@pytest.mark.parametrize(("columns", "widest"), [("40", 40), ("80", 80), ("300", output.WIDEST)])
def test_sentences_wrap_at_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: str, widest: int
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    text = "a source that is long, " * 20
    output.print_text(text)
    lines = capsys.readouterr().out.splitlines()
    assert widest - 8 < max(map(len, lines)) <= widest
    assert all(line.startswith("  ") for line in lines[1:])
    assert " ".join(map(str.strip, lines)) == text.strip()


def test_progress_in_a_pipe_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 1.0, 10.5, 11.0, 21.0])
    monkeypatch.setattr(output.time, "monotonic", lambda: next(clock))
    with output.progress_bar() as progress:
        for done in range(1, 5):
            progress(done, 9, "nsga2")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "2/9 nsga2, 10 s\n4/9 nsga2, 21 s\n")


@pytest.mark.parametrize(("quiet", "shown"), [(0.0, True), (1e9, False)])
def test_progress_in_a_terminal_is_a_bar_on_standard_error_once_it_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, quiet: float, shown: bool
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(output, "QUIET_SECONDS", quiet)
    monkeypatch.setenv("TERM", "xterm")
    with output.progress_bar() as progress:
        progress(3, 9, "generation")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("generation" in captured.err and "3/9" in captured.err) == shown
