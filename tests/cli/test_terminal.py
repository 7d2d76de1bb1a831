"""In a terminal of 80 columns, in a pipe, quiet, verbose, and completed by a shell."""

from __future__ import annotations

import fcntl
import html
import os
import re
import shlex
import shutil
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from syq_dse.cli import output, terminal

from .workbench import REPOSITORY, Run

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")

ESTIMATE = ("estimate", "--network", "resnet18", "--target", "zcu102", "--uniform")


def looked_at(*arguments: str, columns: int = 80, **variables: str) -> tuple[int, str]:
    """Exit code of a command in a terminal of its own, and what it wrote there."""
    ours, its = os.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    left_out = {"COLUMNS", "NO_COLOR", "TERM"}
    environment = {key: value for key, value in os.environ.items() if key not in left_out}
    process = subprocess.Popen(
        [sys.executable, "-m", "syq_dse", *arguments],
        env={**environment, "PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color", **variables},
        stdin=its,
        stdout=its,
        stderr=its,
    )
    os.close(its)
    written = b""
    while True:
        try:
            part = os.read(ours, 1 << 16)
        except OSError:  # how Linux says that the other side is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    return process.wait(), written.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("networks",),
        ("targets",),
        (*ESTIMATE, "ternary,4,pixel"),
        ("estimate", "--network", "resnet50", "--target", "u250", "--uniform", "int4,4,row,shift"),
        ("estimate", "--network", "lenet5", "--target", "ihp-sg13g2", "--uniform", "int2,2,row"),
        ("doctor",),
    ],
    ids=lambda arguments: " ".join(arguments[:3]),
)
def test_tables_fit_a_terminal_of_80_columns_and_lose_nothing(arguments: tuple[str, ...]) -> None:
    code, text = looked_at(*arguments)
    plain = ESCAPE.sub("", text)
    assert code == 0
    assert text != plain  # headers are bold
    assert max(map(len, plain.splitlines())) <= 80
    piped = subprocess.run(
        [sys.executable, "-m", "syq_dse", *arguments],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ESCAPE.search(piped.stdout) is None and piped.stderr == ""
    numbers = re.compile(r"(?<![\w.])\d[\d.]*(?![\w.])")
    assert sorted(set(numbers.findall(piped.stdout))) == sorted(set(numbers.findall(plain)))


def test_a_run_fits_too(finished: Path) -> None:
    run = str(finished / "runs" / "tiny")
    shown = [looked_at("compare", run, run)]
    arguments = ("--network", "lenet5", "--target", "ihp-sg13g2", "--bits", "2", "--intervals", "4")
    objectives = [o for name in ("accuracy", "area", "energy") for o in ("--objective", name)]
    out = str(finished / "silicon")
    shown.append(looked_at("explore", *arguments, *objectives, "--out", out))
    for code, text in shown:
        lines = ESCAPE.sub("", text.replace("\r", "\n")).splitlines()
        table = [line for line in lines if out not in line and run not in line]
        assert code == 0
        assert max(map(len, table)) <= 80


def test_a_terminal_that_is_too_narrow_for_the_numbers_gets_the_plain_table() -> None:
    _, text = looked_at("targets", columns=40)
    assert "zcu102        xcup     274080   548160   2520" in text


@pytest.mark.parametrize("variable", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_escape_sequence_where_none_is_wanted(variable: dict[str, str]) -> None:
    for arguments in (("networks",), ("estimate", "--network", "none"), (*ESTIMATE, "int8,8,row")):
        _, text = looked_at(*arguments, **variable)
        assert "\x1b" not in text
    _, text = looked_at("networks", NO_COLOR="")  # which counts as not set
    assert "\x1b" in text


def test_an_error_is_one_line_in_a_terminal_too() -> None:
    code, text = looked_at("plot", "a" * 100)
    assert code == 1
    assert text.startswith("\x1b[1;31msyq-dse:\x1b[0m a")
    assert text.endswith(" (study.toml is missing)\n") and text.count("\n") == 1


@pytest.mark.parametrize("before", [True, False])
def test_quiet_leaves_results_and_verbose_says_all(cli: Run, before: bool) -> None:
    def said(*option: str) -> list[str]:
        arguments = (*ESTIMATE, "ternary,4,pixel")
        done = cli(*option, *arguments) if before else cli(*arguments, *option)
        assert (done.code, done.err) == (0, "")
        return done.out.splitlines()

    normal, quiet, verbose = said(), said("--quiet"), said("-v")
    assert set(quiet) < set(normal)
    assert any(line.startswith("lut: ") for line in normal)
    assert not any(line.startswith(("lut: ", "energy: ")) for line in quiet)
    for lines in (normal, quiet):  # warnings are not notes
        assert sum(line.startswith("warning: ") for line in lines) == output.FEW
        assert "more warnings; --verbose shows them" in lines[-1]
    assert sum(line.startswith("warning: ") for line in verbose) > output.FEW
    assert any("`syq-dse calibrate" in line.replace("\n", " ") for line in verbose)
    assert not any("`syq-dse" in line for line in normal)


def test_quiet_and_verbose_exclude_each_other(cli: Run) -> None:
    for arguments in (("networks", "-q", "-v"), ("-q", "networks", "--verbose")):
        done = cli(*arguments)
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            "syq-dse: give either --quiet or --verbose; see `syq-dse networks --help`\n"
        )


def test_levels_of_one_command_do_not_reach_the_next(cli: Run) -> None:
    assert len(cli("networks", "-q").out) < len(cli("networks").out)


def test_quiet_shows_no_progress(
    cli: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "LINE_SECONDS", -1.0)
    arguments = ("explore", "--network", "./tiny.toml", "--target", "pynq-z1", "--intervals", "3")
    assert cli(*arguments, "--out", "a").err
    assert cli(*arguments, "--out", "b", "--quiet").err == ""


def test_what_does_not_print_is_shown_in_text() -> None:
    assert terminal.printable("a\x1b[2Jb\nc") == r"a\x1b[2Jb\nc"


SHELL = """\
eval "$("$1" -m syq_dse completion bash)"
shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_syq_dse_completion "$PROGRAM"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("ex",), {"explore", "export"}),
        (("--ver",), {"--version", "--verbose"}),
        (("explore", "--inter"), {"--intervals"}),
        (("explore", "--network", "resnet"), {f"resnet{n}" for n in (8, 18, 34, 50)}),
        (("estimate", "--target", "zcu"), {"zcu102", "zcu104"}),
        (("train", "--recipe", ""), {"float", "modern", "paper"}),
        (("explore", "--study", "c"), {"cnv-1000fps", "cnv-pynq-z1"}),
        (("export", "runs/tiny", "--point", "most"), {"most-accurate"}),
        (("export", "runs/tiny", "--point", "p00"), None),
        (("explore", "--sampler", "nsga"), {"nsga2", "nsga3"}),
        (("explore", "--objective", "l"), {"latency", "lut"}),
        (("plot", "runs/tiny", "--x", "lat"), {"latency_us"}),
        (("completion", ""), {"bash", "zsh", "fish"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bash_completes(finished: Path, words: tuple[str, ...], expected: set[str] | None) -> None:
    program = finished / "syq-dse"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m syq_dse "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", SHELL, "bash", sys.executable, "syq-dse", *words],
        cwd=finished,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PROGRAM": str(program)},
        capture_output=True,
        text=True,
        check=True,
    )
    found = set(done.stdout.split())
    if expected is None:
        assert found and all(re.fullmatch(r"p00\d", name) for name in found)
    else:
        assert found == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(cli: Run, shell: str) -> None:
    done = cli("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "_SYQ_DSE_COMPLETE" in done.out and "syq-dse" in done.out


@pytest.mark.parametrize("found", [True, False])
def test_a_report_is_opened_where_there_is_a_browser(
    cli: Run, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bool
) -> None:
    asked: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda url: asked.append(url) or found)
    path = tmp_path / "a page.html"
    done = cli("report", str(finished / "runs" / "tiny"), "-o", str(path), "--open")
    assert (done.code, done.out) == (0, f"{path}\n")
    assert asked == [f"file://{tmp_path}/a%20page.html"]
    assert ("no browser is found" in done.err) == (not found)


def test_the_commands_of_a_page_are_commands(finished: Path) -> None:
    """And the one that makes the run again leaves the same front."""
    text = (finished / "runs" / "tiny" / "report.html").read_text(encoding="utf-8")
    (block,) = re.findall(r'id="h-again">Once more</h2><pre>(.*?)</pre>', text, re.DOTALL)
    lines = [html.unescape(line).partition("#")[0] for line in block.splitlines()]
    assert len(lines) == 3
    for line in lines:
        name, *arguments = shlex.split(line)
        assert name == "syq-dse"
        done = subprocess.run(
            [sys.executable, "-m", "syq_dse", *arguments],
            cwd=finished,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    fronts = [(finished / "runs" / n / "front.csv").read_bytes() for n in ("tiny", "tiny-again")]
    assert fronts[0] == fronts[1]
    shutil.rmtree(finished / "runs" / "tiny-again")
