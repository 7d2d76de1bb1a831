"""`explore` end to end: the run folder, what is printed, resuming, and storage."""

from __future__ import annotations

import csv
import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import tomli_w

from syq_dse import catalogue, records
from syq_dse.search import run

from .workbench import SMALL_SPACE, contents, process

Refused = Callable[..., str]

EXPLORE = ("explore", "--network", "./tiny.toml", "--target", "bench.toml", *SMALL_SPACE)


def recorded(storage: str, name: str) -> int:
    """Trials in a relational storage."""
    return len(optuna.load_study(study_name=name, storage=storage).trials)


def test_a_run_folder_holds_what_the_screen_says(cli, workplace: Path) -> None:
    done = cli(*EXPLORE, "--sampler", "random", "--trials", "60", "--out", "my runs/größe")
    assert (done.code, done.err) == (0, "")
    folder = workplace / "my runs" / "größe"
    names = {"study.toml", "optuna.journal", "front.csv", "front.json", "front.png", "front.svg"}
    names |= {"report.html"}
    assert {p.name for p in folder.iterdir()} - {".lock"} == {*names, "points"}

    found = json.loads((folder / "front.json").read_text())
    with (folder / "front.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    assert [row["point"] for row in table] == [row["point"] for row in found["points"]]
    assert {f"{row['point']}.json" for row in table} == {
        path.name for path in (folder / "points").iterdir()
    }

    lines = done.out.splitlines()
    assert lines[0].split()[:3] == ["point", "accuracy", "fps"]
    rows = {row["point"]: row for row in found["points"]}
    shown = [line.split() for line in lines if line.split()[0] in rows]
    assert len(shown) == len(rows)
    for cells in shown:
        row = rows[cells[0]]
        assert cells[1] == f"{row['accuracy']:.4f}"
        assert cells[-1] == f"{100 * row['utilization']:.1f}"
    assert lines[-1] == "run: my runs/größe"
    assert "random: its 60 designs reach " in done.out
    assert max(map(len, lines)) <= 100


def test_json_is_one_document_with_the_run(cli, workplace: Path) -> None:
    done = cli(*EXPLORE, "--json")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found.pop("run") == "runs/tiny-bench"
    assert found == run.read_front(workplace / "runs" / "tiny-bench")


def test_a_second_run_takes_the_next_free_folder(cli, workplace: Path) -> None:
    folders = [json.loads(cli(*EXPLORE, "--json").out)["run"] for _ in range(2)]
    assert folders == ["runs/tiny-bench", "runs/tiny-bench-2"]


def test_further_objectives_are_columns(cli, workplace: Path) -> None:
    objectives = [o for n in ("accuracy", "energy", "ff", "uram") for o in ("--objective", n)]
    done = cli(*EXPLORE, *objectives)
    assert (done.code, done.err) == (0, "")
    header = done.out.splitlines()[0]
    assert "  energy uJ  " in header
    assert {"ff", "uram"} <= set(header.split())


def test_a_long_front_is_cut_but_never_loses_a_named_point(cli, ran: Path) -> None:
    found = json.loads((ran / "front.json").read_text())
    row = found["points"][0]
    found["points"] = [{**row, "point": f"p{i:03d}"} for i in range(1, 200)]
    found["named"] = dict.fromkeys(found["named"], "p198")
    (ran / "front.json").write_text(json.dumps(found))
    lines = cli("explore", "--resume", "--out", "runs/tiny").out.splitlines()
    shown = [line for line in lines if line.startswith(("p0", "p1"))]
    assert len(shown) <= 21
    assert any(line.startswith("p198 ") for line in shown)
    assert f"{len(shown)} of 199 points; all are in front.csv" in lines


def test_resuming_a_finished_run_draws_it_again_and_changes_nothing_else(cli, ran: Path) -> None:
    first = contents(ran)
    done = cli("explore", "--resume", "--out", "runs/tiny", "--seed", "0")
    assert (done.code, done.err) == (0, "")
    assert "run: runs/tiny" in done.out.splitlines()
    last = contents(ran)
    assert last.keys() == first.keys()
    changed = {name for name in last if last[name] != first[name]}
    assert changed <= {"front.png", "front.svg", "report.html"}


def test_resuming_a_run_without_a_front_makes_the_same_front(cli, ran: Path) -> None:
    first = contents(ran)
    for name in ("front.json", "front.csv", "points/p001.json"):
        (ran / name).unlink()
    assert cli("explore", "--resume", "--out", "runs/tiny").code == 0
    last = contents(ran)
    for name in ("front.json", "front.csv", "points/p001.json", "study.toml"):
        assert last[name] == first[name]


def test_a_run_that_died_before_its_first_file_starts_anew(cli, workplace: Path) -> None:
    (workplace / "died" / "points").mkdir(parents=True)
    (workplace / "died" / ".lock").touch()
    assert cli(*EXPLORE, "--out", "died").code == 0


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        (("--seed", "3"), "seed: 0, not 3"),
        (("--target", "zcu102"), "target: pynq-z1, not zcu102"),
        (("--limit", "0.5"), "limit: 0.8, not 0.5"),
        (("--bits", "2,3"), "space.bits: 2,4, not 2,3"),
    ],
)
def test_resuming_with_other_settings_names_them(
    refused: Refused, ran: Path, options: tuple[str, ...], difference: str
) -> None:
    message = refused("explore", "--resume", "--out", "runs/tiny", *options)
    assert message == f"runs/tiny: holds another study: {difference}"


