"""What only a process of its own shows: streams, exit codes, signals, what is loaded."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from syq_dse import __version__

from .workbench import REPOSITORY, SMALL_SPACE, Done, Run, process

HEAVY = ("scipy", "pandas", "optuna", "torch", "matplotlib", "rich", "sqlalchemy", "moocore")


def test_the_module_is_the_command(tmp_path: Path) -> None:
    child = process("--version", cwd=tmp_path)
    assert child.communicate() == (f"syq-dse, version {__version__}\n", "")
    assert child.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("targets", "--json"), 0),
        (("estimate", "--network", "cnv", "--target", "nowhere", "--uniform", "int8,8,row"), 1),
        (("estimate", "--network", "cnv"), 2),
        (("explore", "--network", "lenet5", "--target", "pynq-z1", "--fps", "1e9"), 3),
    ],
)
def test_exit_codes_and_streams(tmp_path: Path, arguments: tuple[str, ...], code: int) -> None:
    child = process(*arguments, cwd=tmp_path)
    out, err = child.communicate()
    assert child.returncode == code
    if code:
        assert out == ""
        assert err.startswith("syq-dse: ")
        assert err.count("\n") == 1
    else:
        assert err == ""
        json.loads(out)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        "--help",
        "networks",
        "targets",
        "explore --help",
        "estimate --network lenet5 --target zcu102 --uniform binary,2,layer --fps 1000",
    ],
)
def test_quick_commands_load_nothing_heavy(arguments: str) -> None:
    script = (
        "import sys; from syq_dse.cli import cli; "
        f"cli.main({arguments.split()!r}, standalone_mode=False); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_reader_who_leaves_sees_no_traceback(tmp_path: Path) -> None:
    child = process("networks", cwd=tmp_path)
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    assert child.stderr.read() == ""
    child.stderr.close()
    assert child.wait() == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
@pytest.mark.parametrize("arguments", [("networks",), ("targets", "--json"), ("--help",)])
def test_a_full_disk_behind_standard_output_is_one_line(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "syq_dse", *arguments],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
    assert done.returncode == 1
    assert done.stderr == "syq-dse: output: No space left on device\n"


def wait_for(path: Path, least: int, child: subprocess.Popen[str]) -> None:
    """Until a file has some bytes, or a minute has passed."""
    end = time.monotonic() + 60
    while not (path.is_file() and path.stat().st_size >= least):
        assert child.poll() is None, "ended before it could be interrupted"
        assert time.monotonic() < end
        time.sleep(0.005)


def test_ctrl_c_keeps_what_was_found_and_the_run_goes_on(cli, workplace: Path) -> None:
    arguments = ("explore", "--network", "./tiny.toml", "--target", "pynq-z1", *SMALL_SPACE)
    arguments += ("--sampler", "random", "--trials", "250")
    child = process(*arguments, "--out", "my run", cwd=workplace)
    journal = workplace / "my run" / "optuna.journal"
    wait_for(journal, 200_000, child)  # of about 1,200,000
    child.send_signal(signal.SIGINT)
    out, err = child.communicate()
    assert (child.returncode, out) == (130, "")
    assert err == "syq-dse: interrupted; `syq-dse explore --resume --out 'my run'` goes on\n"
    assert not (workplace / "my run" / "front.json").exists()
    kept = journal.read_bytes()

    assert "explore --resume goes on with it" in cli("plot", "my run").err
    resumed = cli("explore", "--resume", "--out", "my run")
    assert (resumed.code, resumed.err) == (0, "")
    assert journal.read_bytes().startswith(kept)

    assert cli(*arguments, "--out", "whole").code == 0
    runs = [workplace / name for name in ("my run", "whole")]
    for name in ("front.json", "front.csv"):
        assert (runs[0] / name).read_bytes() == (runs[1] / name).read_bytes()
    trials = [(run / "optuna.journal").read_text().count('"op_code":4,') for run in runs]
    assert trials[0] == trials[1] > 250


def test_ctrl_c_before_anything_was_written_offers_no_resuming(tmp_path: Path) -> None:
    script = (
        "import sys; from syq_dse import cli, network\n"
        "def stop(name): raise KeyboardInterrupt\n"
        "network.load = stop\n"
        "sys.argv = ['syq-dse', 'explore', '--target', 'zcu102']\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "syq-dse: interrupted\n")


def test_ctrl_c_that_falls_into_a_lock_is_one_line(
    cli: Run, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")  # as threading does then

    monkeypatch.setattr("syq_dse.network.load", load)
    assert cli("networks") == Done(130, "", "syq-dse: interrupted\n")


def test_ctrl_c_while_hardware_is_described_is_one_line(workplace: Path) -> None:
    script = (
        "import sys; from syq_dse import cli\n"
        "from amaranth.back import rtlil\n"
        "def stop(*_, **__): raise KeyboardInterrupt\n"
        "rtlil.convert = stop\n"
        "sys.argv = 'syq-dse rtl --network tiny.toml --target bench.toml "
        "--uniform binary,2,layer -o out'.split()\n"
        "cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "syq-dse: interrupted\n")


def test_two_at_one_run_and_one_that_is_killed(cli, workplace: Path) -> None:
    arguments = ("explore", "--network", "./tiny.toml", "--target", "pynq-z1", *SMALL_SPACE)
    arguments += ("--sampler", "random", "--trials", "250", "--out", "run")
    child = process(*arguments, cwd=workplace)
    wait_for(workplace / "run" / "optuna.journal", 200_000, child)
    child.send_signal(signal.SIGSTOP)  # at work still, however slow the rest is
    busy = "syq-dse: run: another explore or validate is at work in this folder; "
    again = cli("explore", "--resume", "--out", "run")
    assert again.code == 1 and again.err == f"{busy}wait for it or stop it\n"
    for command in (("plot", "run"), ("report", "run"), ("export", "run"), ("validate", "run")):
        early = cli(*command)
        message = "syq-dse: run: the run has not finished; explore --resume goes on with it\n"
        assert (early.code, early.err) == (1, message)
    child.kill()
    child.communicate()
    kept = (workplace / "run" / "optuna.journal").read_bytes().rpartition(b"\n")[0]
    assert cli("explore", "--resume", "--out", "run").code == 0
    assert (workplace / "run" / "optuna.journal").read_bytes().startswith(kept)
    for command in (("plot", "run"), ("report", "run"), ("compare", "run", "run")):
        assert cli(*command).code == 0
