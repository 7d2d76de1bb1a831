"""The command line in this process, and one finished run for all tests."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from syq_dse.cli import main

from .workbench import BOARD, SMALL_SPACE, TINY, Done, Run, contents, process


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command line in this process; anything but an exit is a traceback and fails."""

    monkeypatch.setattr(os, "fsync", lambda handle: None)  # a busy disk takes a second for each

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["syq-dse", *arguments])
        code = 0
        try:
            main()
        except SystemExit as error:
            assert isinstance(error.code, int)
            code = error.code
        return Done(code, *capsys.readouterr())

    return run


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the files tiny.toml and bench.toml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "bench.toml").write_text(BOARD)
    return tmp_path


@pytest.fixture
def refused(cli: Run, workplace: Path) -> Callable[..., str]:
    """Runs a command that must fail; the message, without the program's name.

    It must be the one line of standard error, and no file may have come, gone or changed.
    """

    def run(*arguments: str, code: int = 1) -> str:
        before = contents(workplace)
        done = cli(*arguments)
        assert (done.code, done.out) == (code, ""), done
        assert done.err.startswith("syq-dse: ")
        assert done.err.endswith("\n")
        assert done.err.count("\n") == len(done.err.splitlines()) == 1, done.err
        assert contents(workplace) == before
        return done.err.removeprefix("syq-dse: ").rstrip("\n")

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.toml and, under runs/tiny, a finished run of several points."""
    place = tmp_path_factory.mktemp("finished")
    (place / "tiny.toml").write_text(TINY)
    objectives = [o for name in ("accuracy", "fps", "lut") for o in ("--objective", name)]
    arguments = ("--network", "./tiny.toml", "--target", "pynq-z1", *SMALL_SPACE, *objectives)
    explore = process("explore", *arguments, "--out", "runs/tiny", cwd=place)
    out, err = explore.communicate()
    assert (explore.returncode, err) == (0, "")
    assert "run: runs/tiny" in out.splitlines()
    return place


@pytest.fixture
def ran(finished: Path, workplace: Path) -> Path:
    """A copy of the finished run in the working directory: runs/tiny."""
    shutil.copytree(finished / "runs", workplace / "runs")
    return workplace / "runs" / "tiny"