def test_a_run_is_not_written_over(refused: Refused, ran: Path) -> None:
    message = refused(*EXPLORE, "--out", "runs/tiny")
    assert message == "runs/tiny: is not empty; --resume goes on with a run, --out starts one"


def test_two_processes_do_not_write_one_run(refused: Refused, ran: Path) -> None:
    (ran / "front.json").unlink()
    handle = os.open(ran / ".lock", os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        message = refused("explore", "--resume", "--out", "runs/tiny")
    finally:
        os.close(handle)
    assert message == (
        "runs/tiny: another explore or validate is at work in this folder; wait for it or stop it"
    )


def test_a_disk_that_cannot_be_written_exits_1(
    refused: Refused, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", deny)
    message = refused(*EXPLORE, "--out", "runs/mine")
    assert message == "runs/mine: cannot be written: Read-only file system"


def test_a_study_file_is_a_run_with_options_over_it(cli, workplace: Path) -> None:
    study: dict[str, Any] = {
        "target": "./bench.toml",
        "network": "./tiny.toml",
        "seed": 5,
        "space": {"bits": [2], "weights": ["binary", "int4"], "intervals": 3},
    }
    (workplace / "my study.toml").write_text(tomli_w.dumps(study))
    options = ("--bits", "2,4", "--limit", "0.7", "--out", "mine", "--json")
    done = cli("explore", "--study", "my study.toml", *options)
    assert (done.code, done.err) == (0, "")
    held = records.plain(run.read_record(workplace / "mine").study)
    assert (held["seed"], held["limit"], held["target"]) == (
        *(5, 0.7),
        str(workplace / "bench.toml"),
    )
    assert (held["space"]["bits"], held["space"]["intervals"]) == ([2, 4], 3)
    assert held["space"]["weights"] == ["binary", "int4"]


@pytest.mark.parametrize("name", catalogue.names("studies"))
def test_a_shipped_study_is_named(cli, workplace: Path, name: str) -> None:
    quick = ("--network", "lenet5", "--bits", "2", "--weights", "binary", "--intervals", "2")
    assert cli("explore", "--study", name, *quick, "--out", "mine").code == 0
    shipped = records.read(catalogue.find("study", name, "studies"))
    held = records.plain(run.read_record(workplace / "mine").study)
    assert (held["target"], held["seed"]) == (shipped["target"], shipped.get("seed", 0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("space = 3\n", "study.toml: space: must be a table, got 3"),
        ("space = {bits = 2}\n", "study.toml: space.bits: must be a list, got 2"),
        ("speed = 3\n", "study.toml: unknown key 'speed'; known: target, network, "),
        ("target = 3\n", "study.toml: target: must be a string, got 3"),
    ],
)
def test_a_broken_study_file_exits_1(
    refused: Refused, workplace: Path, text: str, message: str
) -> None:
    (workplace / "study.toml").write_text(text)
    target = () if "target" in text else ("--target", "zcu102")
    options = () if "bits" in text else ("--bits", "2,4")
    assert refused("explore", "--study", "study.toml", *target, *options).startswith(message)


def test_a_database_keeps_runs_apart(cli, refused: Refused, workplace: Path) -> None:
    storage = ("--storage", "sqlite:///trials.db")
    assert cli(*EXPLORE, *storage, "--out", "one/run").code == 0
    trials = recorded("sqlite:///trials.db", "run")
    other = (*EXPLORE, *storage, "--limit", "0.5")
    message = refused(*other, "--out", "two/run")
    assert message == (
        "storage 'sqlite:///trials.db': holds a study 'run' already; "
        "name the run folder otherwise with --out"
    )
    assert cli(*other, "--out", "two/other").code == 0
    assert recorded("sqlite:///trials.db", "run") == trials


def test_a_storage_that_fails_does_so_before_the_search(
    refused: Refused, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(*_: object) -> None:
        raise AssertionError("searched")

    monkeypatch.setattr(run, "exact_front", unwanted)
    refused(*EXPLORE, "--storage", "nosuch://host/base")


def test_a_killed_process_leaves_nothing_that_stops_the_next(ran: Path) -> None:
    journal = ran / "optuna.journal"
    whole = journal.read_bytes()
    # Killed while it wrote: optuna's own lock would be a link, and the last line is not whole.
    (ran / "optuna.journal.lock").symlink_to("runs/tiny/optuna.journal")
    journal.write_bytes(whole[:-20])
    (ran / "front.json").unlink()
    child = process("explore", "--resume", "--out", "runs/tiny", cwd=ran.parent.parent)
    try:
        out, err = child.communicate(timeout=30)
    finally:
        child.kill()
    assert (child.returncode, err) == (0, "")
    assert "run: runs/tiny" in out.splitlines()
    trial = b'"op_code":4,'
    assert journal.read_bytes().count(trial) == whole.count(trial)


def test_ctrl_c_is_told_also_where_a_storage_turns_it_into_its_own_error(
    cli, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(*_: object) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("Error: did not possess lock")  # as optuna's lock does

    monkeypatch.setattr(run.storages, "write_trials", write)
    done = cli(*EXPLORE, "--out", "mine")
    assert (done.code, done.out) == (130, "")
    message = "syq-dse: interrupted; `syq-dse explore --resume --out mine` goes on\n"
    assert done.err == message


def test_a_network_that_changed_under_a_run_is_noticed(
    cli, refused: Refused, workplace: Path
) -> None:
    assert cli(*EXPLORE, "--out", "mine").code == 0
    path = workplace / "tiny.toml"
    path.write_text(path.read_text().replace("c_out = 8", "c_out = 16"))
    message = refused("explore", "--resume", "--out", "mine")
    files = f"'{path}', '{workplace / 'bench.toml'}' or the profile"
    assert message == f"mine: {files} has changed since; --out starts a new run"


def test_all_samplers_are_compared(cli, workplace: Path) -> None:
    asked = (*EXPLORE, "--sampler", "all", "--unseeded", "--trials", "20", "--repeats", "2")
    done = cli(*asked, "--out", "run")
    assert done.code == 0, done
    for name in ("nsga2", "nsga3", "tpe", "gp", "random"):
        assert f"\n{name} " in done.out
    assert "median, least and most of 2 seeds, from nothing" in " ".join(done.out.split())
    names = {path.name for path in Path("run").iterdir()}
    assert {"samplers.csv", "samplers.png", "samplers.svg"} <= names
    again = cli("explore", "--resume", "--out", "run", "--json")
    found = json.loads(again.out)["summary"]["samplers"]
    assert [row["designs"] for row in found] == [20] * 5
