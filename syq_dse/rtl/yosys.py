"""Yosys in a process of its own, so that its failure and its time are bounded."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from syq_dse.errors import InputError

TIMEOUT_S = 3600

MISSING = "yosys: pyosys is not installed; remedy: pip install 'syq-dse[rtl]'"

_RUN = """
import sys
from pyosys import libyosys
design = libyosys.Design()
for line in open(sys.argv[1]).read().splitlines():
    libyosys.run_pass(("" if line.startswith("tee") else "tee -q -a yosys.log ") + line, design)
open("finished", "w").close()
"""


def run(
    passes: Sequence[str],
    files: Mapping[str, str],
    results: Sequence[str],
    timeout_s: float = TIMEOUT_S,
    what: str = "",
) -> dict[str, str]:
    """Run passes in a folder with `files`, and return the text of `results`.

    Args:
        what: modules that it works on, for messages.

    Raises:
        InputError: pyosys is not installed, a pass fails, or time runs out.
    """
    with tempfile.TemporaryDirectory(prefix="syq-dse-") as folder:
        place = Path(folder)
        for name, text in files.items():
            (place / name).write_text(text, encoding="utf-8")
        (place / "passes").write_text("\n".join(passes), encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-c", _RUN, "passes"],
                cwd=place,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InputError(
                f"yosys: {what or passes[-1]}: exceeded its time limit of {timeout_s:g} s; "
                "raise --timeout, or fold the unit more"
            ) from None
        if done.returncode or not (place / "finished").exists():
            log = place / "yosys.log"
            written = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
            text = "\n".join((written, done.stderr, done.stdout))
            lines = [line for line in text.splitlines() if line.strip()]
            reason = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "")
            if "No module named 'pyosys'" in done.stderr:
                raise InputError(MISSING)
            remedy = ""
            if "ImportError" in reason:
                remedy = "; remedy: pip install --force-reinstall pyosys"
            raise InputError(
                f"yosys: {what + ': ' if what else ''}{reason.strip()}, "
                f"exit code {done.returncode}{remedy}"
            )
        return {name: (place / name).read_text(encoding="utf-8") for name in results}


def version() -> str:
    """The version of Yosys, as "yosys 0.70".

    Raises:
        InputError: pyosys is missing.
    """
    try:
        return f"yosys {metadata.version('pyosys')}"
    except metadata.PackageNotFoundError:
        raise InputError(MISSING) from None


CONTENTS = re.compile(r"  initial begin\n((?:    \S+ ?\[\d+\] = \d+'h[0-9a-fx]+;\n)+)  end\n")
WORD = re.compile(r"    (\S+) ?\[(\d+)\] = \d+'h([0-9a-fx]+);\n")


def with_contents_apart(name: str, verilog: str) -> dict[str, str]:
    """NAME.v, with what memories hold at first in files of their own.

    Yosys' time grows with the square of the assignments in an initial block: 20 s for 4,100 words,
    which it reads from a file at once.
    """
    files: dict[str, str] = {}

    def to_file(block: re.Match[str]) -> str:
        words = WORD.findall(block[1])
        names = {memory for memory, _, _ in words}
        if len(names) != 1:
            return block[0]
        memory, file = names.pop(), f"{name}_{len(files)}.hex"
        files[file] = "".join(f"@{int(address):x} {word}\n" for _, address, word in words)
        return f'  initial $readmemh("{file}", {memory} );\n'

    return {f"{name}.v": CONTENTS.sub(to_file, verilog)} | files
