"""`syq-dse compare` and `syq-dse doctor`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from syq_dse.report import comparison

from .workbench import SMALL_SPACE, Run


@pytest.fixture
def two(workplace: Path, cli: Run) -> tuple[str, str]:
    """A run, and one with a worse space."""
    for name, bits in (("one", "2,4,8"), ("two", "2")):
        options = [*SMALL_SPACE, "--bits", bits]
        done = cli(
            "explore", "--network", "tiny.toml", "--target", "bench.toml", *options, "--out", name
        )
        assert done.code == 0, done
    return "one", "two"


def test_a_larger_space_covers_a_smaller_one(two: tuple[str, str], cli: Run) -> None:
    done = cli("compare", *two, "--json")
    assert done.code == 0 and done.err == ""
    found = json.loads(done.out)
    assert found["hypervolume"][0] == pytest.approx(1.0)
    assert 0 < found["hypervolume"][1] < 1
    assert found["covered"][1] == 1.0 and found["covered"][0] < 1
    assert any(line.startswith("space.bits: 2,4,8, not 2") for line in found["settings"])
    text = cli("compare", *two).out
    assert "space.bits: 2,4,8, not 2" in text and "hypervolume %" in text


def test_a_run_covers_itself(two: tuple[str, str], cli: Run) -> None:
    found = comparison.compare(Path("one"), Path("one"))
    assert found.settings == [] and found.hypervolume == (1.0, 1.0) and found.covered == (1.0, 1.0)


def test_what_cannot_be_compared(two: tuple[str, str], cli: Run) -> None:
    done = cli("compare", "one", "nowhere")
    assert done.code == 1 and done.err.count("\n") == 1 and "nowhere" in done.err
    shutil.copytree("two", "other")
    front = json.loads(Path("other/front.json").read_text())
    front["objectives"] = ["lut", "dsp"]
    Path("other/front.json").write_text(json.dumps(front))
    done = cli("compare", "one", "other")
    assert done.code == 1
    assert "one has accuracy, fps; other has lut, dsp" in done.err


def test_the_doctor_says_what_there_is(
    workplace: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(workplace / "cache"))
    rows = {row["what"]: row for row in json.loads(cli("doctor", "--json").out)}
    assert rows["optuna"]["state"] == rows["folder"]["state"] == rows["cache"]["state"] == "ok"
    assert rows["data: imagenet"]["state"] == "missing"
    assert str(workplace) in rows["folder"]["detail"]
    (workplace / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(workplace / "file"))
    done = cli("doctor")
    assert done.code == 1 and done.err == "syq-dse: broken: cache; see the table above\n"
    assert "cannot be written" in done.out


def test_the_doctor_of_a_user_who_cannot_look_everywhere(
    workplace: Path, cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_dir = Path.is_dir

    def closed(path: Path) -> bool:
        if path.name == "mnist":
            raise PermissionError(13, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", closed)
    rows = {row["what"]: row for row in json.loads(cli("doctor", "--json").out)}
    assert rows["data: mnist"]["state"] == "missing"
    assert "fetch" in rows["data: mnist"]["detail"]
    assert "fetch" not in rows["data: imagenet"]["detail"]


def test_coverage_is_that_of_every_pair() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        points, by = (rng.integers(0, 6, (rng.integers(1, 9), 2)).astype(float) for _ in range(2))
        pairs = [(by <= point).all(axis=1).any() for point in points]
        assert comparison._covered(points, by) == float(np.mean(pairs))
