"""A training's folder when things go wrong half-way."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from syq_dse import network, scheme
from syq_dse.errors import InputError
from syq_dse.train import checkpoint, dataset, recipe, run
from syq_dse.train.dataset import Dataset
from syq_dse.train.run import Job
from syq_dse.train.training import DivergenceError, Training


def job_of(tiny: Path, **changes: Any) -> tuple[Job, Dataset]:
    net = network.load(str(tiny))
    chosen = scheme.parse_uniform(net, "ternary,4,pixel")
    how = recipe.Recipe(
        name="own", provenance="a test", start="random", learning_rate=0.01, batch=40
    )
    values: dict[str, Any] = {"scheme": chosen, "recipe": how, "epochs": 4, **changes}
    return Job(network=net, dataset=net.file.recipe.dataset, **values), dataset.load(net)


def poisoned(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """From a step on, a weight is no number."""
    step = Training._step

    def poison(self: Training, *batch: Any) -> Any:
        if self.position.steps == after:
            with torch.no_grad():
                self.model.weighted["conv2"].weight[0, 0, 0, 0] = torch.nan
        return step(self, *batch)

    monkeypatch.setattr(Training, "_step", poison)


def test_divergence_keeps_the_last_good_state(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, data = job_of(tiny)
    whole = run.train(job, data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        poisoned(patch, 25)
        with pytest.raises(DivergenceError, match="conv2/weight: must be finite, in epoch 3"):
            run.train(job, data, tmp_path / "out")
    tensors, document = checkpoint.load(tmp_path / "out" / run.CHECKPOINT)
    assert document["position"]["epoch"] == 2
    assert all(bool(torch.isfinite(value).all()) for value in tensors.values())
    assert not (tmp_path / "out" / run.RESULT).exists()
    again = run.train(job, data, tmp_path / "out")
    assert again["top1"] == whole["top1"] and again["loss"] == whole["loss"]


def test_a_full_disk_is_named_and_leaves_the_state_before(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, data = job_of(tiny)
    written = 0

    def full(handle: int) -> None:
        nonlocal written
        written += 1
        if written > 3:  # checkpoint and metrics of the first epoch, the second's checkpoint
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match=r"metrics\.csv: cannot be written: No space left"):
            run.train(job, data, tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [run.CHECKPOINT, run.METRICS]
    assert checkpoint.load(tmp_path / "out" / run.CHECKPOINT)[1]["position"]["epoch"] == 2
    assert run.train(job, data, tmp_path / "out")["epochs"] == 4


def pixels(images: Any) -> set[bytes]:
    return {image.tobytes() for image in images.batch(torch.arange(len(images)), None).numpy()}


def test_no_training_sees_the_validation_part(tiny: Path) -> None:
    """Whatever the seed, and whatever it is measured on: pupils of a network are chosen by it."""
    found = []
    for changes in ({"seed": 0}, {"seed": 1}, {"part": "test"}, {"scheme": None, "part": "test"}):
        job, data = job_of(tiny, **{"part": "validation", **changes})
        train, measured = run.parts(job, data)
        assert len(train) == 360
        found.append((pixels(train), pixels(measured), job.part))
    held = found[0][1]
    assert len(held) == 40
    for train, measured, part in found:
        assert not train & held and not train & measured
        assert measured == (held if part == "validation" else pixels(data.test))


def test_names_tell_trainings_apart(tiny: Path) -> None:
    names = {
        run.name_of(job_of(tiny, **changes)[0])
        for changes in (
            {},
            {"seed": 1},
            {"epochs": 5},
            {"part": "validation"},
            {"scheme": None},
            {"methods": {"conv1": "multiply"}},
        )
    }
    assert len(names) == 6 and all(name.startswith("tiny-") for name in names)


def test_a_checkpoint_without_our_header(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "foreign.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="is no checkpoint of syq-dse; its header has no"):
        checkpoint.load(path)
    for header, message in (("{", "header: is broken JSON"), ("[]", "header: must be a table")):
        save_file({"x": torch.zeros(1)}, path, {checkpoint.DOCUMENT: header})
        with pytest.raises(InputError, match=message):
            checkpoint.load(path)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(tmp_path / "evil"),))

    for content in ({"weight": Evil()}, {"weight": [1, 2]}, [torch.zeros(1)]):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(InputError, match=r"cannot be read as weights|must hold a state_dict"):
            checkpoint.load_foreign(tmp_path / "x.pt")
    assert not (tmp_path / "evil").exists()
    torch.save({"state_dict": {"w": torch.ones(2)}}, tmp_path / "x.pt")
    assert checkpoint.load_foreign(tmp_path / "x.pt")["w"].tolist() == [1, 1]
