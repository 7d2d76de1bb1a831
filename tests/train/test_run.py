"""A training's folder when things go wrong half-way."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from syq_dse import network, scheme
from syq_dse.errors import InputError
from syq_dse.search import process
from syq_dse.train import checkpoint, dataset, recipe, run, training
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
    assert not (tmp_path / "out" / "result.json").exists()
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
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        ".lock",
        run.CHECKPOINT,
        run.METRICS,
    ]
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
        run.name_of(*job_of(tiny, **changes))
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
    job, data = job_of(tiny)
    assert run.name_of(job, data, mixed=True) not in names
    other = replace(data.train, images=data.train.images.flip(0))
    assert run.name_of(job, replace(data, train=other)) not in names
    teacher = replace(job.recipe, start="random", distillation=0.5)
    taught = replace(job, recipe=teacher, start=tiny.parent / "none")
    with pytest.raises(InputError, match="none: cannot be read"):
        run.name_of(taught, data)


def test_one_training_at_a_time_in_a_folder(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, data = job_of(tiny)
    step = Training._step
    tried = []

    def another(self: Training, *of: Any) -> Any:
        if not tried:
            tried.append(1)
            with pytest.raises(InputError, match="another training is at work in this folder"):
                run.train(replace(job, seed=1), data, tmp_path / "out")
        return step(self, *of)

    monkeypatch.setattr(Training, "_step", another)
    run.train(job, data, tmp_path / "out")
    assert tried
    run.train(job, data, tmp_path / "out")
    (tmp_path / "out" / run.MODEL).unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: is missing; remove"):
        run.train(job, data, tmp_path / "out")


def test_a_second_ctrl_c_keeps_the_state_before(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, data = job_of(tiny)
    whole = run.train(job, data, tmp_path / "whole")
    step, steps = Training._step, 0

    def torn(self: Training, *of: Any) -> Any:
        nonlocal steps
        steps += 1
        found = step(self, *of)
        if steps == 5:
            raise training.Abandoned
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Training, "_step", torn)
        with pytest.raises(KeyboardInterrupt, match="within a step"):
            run.train(job, data, tmp_path / "out")
    again = run.train(job, data, tmp_path / "out")
    assert again["loss"] == whole["loss"]


def test_a_training_ends_with_the_process_it_belongs_to(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, data = job_of(tiny)
    monkeypatch.setenv(training.PARENT, str(os.getppid() + 1))
    with pytest.raises(KeyboardInterrupt, match="the state is saved"):
        run.train(job, data, tmp_path / "out")
    monkeypatch.setenv(training.PARENT, str(os.getppid()))
    assert run.train(job, data, tmp_path / "out")["epochs"] == job.epochs
    assert process.PARENT == training.PARENT


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("epoch", "x", "epoch must be a number"),
        ("epoch", 1.5, "epoch must be a number"),
        ("epoch", 1000000, "are no place in 4 epochs"),
        ("step", -1, "step must not be negative"),
        ("seconds", None, "seconds must be a number"),
        ("history", [{"a": 1}], "history must have a row"),
        ("history", None, "history must have a row"),
        ("extra", 1, "unexpected keyword argument"),
    ],
)
def test_a_position_that_cannot_be(
    tiny: Path, tmp_path: Path, key: str, value: Any, message: str
) -> None:
    job, data = job_of(tiny)
    state = begun(job, data, tmp_path)
    tensors, document = checkpoint.load(state)
    document["position"][key] = value
    checkpoint.save(state, tensors, document)
    with pytest.raises(InputError, match=message):
        run.train(job, data, state.parent)


def begun(job: Job, data: Any, tmp_path: Path) -> Path:
    """The checkpoint of a training that was stopped after an epoch."""

    step = Training._step

    def stop(self: Training, *of: Any) -> Any:
        if self.position.epoch:
            raise KeyboardInterrupt
        return step(self, *of)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Training, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            run.train(job, data, tmp_path / "out")
    return tmp_path / "out" / run.CHECKPOINT


def test_moments_that_cannot_be(tiny: Path, tmp_path: Path) -> None:
    job, data = job_of(tiny)
    state = begun(job, data, tmp_path)
    tensors, document = checkpoint.load(state)
    name = next(key for key in tensors if key.startswith("adam/") and key.endswith("exp_avg"))
    moments = [key for key in tensors if key.startswith("adam/")]
    changes = [
        ({name: None}, "must hold all of step, exp_avg, exp_avg_sq"),
        ({name: torch.zeros(3, 3)}, "its shape is not that of"),
        ({name: torch.full_like(tensors[name], torch.nan)}, f"{name}: must be finite"),
        (dict.fromkeys(moments), "must hold Adam's moments of all that is trained"),
    ]
    for change, message in changes:
        own = {k: v for k, v in (tensors | change).items() if v is not None}
        checkpoint.save(state, own, document)
        with pytest.raises(InputError, match=message):
            run.train(job, data, state.parent)


def test_few_images(tiny: Path, tmp_path: Path) -> None:
    """Batch-norm of a last batch of one, and a validation part of none."""
    job, data = job_of(tiny)
    few = replace(job, recipe=replace(job.recipe, batch=40, reestimate=41))
    assert run.train(few, data, tmp_path / "few")["epochs"] == job.epochs
    none = replace(data, train=data.train.part(torch.arange(4)))
    with pytest.raises(InputError, match="leave none for the validation part"):
        run.train(replace(job, part="validation"), none, tmp_path / "none")


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
