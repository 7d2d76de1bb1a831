"""Paths that are odd: read-only folders, links, names with `..`, other versions, names as text."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from syq_dse.accuracy import sensitivity
from syq_dse.search import validation

from .workbench import SMALL_SPACE, TINY, Run, contents

Refused = Callable[..., str]

EXPLORE = ("explore", "--network", "tiny.toml", "--target", "bench.toml", *SMALL_SPACE)


@pytest.fixture
def read_only(ran: Path, workplace: Path) -> Iterator[Path]:
    """A finished run where nothing can be written, not by root either."""
    place = workplace / "read only"
    place.mkdir()
    if os.geteuid():
        shutil.copytree(ran, place / "run")
        for path in (place, *place.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield place
        for path in (place, *place.rglob("*")):
            path.chmod(0o755)
        return
    made = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        shutil.copytree(ran, place / "run")
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_read_only_run_is_read_and_not_written(
    read_only: Path, cli: Run, refused: Refused
) -> None:
    for arguments in (
        ("compare", "read only/run", "read only/run"),
        ("plot", "read only/run", "-o", "plots"),
        ("report", "read only/run", "-o", "page.html"),
        ("export", "read only/run", "-o", "out"),
    ):
        done = cli(*arguments)
        assert (done.code, done.err) == (0, ""), done
    for arguments in (
        ("plot", "read only/run"),
        ("report", "read only/run"),
        ("export", "read only/run", "-o", "read only"),
        (*EXPLORE, "--out", "read only/new"),
        ("explore", "--resume", "--out", "read only/run"),
        ("validate", "read only/run"),
    ):
        message = refused(*arguments)
        assert message.startswith("read only"), message
        assert "cannot be" in message and message.count("read only") == 1


def test_a_linked_file_is_replaced_and_what_it_led_to_stays(cli: Run, ran: Path) -> None:
    outside = ran.parent.parent / "outside"
    outside.mkdir()
    for name in ("front.svg", "report.html", "front.png"):
        (outside / name).write_text("precious")
        (ran / name).unlink(missing_ok=True)
        (ran / name).symlink_to(outside / name)
    before = contents(outside)
    assert cli("plot", "runs/tiny").code == 0 and cli("report", "runs/tiny").code == 0
    assert contents(outside) == before
    assert not (ran / "report.html").is_symlink()


@pytest.mark.parametrize("name", ["points", "optuna.journal"])
def test_a_link_out_of_the_run_is_not_written_through(
    refused: Refused, cli: Run, ran: Path, name: str
) -> None:
    outside = ran.parent.parent / "outside"
    shutil.move(ran / name, outside)
    (ran / name).symlink_to(outside)
    (ran / "front.json").unlink()
    message = refused("explore", "--resume", "--out", "runs/tiny")
    assert message.startswith(f"runs/tiny/{name}: is a link out of the run folder")
    (ran / name).unlink()
    shutil.move(outside, ran / f"in-{name}")
    (ran / name).symlink_to(f"in-{name}")
    assert cli("explore", "--resume", "--out", "runs/tiny").code == 0


@pytest.mark.parametrize("out", ["..", "new/..", "runs/../runs/tiny", "runs/tiny/.", "../../.."])
def test_a_run_folder_that_climbs_is_the_folder_that_it_names(
    refused: Refused, ran: Path, out: str
) -> None:
    message = refused(*EXPLORE, "--out", out)
    assert message.startswith(f"{Path(out)}: is not empty; ")


def test_odd_names_are_fine(cli: Run, workplace: Path) -> None:
    odd = workplace / "ä b" / "$(x) '\"é"
    assert cli(*EXPLORE, "--out", str(odd)).code == 0
    for command in (("plot",), ("report",), ("export", "-o", "o u t"), ("explore", "--resume")):
        target = ("--out", str(odd)) if command[0] == "explore" else (str(odd),)
        done = cli(*command, *target)
        assert (done.code, done.err) == (0, ""), done


@pytest.mark.parametrize(
    "command", ["plot", "report", "export", "validate", "verify", "explore --resume --out"]
)
def test_a_run_of_a_newer_version_is_refused_by_name(
    refused: Refused, ran: Path, command: str
) -> None:
    path = ran / "study.toml"
    path.write_text(path.read_text().replace("format = 1", "format = 2\nfuture = true"))
    message = refused(*command.split(), "runs/tiny")
    assert message == "runs/tiny/study.toml: is of format 2, this version reads 1"


HOSTILE = '=cmd("<script>alert(1)<script>")'


def test_a_hostile_name_stays_text(cli: Run, workplace: Path) -> None:
    name = HOSTILE.replace('"', '\\"')
    (workplace / "evil.toml").write_text(
        TINY.replace('"tiny"', f'"{name}"').replace("conv2", "=1+1")
    )
    done = cli("explore", "--network", "evil.toml", *EXPLORE[3:], "--out", "run")
    assert (done.code, done.err) == (0, "")
    assert json.loads(Path("run/front.json").read_text())["network"] == HOSTILE
    page = Path("run/report.html").read_text()
    assert "<script>alert" not in page and "=cmd(" in page
    with open("run/front.csv", newline="") as stream:
        cells = [cell for row in csv.reader(stream) for cell in row]
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]
    assert cli("export", "run", "-o", "out").code == 0
    for format in ("finn", "hls4ml"):
        done = cli("export", "run", "--format", format, "-o", "out")
        assert done.code in (0, 1) and done.err.count("\n") <= 1


def test_names_in_tables_stay_text_and_come_back(tmp_path: Path) -> None:
    (tmp_path / "profile.csv").write_text(
        ",".join(sensitivity.COLUMNS)
        + "\n"
        + ",".join(
            {"item": "'=1+1", "network": "'@x"}.get(name, "" if name in TEXT else "1")
            for name in sensitivity.COLUMNS
        )
    )
    read = sensitivity.read(tmp_path / "profile.csv")
    assert read[["item", "network"]].values.tolist() == [["=1+1", "@x"]]
    row = dict.fromkeys(validation.COLUMNS, 1) | {
        "recipe": "'=x",
        "settings": "0a",
        "point": "p001",
    }
    pd.DataFrame([row]).to_csv(tmp_path / "validation.csv", index=False)
    assert validation.known(tmp_path)["recipe"].tolist() == ["=x"]


TEXT = ("weights", "granularity", "scale")
