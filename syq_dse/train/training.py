"""The training loop: steps, epochs, state that goes on after any break as if there had been none.

Everything random is drawn from (seed, epoch, step), so that a state needs no generators: the
order of an epoch, and the augmentation of a step.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn import functional as F

from syq_dse.errors import InputError
from syq_dse.quant.model import Model
from syq_dse.train.images import Images, TensorImages
from syq_dse.train.recipe import Recipe, rate_factor

EVALUATION_BATCH = 500

LEAST_SCALE = 1 / 16
"""Scales stay above this part of where their layer's start, in the mean. Batch-norm removes a
layer's scale, whose gradient is then next to none, which Adam makes steps of all the same: it
drifts, and on crossing zero would turn the layer's sign over at once."""

PARENT = "SYQ_DSE_PARENT"
"""Environment: the process that a training ends with, however that one ends."""


class DivergenceError(InputError):
    """A loss, weight or activation that is no finite number any more."""


class Abandoned(KeyboardInterrupt):
    """A second Ctrl-C, within a step: the state is not one to go on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is decided beside the recipe."""

    epochs: int
    seed: int = 0
    device: str = "cpu"
    mixed: bool = False  # bfloat16 where it is safe
    compiled: bool = False  # torch.compile


@dataclass(slots=True, kw_only=True)
class Position:
    """Where a training stands, and the sums of the epoch so far."""

    epoch: int = 0
    step: int = 0  # in the epoch
    steps: int = 0  # in all
    loss: float = 0.0
    correct: float = 0.0
    seen: int = 0  # images of the epoch
    images: int = 0  # in all
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)  # one row an epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Of an evaluation: shares 0 to 1, and the mean cross entropy."""

    top1: float
    top5: float
    loss: float
    images: int


Report = Callable[["Training", float], None]
"""Called a few times a second with the images a second of late."""


