"""The loop: it learns, goes on from any break to the same result, and does what recipes say."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from syq_dse import network, scheme
from syq_dse.errors import InputError
from syq_dse.network import Network
from syq_dse.quant.model import Model
from syq_dse.train import checkpoint, dataset, recipe, start, training
from syq_dse.train.dataset import Dataset
from syq_dse.train.recipe import Recipe
from syq_dse.train.training import DivergenceError, Settings, Training

MODERN = replace(recipe.load("modern"), batch=40, reestimate=80, start="random")
EVERYTHING = replace(
    MODERN,
    ema=0.9,
    damping=1e-3,
    progressive=0.5,
    distillation=0.3,
    formats_from=0.5,
    l2=1e-4,
    decay=1e-2,
    label_smoothing=0.1,
    ranges="learned",
    augmentation="shift",
)


GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))


@pytest.fixture(params=["cpu", GPU])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    with training.processes(request.param):
        yield request.param
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def given(tiny: Path) -> tuple[Network, Dataset]:
    net = network.load(str(tiny))
    return net, dataset.load(net)


def quantised(net: Network, how: Recipe, text: str = "ternary,4,pixel") -> Model:
    torch.manual_seed(0)
    chosen = scheme.parse_uniform(net, text)
    return Model(net, chosen, learned_ranges=how.ranges == "learned")


def begin(
    given: tuple[Network, Dataset],
    how: Recipe,
    epochs: int = 2,
    seed: int = 0,
    text: str = "",
    device: str = "cpu",
    **options: bool,
) -> Training:
    net, data = given
    torch.manual_seed(7)
    teacher = Model(net) if how.distillation else None
    model = quantised(net, how, text or "ternary,4,pixel")
    settings = Settings(epochs=epochs, seed=seed, device=device, **options)
    return Training(model, how, settings, data.train, teacher)


def state(run: Training) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in run.finish().named_state().items()}


@pytest.mark.parametrize("text", ["ternary,4,pixel", "binary,2,row,shift", "int4,3,channel"])
def test_it_learns(given: tuple[Network, Dataset], text: str, device: str) -> None:
    how = replace(MODERN, learning_rate=0.02, scale_rate=0.02)
    run = begin(given, how, epochs=12, text=text, device=device)
    run.train()
    found = training.evaluate(run.finish(), given[1].test)
    assert found.top1 > 0.9 and found.top5 == 1.0 and found.images == 100
    assert [row["epoch"] for row in run.position.history] == list(range(1, 13))


@pytest.mark.parametrize("how", [MODERN, EVERYTHING], ids=["modern", "everything"])
@pytest.mark.parametrize("after", [1, 7, 10, 13])
def test_a_break_changes_nothing(
    given: tuple[Network, Dataset],
    how: Recipe,
    after: int,
    device: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Bit for bit, wherever it breaks: in an epoch, between two, before the first."""
    whole = begin(given, how, device=device)
    whole.train()
    broken = begin(given, how, device=device)
    path = tmp_path / "state.safetensors"
    checkpoint.save(path, broken.state()[0], {"position": broken.state()[1]})

    class Break(Exception):
        pass

    step = broken._step

    def breaking(*batch: Any) -> Any:
        found = step(*batch)
        if broken.position.steps + 1 == after:
            raise Break
        return found

    def keep(run: Training) -> None:
        checkpoint.save(path, run.state()[0], {"position": run.state()[1]})

    original = broken._prepare

    def saving() -> None:
        keep(broken)  # between two steps
        original()

    monkeypatch.setattr(broken, "_step", breaking)
    monkeypatch.setattr(broken, "_prepare", saving)
    with pytest.raises(Break):
        broken.train()
    again = begin(given, how, device=device)
    tensors, document = checkpoint.load(path)
    again.load_state(tensors, document["position"], "state")
    assert again.position.steps == after - 1
    again.train()
    left, right = state(whole), state(again)
    assert all(torch.equal(left[name], right[name]) for name in left)
    losses = [[row["loss"] for row in run.position.history] for run in (whole, again)]
    assert losses[0] == losses[1]


