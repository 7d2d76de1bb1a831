"""What tests of the command line share: a small network, a board, files, processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]

TINY = """\
name = "tiny"
provenance = "made up for tests"
classes = 4
input = [1, 8, 8]
recipe = { dataset = "mnist" }
layers = [
  { name = "conv1", op = "conv", c_out = 4, k = 3 },
  { name = "conv2", op = "conv", c_out = 4, k = 3 },
  { name = "conv3", op = "conv", c_out = 8, k = 3 },
  { name = "flatten", op = "flatten" },
  { name = "dense", op = "dense", c_out = 4, relu = false },
]
"""

BOARD = """\
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

SMALL_SPACE = ("--bits", "2,4", "--weights", "binary,int4", "--intervals", "4")
"""Options of explore that make it quick."""


@dataclass(frozen=True)
class Done:
    """What a command left: exit code, standard output, standard error."""

    code: int
    out: str
    err: str


Run = Callable[..., Done]


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def process(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    """`python -m syq_dse` as a process of its own, where any warning is an error.

    But for files that nobody closed: an interrupt may fall between an `open` and its `with`. Jobs
    in the background of a shell ignore interrupts, and so do tests in one; this process does not.
    """
    warnings = ("-W", "error", "-W", "ignore::ResourceWarning")
    return subprocess.Popen(
        [sys.executable, *warnings, "-m", "syq_dse", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