class Training:
    """A model on its way.

    Args:
        teacher: the float network, where the recipe distils.
        images: to train with.
    """

    def __init__(
        self,
        model: Model,
        recipe: Recipe,
        settings: Settings,
        images: Images,
        teacher: Model | None = None,
    ) -> None:
        self.recipe, self.settings = recipe, settings
        self.device = torch.device(settings.device)
        self.images = images.on(self.device) if isinstance(images, TensorImages) else images
        self.model = settled(model, self.device)
        self.teacher: Model | None = None
        if teacher is not None and recipe.distillation:
            self.teacher = settled(teacher, self.device).eval()
        self.position = Position()
        self.rank, self.world = _place()
        if recipe.batch % self.world:
            raise InputError(f"batch must be a multiple of {self.world} processes, {recipe.batch}")
        self.steps_an_epoch = max(1, len(images) // recipe.batch)
        _check_counts(self.model, recipe, len(images), self.world)
        self.average: dict[str, Tensor] = {}
        if recipe.ema:
            self.average = {n: v.detach().clone() for n, v in model.named_state().items()}
        self.bits = dict(model.bits)
        self.optimizer = _optimizer(self.model, recipe)
        self.floors = {
            layer.scale: LEAST_SCALE * float(layer.scale.detach().mean())
            for layer in self.model.weighted.values()
            if layer.scale is not None
        }
        if self.world > 1:
            for value in self.model.named_state().values():
                dist.broadcast(value.detach(), 0)
        self.run: nn.Module = self.model
        if settings.compiled:
            self.run = torch.compile(self.run)  # type: ignore[assignment]  # still a module

    # The loop

    @property
    def total_steps(self) -> int:
        return self.steps_an_epoch * self.settings.epochs

    @property
    def done(self) -> bool:
        return self.position.epoch >= self.settings.epochs

    def train(
        self,
        report: Report = lambda training, rate: None,
        after_epoch: Callable[[Training], None] = lambda training: None,
    ) -> None:
        """Train to the end.

        Args:
            after_epoch: called between epochs.

        Raises:
            DivergenceError: numbers that are not finite, named by layer.
            KeyboardInterrupt: Ctrl-C, between two steps: the state is one to go on from.
            Abandoned: a second one, within a step.
        """
        with _interruptible() as interrupted:
            while not self.done:
                self._epoch(report, interrupted)
                after_epoch(self)
            if interrupted():
                raise KeyboardInterrupt

    def _epoch(self, report: Report, interrupted: Callable[[], bool]) -> None:
        at = self.position
        self.model.train()
        order = torch.randperm(len(self.images), generator=self._rng("order", at.epoch))
        started = last = time.monotonic()
        before, seen = at.seconds, 0
        steps = range(at.step, self.steps_an_epoch)
        for _, (pixels, labels) in zip(steps, self._batches(order, at.step), strict=True):
            self._prepare()
            loss, correct, stop = self._step(pixels, labels, interrupted())
            at.loss += loss * len(labels)
            at.correct += correct
            at.seen += len(labels)
            at.images += len(labels) * self.world
            at.step, at.steps = at.step + 1, at.steps + 1
            seen += len(labels) * self.world
            now = time.monotonic()
            at.seconds = before + now - started
            if now - last > 0.2:
                report(self, seen / (now - started))
                last = now
            if stop:
                raise KeyboardInterrupt
        check_finite(self.model, self._where())
        at.history.append(
            {
                "epoch": at.epoch + 1,
                "rate": self.recipe.learning_rate * self._factor(),
                "loss": at.loss / at.seen,
                "top1": at.correct / at.seen,
                "images_per_second": seen / max(time.monotonic() - started, 1e-9),
                "seconds": at.seconds,
            }
        )
        at.epoch, at.step, at.loss, at.correct, at.seen = at.epoch + 1, 0, 0.0, 0.0, 0

    def _batches(self, order: Tensor, first: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches of an epoch from a step on; those of files are decoded one ahead."""
        size, epoch = self.recipe.batch, self.position.epoch
        own = size // self.world

        def batch(step: int) -> tuple[Tensor, Tensor]:
            start = step * size + self.rank * own
            numbers = order[start : start + own]
            if len(numbers) < own:  # fewer images than a batch
                numbers = order[: len(order) // self.world * self.world][self.rank :: self.world]
            rng = self._rng("augment", epoch, step, self.rank)
            return self.images.batch(numbers, rng), self.images.labels[numbers]

        steps = range(first, self.steps_an_epoch)
        if isinstance(self.images, TensorImages):
            yield from map(batch, steps)
            return
        with ThreadPoolExecutor(1) as pool:
            ahead = pool.submit(batch, steps[0])
            for step in steps:
                ready = ahead.result()
                if step + 1 < self.steps_an_epoch:
                    ahead = pool.submit(batch, step + 1)
                yield ready

    def _prepare(self) -> None:
        """What changes as the training goes on: rates, formats, precision."""
        done = self.position.steps / self.total_steps
        factor = self._factor()
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor
        for layer in self.model.weighted.values():
            layer.formats = done >= self.recipe.formats_from
        if self.recipe.progressive:
            for name, bits in self.bits.items():
                if not self.model.written[name].signed and name not in self.model.groups:
                    left = max(0.0, 1 - done / self.recipe.progressive)
                    self.model.bits[name] = min(8, bits + math.ceil(left * (8 - bits)))

    def _factor(self) -> float:
        return rate_factor(self.recipe, (self.position.steps + 1) / (self.total_steps + 1))

    def _step(self, pixels: Tensor, labels: Tensor, stop: bool) -> tuple[float, float, bool]:
        """One step; the loss, how many images were right, and whether any process shall stop."""
        x = pixels.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)
        y = labels.to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.mixed):
            logits = self.run(x)
        logits = logits.float()
        loss = F.cross_entropy(logits, y, label_smoothing=self.recipe.label_smoothing)
        if self.teacher is not None:
            loss = self._distilled(loss, logits, x)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]  # torch has no types there
        right = (logits.detach().argmax(1) == y).sum()
        numbers = torch.stack([loss.detach(), right.float(), right.new_tensor(stop).float()])
        if self.world > 1:
            numbers = self._join(numbers)
        if self.device.type == "cuda":
            # It learns at the end what became of the step, so as not to wait for the GPU before;
            # the optimizer leaves all as it is where the loss is no finite number.
            self._update(~torch.isfinite(numbers[0]))
            shown, correct, asked = numbers.tolist()
        else:
            shown, correct, asked = numbers.tolist()
            if math.isfinite(shown):
                self._update()
        if not math.isfinite(shown):
            self._name_divergence(x, shown)
        return shown, correct, asked > 0

    def _update(self, spoilt: Tensor | None = None) -> None:
        """Step by the gradients, unless they are spoilt."""
        self._regularise()
        if spoilt is not None:
            self.optimizer.found_inf = spoilt.float()  # type: ignore[attr-defined]  # as GradScaler sets it
        self.optimizer.step()
        with torch.no_grad():
            for scale, floor in self.floors.items():
                scale.clamp_(min=floor)
        if self.average:
            self._average()

    @torch.no_grad()
    def _join(self, numbers: Tensor) -> Tensor:
        """Mean over the processes of the gradients, in place, and of some numbers.

        One sum of one tensor, with which the processes also agree on stopping and on divergence:
        by DistributedDataParallel one of them would leave, and the others wait for it.
        """
        trained = [p for p in self.model.parameters() if p.requires_grad]
        parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
        joined = torch.cat([*(part.flatten() for part in parts), numbers])
        dist.all_reduce(joined)
        joined /= self.world
        pieces = torch.split(joined, [*(part.numel() for part in parts), len(numbers)])
        for parameter, piece in zip(trained, pieces[:-1], strict=True):
            if parameter.grad is not None:
                parameter.grad.copy_(piece.view_as(parameter))
        return pieces[-1]

    def _distilled(self, loss: Tensor, logits: Tensor, x: Tensor) -> Tensor:
        """Hinton, Vinyals, Dean, Distilling the Knowledge in a Neural Network, 2015."""
        assert self.teacher is not None
        share, heat = self.recipe.distillation, self.recipe.temperature
        with torch.no_grad():
            soft = F.softmax(self.teacher(x).float() / heat, dim=1)
        apart = F.kl_div(F.log_softmax(logits / heat, dim=1), soft, reduction="batchmean")
        return (1 - share) * loss + share * heat**2 * apart

    @torch.no_grad()
    def _regularise(self) -> None:
        """Gradients of L2, and of Nagel et al., Overcoming Oscillations, 2022 (damping)."""
        recipe = self.recipe
        if not recipe.l2 and not recipe.damping:
            return
        for layer in self.model.weighted.values():
            if layer.weight.grad is None:
                continue
            if recipe.l2 and (recipe.l2_on == "all" or layer.weight.ndim == 2):
                layer.weight.grad.add_(layer.weight, alpha=recipe.l2)
            if recipe.damping and layer.layer is not None:
                off = layer.weight - layer.effective()
                layer.weight.grad.add_(off, alpha=2 * recipe.damping)

    @torch.no_grad()
    def _average(self) -> None:
        step = self.position.steps + 1
        keep = min(self.recipe.ema, (1 + step) / (10 + step))
        for name, value in self.model.named_state().items():
            self.average[name].lerp_(value, 1 - keep)

    def _rng(self, *what: object) -> torch.Generator:
        text = repr((self.settings.seed, *what)).encode()
        return torch.Generator().manual_seed(
            int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1
        )

    def _where(self) -> str:
        return f"epoch {self.position.epoch + 1}, step {self.position.step + 1}"

    def _name_divergence(self, x: Tensor, loss: float) -> None:
        at = self._where()
        check_finite(self.model, at)
        with torch.no_grad():
            for name, value in self.model.run(x, keep=True).items():
                if not bool(torch.isfinite(value).all()):
                    raise DivergenceError(
                        f"{name}: what it writes must be finite, in {at}; lower learning_rate"
                    )
        raise DivergenceError(f"the loss must be finite, got {loss} in {at}; lower learning_rate")

    # State

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and a document to go on from."""
        tensors = {f"model/{name}": v for name, v in self.model.named_state().items()}
        tensors |= {f"average/{name}": value for name, value in self.average.items()}
        for name, value in self._moments().items():
            tensors[f"adam/{name}"] = value
        at = self.position
        return tensors, {name: getattr(at, name) for name in Position.__dataclass_fields__}

    def _moments(self) -> dict[str, Tensor]:
        found = {}
        names = {id(value): name for name, value in self.model.named_state().items()}
        for parameter, state in self.optimizer.state.items():
            for key, value in state.items():
                found[f"{names[id(parameter)]}/{key}"] = value
        return found

    def load_state(
        self, tensors: Mapping[str, Tensor], document: Mapping[str, Any], place: str
    ) -> None:
        """Go on from what `state` gave.

        Raises:
            InputError: it does not fit this training.
        """
        parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "adam": {}}
        for name, value in tensors.items():
            kind, _, rest = name.partition("/")
            if kind not in parts:
                raise InputError(f"{place}: unknown tensor '{name}'")
            parts[kind][rest] = value
        self.model.load_named_state(parts["model"], place)
        if self.average.keys() != parts["average"].keys():
            raise InputError(f"{place}: must hold an average exactly where the recipe has 'ema'")
        for name, value in parts["average"].items():
            self.average[name].copy_(value)
        self.position = _position(document, self.settings.epochs, self.steps_an_epoch, place)
        own = self.model.named_state()
        for name, value in parts["adam"].items():
            parameter, _, key = name.rpartition("/")
            if parameter not in own or key not in MOMENTS:
                raise InputError(f"{place}: unknown tensor 'adam/{name}'")
            wanted = torch.Size() if key == "step" else own[parameter].shape
            if value.shape != wanted or not value.is_floating_point():
                raise InputError(f"{place}: adam/{name}: its shape is not that of {parameter}")
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"{place}: adam/{name}: must be finite")
            if key != "step" and value.ndim == 4:
                value = value.contiguous(memory_format=torch.channels_last)
            self.optimizer.state[own[parameter]][key] = value.to(self.device)
        for tensor, state in self.optimizer.state.items():
            if set(state) != set(MOMENTS):
                name = next(n for n, value in own.items() if value is tensor)
                raise InputError(f"{place}: must hold all of {', '.join(MOMENTS)} of {name}")
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        if self.position.steps and len(self.optimizer.state) < len(trained):
            raise InputError(f"{place}: must hold Adam's moments of all that is trained")

    @torch.no_grad()
    def finish(self) -> Model:
        """The trained model: averaged where the recipe says so, batch-norm estimated anew."""
        if self.average:
            for name, value in self.model.named_state().items():
                value.copy_(self.average[name])
        self.model.bits.update(self.bits)
        for layer in self.model.weighted.values():
            layer.formats = True
        if self.recipe.reestimate:
            count = min(len(self.images), self.recipe.reestimate)
            order = torch.randperm(len(self.images), generator=self._rng("estimate"))
            reestimate(self.model, self.images, order[:count], self.recipe.batch)
        self.model.eval()
        return self.model


MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of each parameter."""


def _position(document: Mapping[str, Any], epochs: int, steps: int, place: str) -> Position:
    """A position that a training of so many epochs and steps an epoch may have.

    Raises:
        InputError: it is none.
    """
    try:
        found = Position(**document)
    except TypeError as error:
        raise InputError(f"{place}: position: {error}") from None
    for name in ("epoch", "step", "steps", "seen", "images", "loss", "correct", "seconds"):
        value = getattr(found, name)
        whole = name in ("epoch", "step", "steps", "seen", "images")
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise InputError(f"{place}: position: {name} must be a number, got {value!r}")
        if not 0 <= value < math.inf:
            raise InputError(f"{place}: position: {name} must not be negative, got {value}")
    before = found.epoch * steps + found.step
    if found.epoch > epochs or found.step > steps or found.steps != before:
        raise InputError(
            f"{place}: position: epoch {found.epoch}, step {found.step} and {found.steps} steps in "
            f"all are no place in {epochs} epochs of {steps} steps"
        )
    rows = found.history
    if not isinstance(rows, list) or not all(
        isinstance(row, dict) and row.get("epoch") == i + 1 for i, row in enumerate(rows)
    ):
        raise InputError(f"{place}: position: history must have a row for each epoch")
    return found


def settled(model: Model, device: torch.device) -> Model:
    """On a device, channels innermost: on a CPU convolutions and poolings are faster so."""
    model.to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # no stub has it
    return model


def _check_counts(model: Model, recipe: Recipe, images: int, world: int) -> None:
    """Refuse so few images at a time that batch-norm behind a dense layer has nothing to compare.

    Raises:
        InputError: fewer than two.
    """
    alone = [
        name
        for name, layer in model.weighted.items()
        if layer.gain is not None and layer.node.out_shape.pixels == 1
    ]
    counts = {"batch": min(recipe.batch, images) // world}
    if recipe.reestimate:
        counts["reestimate"] = min(recipe.reestimate, images)
    for name, count in counts.items():
        if count < (2 if alone else 1):
            at = f"{alone[0]}: batch-norm" if alone else "a step"
            raise InputError(
                f"{at} needs {2 if alone else 1} images, {name} gives {count} of {images} images "
                f"to each of {world} processes"
            )


def _optimizer(model: Model, recipe: Recipe) -> torch.optim.Optimizer:
    """Adam, with own rates for scales and ranges; decay is of weights alone.

    Adam's step is a rate, however small the number. A scale's rate is therefore in parts of where
    its layer's scales start: else those of large layers, some hundredths, cross zero in a few
    steps, which turns the layer's sign over.
    """
    groups: dict[tuple[str, float], list[nn.Parameter]] = {}
    for name, value in model.named_state().items():
        if isinstance(value, nn.Parameter) and value.requires_grad:
            kind = name.rpartition("/")[2]
            rate = recipe.learning_rate
            if kind == "scale" and recipe.scale_rate is not None:
                rate = recipe.scale_rate * float(value.detach().abs().mean())
            elif kind == "range" and recipe.range_rate is not None:
                rate = recipe.range_rate
            groups.setdefault((kind if kind == "weight" else "", rate), []).append(value)
    settings = []
    for (kind, rate), values in groups.items():
        decay = recipe.decay if kind == "weight" else 0.0
        settings.append({"params": values, "lr": rate, "base": rate, "weight_decay": decay})
    return torch.optim.AdamW(settings, eps=recipe.epsilon, fused=True)


def check_finite(model: Model, at: str) -> None:
    """Raise DivergenceError that names the first tensor of a model that is not finite."""
    for name, value in model.named_state().items():
        if not bool(torch.isfinite(value).all()):
            raise DivergenceError(f"{name}: must be finite, in {at}; lower learning_rate")


@contextlib.contextmanager
def whole_floats() -> Iterator[None]:
    """Convolutions with all 24 bits of a float: a GPU may else leave out 13, and what is measured
    would not be what the integers give."""
    with torch.backends.cudnn.flags(
        enabled=torch.backends.cudnn.enabled,
        benchmark=torch.backends.cudnn.benchmark,
        deterministic=torch.backends.cudnn.deterministic,
        allow_tf32=False,
    ):
        yield


@torch.no_grad()
@whole_floats()
def reestimate(model: Model, images: Images, numbers: Tensor, batch: int) -> None:
    """Batch-norm's mean and variance as the mean over the batches of some images."""
    device = next(model.parameters()).device
    parts = math.ceil(len(numbers) / batch)  # alike in size, for one image alone has no variance
    for index, part in enumerate(torch.tensor_split(numbers, parts)):
        with averaging(model, index):
            model(images.batch(part, None).to(device))
    model.eval()