# of the inside of torch.compile
COMPILES = pytest.mark.filterwarnings("ignore")


@COMPILES
@pytest.mark.parametrize("options", [{}, {"mixed": True}, {"compiled": True}], ids=str)
def test_seeds_decide_all(
    given: tuple[Network, Dataset], device: str, options: dict[str, bool]
) -> None:
    found = []
    for seed in (0, 0, 1):
        run = begin(given, MODERN, epochs=1, seed=seed, device=device, **options)
        run.train()
        found.append(state(run)["conv1/weight"])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@COMPILES
@pytest.mark.parametrize(
    ("options", "apart"), [({"mixed": True}, 0.05), ({"compiled": True}, 1e-4)], ids=str
)
@pytest.mark.parametrize("how", [MODERN, EVERYTHING], ids=["modern", "everything"])
def test_mixed_and_compiled_go_the_same_way(
    given: tuple[Network, Dataset],
    how: Recipe,
    device: str,
    options: dict[str, bool],
    apart: float,
) -> None:
    losses = []
    for own in ({}, options):
        run = begin(given, how, epochs=2, device=device, **own)
        run.train()
        losses.append([row["loss"] for row in run.position.history])
    np.testing.assert_allclose(losses[1], losses[0], rtol=apart)


def test_l2_and_damping_are_gradients(given: tuple[Network, Dataset]) -> None:
    how = replace(MODERN, l2=0.25, damping=0.5, l2_on="dense")
    run = begin(given, how)
    for layer in run.model.weighted.values():
        layer.weight.grad = torch.zeros_like(layer.weight)
    run._regularise()
    for name, layer in run.model.weighted.items():
        weight = layer.weight.detach()
        wanted = weight - layer.effective().detach() + 0.25 * weight * (name == "fc")
        assert layer.weight.grad is not None
        torch.testing.assert_close(layer.weight.grad, wanted)


def test_distillation_is_hintons(given: tuple[Network, Dataset]) -> None:
    how = replace(MODERN, distillation=0.4, temperature=3.0)
    run = begin(given, how)
    x = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    logits, plain = torch.randn(5, 4), torch.tensor(1.7)
    assert run.teacher is not None
    soft = F.softmax(run.teacher(x) / 3, 1).detach().numpy()
    own = F.log_softmax(logits / 3, 1).numpy()
    apart = (soft * (np.log(soft) - own)).sum(1).mean()
    assert float(run._distilled(plain, logits, x)) == pytest.approx(
        0.6 * 1.7 + 0.4 * 9 * apart, rel=1e-5
    )


