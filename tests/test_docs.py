"""Every command that README and docs show runs, in the order in which it stands there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "studies" / "README.md"]


def commands(page: Path) -> list[str]:
    """What stands behind a `$` in a page's console blocks."""
    blocks = re.findall(r"```console\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


def test_the_readme_shows_commands() -> None:
    assert len(commands(ROOT / "README.md")) >= 6
    assert any("estimate" in command for command in commands(ROOT / "README.md"))


def files(page: Path) -> dict[str, str]:
    """The files that a page shows, each behind a line with its name."""
    text = page.read_text(encoding="utf-8")
    return dict(re.findall(r"^`([\w.-]+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL | re.MULTILINE))


CELLS = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")
"""What stands for a reader's own `cells.lib`: of Debian's qflow-tech-osu018, as CI installs it."""


DATASET = """\
name = "blocks"
provenance = "made up: a bright block for each class"
format = "idx"
folders = ["data"]
"""


def write_images(folder: Path) -> None:
    """Small pictures of ten classes, in place of a data set that takes minutes to train on."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 6000), ("t10k", 500)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        pixels = rng.integers(0, 120, (count, 28, 28)).astype(np.uint8)
        for image, label in zip(pixels, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[9 * row : 9 * row + 9, 7 * column : 7 * column + 7] += 90
        for name, array in (("images-idx3", pixels), ("labels-idx1", labels)):
            head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
            (folder / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())


@pytest.mark.parametrize("page", [p for p in PAGES if commands(p)], ids=lambda p: p.stem)
def test_commands_run(page: Path, tmp_path: Path) -> None:
    for name, text in files(page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    if any("cells.lib" in command for command in commands(page)):
        if not CELLS.is_file():
            pytest.skip(f"{CELLS} is not installed")
        (tmp_path / "cells.lib").symlink_to(CELLS)
    if any("import" in command for command in commands(page)):
        (tmp_path / "blocks.toml").write_text(DATASET, encoding="utf-8")
        write_images(tmp_path / "data")
    for command in commands(page):
        program, *arguments = shlex.split(command.replace("fashion-mnist", "blocks.toml"))
        assert program == "syq-dse"
        if arguments[0] == "profile":
            arguments += ["--images", "600"]  # all that there are
        done = subprocess.run(
            [sys.executable, "-m", "syq_dse", *arguments],
            cwd=tmp_path,
            env={
                "PYTHONPATH": str(ROOT),
                "PATH": os.environ["PATH"],  # g++, by which networks are simulated
                "OMP_NUM_THREADS": "1",
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
            },
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, (command, done.stderr)
        assert done.stdout, command


@pytest.mark.parametrize("page", PAGES, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert "://" in link or (page.parent / link).exists(), link


def test_the_scheme_file_of_the_readme_is_read(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "scheme.toml"
    path.write_text(block, encoding="utf-8")
    subprocess.run(
        [
            *(sys.executable, "-m", "syq_dse", "estimate", "--network", "fmnist-vgg"),
            *("--target", "zcu102", "--scheme", str(path), "--interval", "100000"),
        ],
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        check=True,
        stdout=subprocess.DEVNULL,
    )