@contextlib.contextmanager
def averaging(model: Model, index: int) -> Iterator[None]:
    """What the model runs on within the block is batch `index` of a mean over batches, which
    batch-norm's mean and variance become."""
    layers = list(model.weighted.values())
    before = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1 / (index + 1)
        layer.train()
    try:
        yield
    finally:
        for layer, momentum in zip(layers, before, strict=True):
            layer.momentum = momentum
            layer.eval()


@torch.no_grad()
@whole_floats()
def evaluate(model: Model, images: Images, batch: int = EVALUATION_BATCH) -> Metrics:
    """Top-1, top-5 (of fewer classes all) and loss on all images."""
    model.eval()
    device = next(model.parameters()).device
    top1 = top5 = loss = 0.0
    for first in range(0, len(images), batch):
        numbers = torch.arange(first, min(first + batch, len(images)))
        x = images.batch(numbers, None).to(device)
        y = images.labels[numbers].to(device)
        logits = model(x.contiguous(memory_format=torch.channels_last)).float()
        loss += float(F.cross_entropy(logits, y, reduction="sum"))
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == y[:, None]
        top1 += float(best[:, 0].sum())
        top5 += float(best.sum())
    count = len(images)
    return Metrics(top1=top1 / count, top5=top5 / count, loss=loss / count, images=count)