def test_the_average_follows(
    given: tuple[Network, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begin(given, replace(MODERN, ema=0.5, reestimate=0), epochs=1)
    seen = []
    step = run.optimizer.step

    def noted(*args: Any) -> Any:
        found = step(*args)
        seen.append(run.model.weighted["conv1"].weight.detach().clone())
        return found

    first = run.model.weighted["conv1"].weight.detach().clone()
    monkeypatch.setattr(run.optimizer, "step", noted)
    run.train()
    wanted = first
    for number, weight in enumerate(seen, 1):
        keep = min(0.5, (1 + number) / (10 + number))
        wanted = keep * wanted + (1 - keep) * weight
    torch.testing.assert_close(state(run)["conv1/weight"], wanted)


def test_rates_formats_and_bits_go_by_the_share_done(
    given: tuple[Network, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    how = replace(MODERN, schedule="steps", steps=((0.5, 0.1),), warmup=0.0, scale_rate=1.0)
    how = replace(how, formats_from=0.75, progressive=0.5, learning_rate=0.01)
    run = begin(given, how, epochs=4)
    scale = run.model.weighted["conv1"].scale
    assert scale is not None
    started = float(scale.detach().abs().mean())  # rates of scales are in parts of that
    seen: list[tuple[list[float], bool, int]] = []
    original = run._prepare

    def noted() -> None:
        original()
        rates = [group["lr"] for group in run.optimizer.param_groups]
        formats = run.model.weighted["conv2"].formats
        seen.append((rates, formats, run.model.bits["conv1"]))

    monkeypatch.setattr(run, "_prepare", noted)
    run.train()
    assert len(seen) == 40
    assert seen[0][0][0] == 0.01 and seen[-1][0][0] == pytest.approx(0.001)
    assert seen[0][0][1] == started and seen[25][0][1] == pytest.approx(0.1 * started)
    assert not seen[29][1] and seen[30][1]
    assert {bits for _, _, bits in seen} == {4}  # what is added keeps its precision
    assert run.finish().bits == scheme.parse_uniform(given[0], "ternary,4,pixel").bits


def test_batch_norm_is_estimated_anew(given: tuple[Network, Dataset]) -> None:
    net, data = given
    model = Model(net)
    numbers = torch.arange(120)
    training.reestimate(model, data.train, numbers, 40)
    layer = model.weighted["conv1"]
    found = F.conv2d(data.train.batch(numbers, None).float() / 255, layer.weight, padding=1)
    means, variances = [], []
    for part in found.split(40):
        means.append(part.mean((0, 2, 3)))
        variances.append(part.var((0, 2, 3)))
    torch.testing.assert_close(layer.mean, torch.stack(means).mean(0))
    torch.testing.assert_close(layer.variance, torch.stack(variances).mean(0))
    assert layer.momentum == 0.1 and not model.training


def test_metrics_are_those_of_numpy(given: tuple[Network, Dataset]) -> None:
    net, data = given
    torch.manual_seed(3)
    model = Model(net).eval()
    logits = model(data.test.batch(torch.arange(100), None)).detach().double().numpy()
    labels = data.test.labels.numpy()
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = training.evaluate(model, data.test, batch=30)
    assert found.top1 == (logits.argmax(1) == labels).mean()
    assert found.loss == pytest.approx(-np.log(chance[np.arange(100), labels]).mean(), rel=1e-5)


def test_divergence_is_named(given: tuple[Network, Dataset], device: str) -> None:
    run = begin(given, replace(MODERN, warmup=0.0), device=device)
    with torch.no_grad():
        run.model.weighted["conv2"].weight[0, 0, 0, 0] = torch.nan
    with pytest.raises(DivergenceError, match="conv2/weight: must be finite, in epoch 1, step 1"):
        run.train()
    torch.manual_seed(0)
    plain = Training(Model(given[0]), MODERN, Settings(epochs=1, device=device), given[1].train)
    with torch.no_grad():
        plain.model.weighted["fc"].weight.fill_(3e38)
    before = plain.model.weighted["fc"].weight.clone()
    with pytest.raises(DivergenceError, match="fc: what it writes must be finite, in epoch 1"):
        plain.train()
    assert torch.equal(plain.model.weighted["fc"].weight, before)  # the last good state


def test_a_state_of_another_training(given: tuple[Network, Dataset]) -> None:
    run = begin(given, MODERN)
    tensors, position = run.state()
    with pytest.raises(InputError, match="place: unknown tensor 'other/x'"):
        run.load_state({**tensors, "other/x": torch.zeros(1)}, position, "place")
    with pytest.raises(InputError, match="must hold an average exactly where the recipe has 'ema'"):
        begin(given, EVERYTHING).load_state(tensors, position, "place")
    with pytest.raises(InputError, match=r"place: .*unexpected keyword"):
        run.load_state(tensors, {"epok": 1}, "place")
    with pytest.raises(InputError, match="adam/conv1/weight/exp_avg: its shape"):
        bad = {**tensors, "adam/conv1/weight/exp_avg": torch.zeros(2)}
        run.load_state(bad, position, "place")


def test_eight_bits_start_where_float_ends(given: tuple[Network, Dataset]) -> None:
    """Before any step: ranges and scales alone keep the float network's accuracy."""
    net, data = given
    plain = Training(Model(net), MODERN, Settings(epochs=6), data.train)
    plain.train()
    float_model = plain.finish()
    wanted = training.evaluate(float_model, data.test)
    before = copy.deepcopy(float_model.named_state())
    model = Model(net, scheme.parse_uniform(net, "int8,8,layer"))
    images = data.train.batch(torch.arange(200), None)
    start.start_from_float(model, before, images, "calibrated")
    found = training.evaluate(model, data.test)
    assert abs(found.top1 - wanted.top1) <= 0.02 and found.loss < wanted.loss + 0.05
    ratio = float(model.step("conv2") / model.step("conv1"))
    assert math.log2(ratio) == round(math.log2(ratio))
    kept = Model(net, scheme.parse_uniform(net, "int8,8,layer"))
    start.start_from_float(kept, before, images, "unit")
    assert float(kept.ranges["conv1"].detach()) != 1  # what is added is calibrated always


def test_the_best_range_is_the_best() -> None:
    rng = torch.Generator().manual_seed(0)
    for low, high, top in ((0, 3, 3), (0, 255, 255), (-8, 7, 8)):
        values = torch.randn(500, generator=rng).abs() if low == 0 else torch.randn(500)

        def error(
            width: float, low: int = low, high: int = high, top: int = top, v: Any = values
        ) -> float:
            codes = np.clip(np.floor(v.numpy() / (width / top) + 0.5), low, high)
            return float(((codes * width / top - v.numpy()) ** 2).mean())

        found = start.best_range(values, low, high, top)
        most = float(values.abs().max())
        assert error(found) <= min(error(most * part / 40) for part in range(1, 41)) * 1.001


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate = 20.0", "learning_rate must be 1e-12 to 10, got 20"),
        ("learning_rate = 1e-3\nepochs = 0", "epochs must be 1 to"),
        ('learning_rate = 1e-3\nschedule = "steps"', "schedule 'steps' needs steps"),
        ('learning_rate = 1e-3\nschedule = "linear"', "linear"),
        ("learning_rate = nan", "learning_rate: must be a finite number"),
        ("learning_rate = 1e-3\nbatchsize = 3", "unknown key 'batchsize'"),
    ],
)
def test_recipes_that_break_a_rule(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(f'name = "own"\nprovenance = "a test"\n{text}\n')
    with pytest.raises(InputError) as caught:
        recipe.load(str(path))
    assert message in str(caught.value) and str(caught.value).startswith("own.toml")


def test_shipped_recipes() -> None:
    for name in ("paper", "modern", "float"):
        found = recipe.load(name)
        assert found.name == name and found.provenance
    paper = recipe.load("paper")
    assert (paper.epsilon, paper.batch, paper.l2, paper.l2_on) == (1e-5, 32, 5e-6, "dense")
    rates = [1e-4 * recipe.rate_factor(paper, epoch / 100) for epoch in (0, 55, 57, 63, 65, 99)]
    assert rates == pytest.approx([1e-4, 1e-4, 2e-5, 2e-5, 4e-6, 4e-6])


def test_scales_do_not_cross_zero(
    given: tuple[Network, Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batch-norm removes a layer's scale: what drives it is noise, and its sign is the layer's."""
    how = replace(MODERN, scale_rate=0.5, distillation=0.0)
    run = begin(given, how, epochs=4, text="binary,4,layer")
    started = {layer: float(layer.scale.detach().mean()) for layer in run.model.weighted.values()}
    least = dict.fromkeys(started, math.inf)
    step = run._step

    def watched(*batch: Any) -> Any:
        found = step(*batch)
        for layer in started:
            least[layer] = min(least[layer], float(layer.scale.detach().min()) / started[layer])
        return found

    monkeypatch.setattr(run, "_step", watched)
    run.train()
    assert all(value >= training.LEAST_SCALE * 0.999 for value in least.values())
    assert min(least.values()) < 0.5  # they move
