"""`plot` and `export` on finished, broken and foreign run folders."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from syq_dse import records

Refused = Callable[..., str]

NAMES = ("knee", "most-accurate", "fastest", "smallest")


def front(run: Path) -> dict[str, Any]:
    found = json.loads((run / "front.json").read_text())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("point", [*NAMES, "3", "p003", "003"])
def test_an_exported_point_costs_what_its_run_says(cli, ran: Path, point: str) -> None:
    done = cli("export", "runs/tiny", "--point", point, "-o", "out put/é")
    assert (done.code, done.err) == (0, "")
    identity = front(ran)["named"].get(point, "p003")
    assert done.out == f"out put/é/tiny-pynq-z1-{identity}.json\n"
    exported = json.loads(Path(done.out.rstrip("\n")).read_text())
    assert exported == json.loads((ran / "points" / f"{identity}.json").read_text())
    selectors = ("--network", "./tiny.toml", "--target", "pynq-z1", "--json")
    estimated = cli("estimate", *selectors, "--scheme", done.out.rstrip("\n"))
    assert json.loads(estimated.out) == exported["cost"]


def test_named_points_are_what_they_say(ran: Path) -> None:
    found = front(ran)
    rows = {row["point"]: row for row in found["points"]}
    assert len(rows) > 3
    assert set(found["named"]) == set(NAMES)
    best = {name: rows[point] for name, point in found["named"].items()}
    assert best["most-accurate"]["accuracy"] == max(r["accuracy"] for r in rows.values())
    assert best["fastest"]["fps"] == max(r["fps"] for r in rows.values())
    assert best["smallest"]["utilization"] == min(r["utilization"] for r in rows.values())


def test_exporting_twice_is_fine_and_other_contents_are_kept(
    cli, refused: Refused, ran: Path
) -> None:
    first = cli("export", "runs/tiny", "-o", "out")
    path = Path(first.out.rstrip("\n"))
    assert cli("export", "runs/tiny", "-o", "out") == first
    for text in ("{}", '{"half": '):
        path.write_text(text)
        assert refused("export", "runs/tiny", "-o", "out").startswith(f"{path}: ")
    path.unlink()
    path.mkdir()
    assert refused("export", "runs/tiny", "-o", "out").startswith(f"{path}: ")


@pytest.mark.parametrize(
    "point", ["", "p", "0", "-1", "99", "²", "pp1", "KNEE", "../p001", "9" * 5000]
)
def test_an_unknown_point_exits_1(refused: Refused, ran: Path, point: str) -> None:
    last = front(ran)["points"][-1]["point"]
    message = refused("export", "runs/tiny", "--point", point)
    assert message == f"unknown point '{point}'; known: p001 to {last}, {', '.join(NAMES)}"


@pytest.mark.parametrize("column", ["accuracy", "latency_us", "uram", "utilization"])
def test_an_axis_of_every_kind_can_be_drawn(cli, ran: Path, column: str) -> None:
    done = cli("plot", "runs/tiny", "--x", column, "-o", "pic tures/é")
    assert (done.code, done.err) == (0, "")
    picture, vector = (Path(line) for line in done.out.splitlines())
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "<svg" in vector.read_text()


@pytest.mark.parametrize("column", ["point", "speed", "accuracy_source"])
def test_an_unknown_axis_exits_1(refused: Refused, ran: Path, column: str) -> None:
    message = refused("plot", "runs/tiny", "--y", column)
    assert message.startswith(f"unknown axis '{column}'; known: accuracy, fps, ")


@pytest.mark.parametrize("command", ["plot", "export"])
@pytest.mark.parametrize("run", ["none", ".", "tiny.toml", "/", "/dev/null", "runs"])
def test_what_is_no_run_exits_1(refused: Refused, ran: Path, command: str, run: str) -> None:
    assert refused(command, run) == f"{run or '.'}: holds no run (study.toml is missing)"


@pytest.mark.parametrize("command", ["plot", "export"])
@pytest.mark.parametrize("out", ["tiny.toml", "tiny.toml/x", "/dev/null", "x" * 300])
def test_an_output_folder_that_cannot_be_exits_1(
    refused: Refused, ran: Path, command: str, out: str
) -> None:
    assert refused(command, "runs/tiny", "-o", out).startswith(f"{out}: ")


def test_a_run_that_has_not_finished_says_how_to_go_on(refused: Refused, ran: Path) -> None:
    (ran / "front.json").unlink()
    message = "runs/tiny: the run has not finished; explore --resume goes on with it"
    for command in ("plot", "export"):
        assert refused(command, "runs/tiny") == message


BROKEN_STUDIES = {
    "": "the key 'format' is missing",
    "format = 99": "is of format 99, this version reads 1",
    'format = "1"': "format: must be an integer",
    "format = ": "does not parse as TOML",
}


@pytest.mark.parametrize("command", ["plot", "export"])
@pytest.mark.parametrize("text", BROKEN_STUDIES)
def test_a_broken_study_exits_1(refused: Refused, ran: Path, command: str, text: str) -> None:
    (ran / "study.toml").write_text(text)
    message = refused(command, "runs/tiny")
    assert message.startswith(f"runs/tiny/study.toml: {BROKEN_STUDIES[text]}")


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda found: found.pop(key)


BROKEN_FRONTS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no points": lambda found: found["points"].clear(),
    "no row": lambda found: found.update(points=[1]),
    "half a row": lambda found: found["points"][0].pop("fps"),
    "text for a number": lambda found: found["points"][0].update(fps="fast"),
    "id that climbs": lambda found: found["points"][0].update(point="../../p001"),
    "name of nothing": lambda found: found["named"].update(knee="p999"),
    "name that climbs": lambda found: found["named"].update(knee="../../p001"),
    "no knee": lambda found: found["named"].pop("knee"),
    "no objectives": lambda found: found.update(objectives=[]),
    "objectives as numbers": lambda found: found.update(objectives=[3]),
    "network that climbs": lambda found: found.update(network="../../tiny"),
    "target that climbs": lambda found: found.update(target="../../board"),
    "no network": without("network"),
    "no provenance": without("provenance"),
    "no summary": without("summary"),
}


@pytest.mark.parametrize("command", ["plot", "export", "explore --resume --out"])
@pytest.mark.parametrize("what", BROKEN_FRONTS)
def test_a_broken_front_exits_1(refused: Refused, ran: Path, command: str, what: str) -> None:
    found = front(ran)
    BROKEN_FRONTS[what](found)
    (ran / "front.json").write_text(json.dumps(found))
    assert refused(*command.split(), "runs/tiny").startswith("runs/tiny/front.json: ")


@pytest.mark.parametrize("command", ["plot", "export", "explore --resume --out"])
@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_half_a_front_exits_1(refused: Refused, ran: Path, command: str, text: str) -> None:
    (ran / "front.json").write_text(text)
    assert refused(*command.split(), "runs/tiny").startswith("runs/tiny/front.json: ")


@pytest.mark.parametrize("text", [None, "", "{}", '{"point": "p002"}', "[]"])
def test_half_a_point_is_not_exported(refused: Refused, ran: Path, text: str | None) -> None:
    path = ran / "points" / "p001.json"
    path.unlink() if text is None else path.write_text(text)
    assert refused("export", "runs/tiny", "--point", "1").startswith(
        f"runs/tiny/points/{path.name}: "
    )


def test_a_point_of_another_network_is_not_estimated(cli, refused: Refused, ran: Path) -> None:
    path = "runs/tiny/points/p001.json"
    message = refused("estimate", "--network", "cnv", "--target", "pynq-z1", "--scheme", path)
    assert message == f"{path}: is a point of 'tiny', got network 'cnv'"


def test_a_point_on_another_board_takes_that_boards_clock(cli, ran: Path) -> None:
    point = ("--scheme", "runs/tiny/points/p001.json")
    found = cli("estimate", "--network", "./tiny.toml", "--target", "zcu102", *point, "--json")
    assert json.loads(found.out)["clock_mhz"] == 200.0


@pytest.mark.parametrize("command", ["plot runs/tiny", "export runs/tiny -o ."])
def test_a_disk_that_cannot_be_written_exits_1(
    refused: Refused, ran: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def deny(**_: object) -> tuple[int, str]:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(records.tempfile, "mkstemp", deny)
    assert refused(*command.split()).endswith(": cannot be written: Permission denied")


def test_a_copied_run_needs_no_network_file(cli, finished: Path, workplace: Path) -> None:
    shutil.copytree(finished / "runs", workplace / "elsewhere")
    (workplace / "tiny.toml").unlink()
    for command in ("plot", "export"):
        assert cli(command, "elsewhere/tiny").code == 0