@contextlib.contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C is noted, and acted on between two steps; a second one breaks off at once.

    So is the end of the process that `PARENT` names.
    """
    parent = int(os.environ.get(PARENT, "0"))
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    asked = False
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise Abandoned
        asked = True

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: asked or (parent != 0 and not _has_parent(parent))
    finally:
        signal.signal(signal.SIGINT, before)


def _has_parent(parent: int) -> bool:
    """Whether a process started this one, or started the torchrun that did."""
    own = os.getppid()
    if own == parent or "TORCHELASTIC_RUN_ID" not in os.environ:
        return own == parent
    try:
        stat = Path(f"/proc/{own}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return int(stat.rpartition(")")[2].split()[1]) == parent


def _place() -> tuple[int, int]:
    """Rank and number of processes, of torchrun."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def _repeatable() -> None:
    """Have a GPU add up in the same order each time: the same seed gives the same result."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # no stub has it


@contextlib.contextmanager
def processes(device: str) -> Iterator[str]:
    """Join the processes that torchrun started, if it did; gives the device of this one."""
    if device.startswith("cuda"):
        _repeatable()
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield device
        return
    # Its functions have the group that there is when it is imported as a default, and would keep
    # the group's threads alive until the interpreter ends, where they now and then abort it.
    importlib.import_module("torch.distributed.nn")
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        yield f"cuda:{local}" if device.startswith("cuda") else device
    finally:
        dist.destroy_process_group()
