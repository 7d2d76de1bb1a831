"""`verify`: what was estimated beside what synthesis and simulation find."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .workbench import Run


def test_a_point_is_synthesised_and_simulated(
    cli: Run, ran: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = cli("verify", str(ran), "--point", "smallest", "--images", "2", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    names = [layer["layer"] for layer in found["layers"]]
    assert names == ["conv1", "conv2", "conv3", "dense"]
    for layer in [*found["layers"], found["total"]]:
        estimate, made = layer["estimate"], layer["synthesis"]
        assert estimate["lut"] == pytest.approx(made["lut"], rel=0.15, abs=8)
        for exact in ("dsp", "bram18", "uram", "lutram"):
            assert estimate[exact] == made[exact], (layer["layer"], exact)
        assert estimate["ff"] == pytest.approx(made["ff"], rel=0.08, abs=4)
    for name, total in found["total"]["synthesis"].items():
        assert total == sum(layer["synthesis"][name] for layer in found["layers"])
    assert found["simulated"]["images"] == 2
    assert found["simulated"]["interval_cycles"] > 0

    again = cli("verify", str(ran), "--point", "smallest", "--images", "1")  # out of the cache
    assert again.code == 0
    table, _, remarks = again.out.partition("First the estimate")
    assert [line.split()[0] for line in table.splitlines()[-5:]] == [*names, "total"]
    total = found["total"]
    assert f"{total['estimate']['lut']} {total['synthesis']['lut']}" in table
    assert "results equal to the integer model" in remarks


def test_a_time_limit_is_named(
    cli: Run, ran: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    done = cli("verify", str(ran), "--timeout", "0.1")
    assert (done.code, done.out) == (1, "")
    assert "exceeded its time limit of 0.1 s; raise --timeout, or fold the unit more" in done.err
    assert not list(tmp_path.rglob("*.json.tmp"))


def test_a_run_that_is_none_is_named(cli: Run, workplace: Path) -> None:
    done = cli("verify", "nowhere")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("syq-dse: nowhere")
    assert done.err.count("\n") == 1
