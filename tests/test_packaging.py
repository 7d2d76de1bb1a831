"""What is installed: every package and data file; and the tree works without installation."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DATA = ["models", "hwmodels", "studies"]

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg", encoding="utf-8")


def test_setup_lists_every_package() -> None:
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "syq_dse").rglob("__init__.py")
    }
    listed = SETUP["options"]["packages"].split()
    assert listed == sorted({*found, *(f"syq_dse.{name}" for name in DATA)})


@pytest.mark.parametrize("name", DATA)
def test_setup_lists_every_data_file(name: str) -> None:
    globs = SETUP["options.package_data"][f"syq_dse.{name}"].split()
    files = {p for p in (ROOT / name).rglob("*") if p.suffix in {".toml", ".csv"}}
    assert files <= {p for glob in globs for p in (ROOT / name).glob(glob)}


def test_every_requirement_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text("utf-8").lower().replace("_", "-").splitlines()
    assert all(pin.count("==") == 1 and not set(pin) & set("@/+ ") for pin in pins)
    extras = SETUP["options.extras_require"]
    listed = [SETUP["options"]["install_requires"], *extras.values()]
    names = {line.split(">")[0] for text in listed for line in text.split()}
    assert {name for name in names if "[" not in name} <= {pin.split("==")[0] for pin in pins}


def test_a_copied_tree_works_without_installation(tmp_path: Path) -> None:
    for name in ["syq_dse", *DATA]:
        shutil.copytree(ROOT / name, tmp_path / name)
    script = (
        "from syq_dse import catalogue, network, target\n"
        "network.load('lenet5'), target.load('zcu102')\n"
        "print(catalogue.folder('models'))\n"
    )
    # -S: no site-packages, hence no installed syq_dse that could help out.
    done = subprocess.run(
        [sys.executable, "-S", "-c", script],
        cwd=tmp_path.parent,
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stderr, done.stdout) == ("", f"{tmp_path / 'models'}\n")
