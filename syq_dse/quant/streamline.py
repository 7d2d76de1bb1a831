"""From a trained network to the integers that hardware holds.

A layer with weights computes raised = A * acc + B of its integer accumulator, where A and B gather
the steps, the scale, the bias and batch-norm, and floor(raised) is the code (quant.model). By
thresholds, acc reaches code t where A * acc + B >= t, and a channel of negative A has its codes
negated; by multiply, A and B become a gain of 16 bits and an offset at a shift that the layer
shares. Named after Umuroglu, Jahre, Streamlined Deployment for Quantized Neural Networks, 2017
(arXiv 1709.04060).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from syq_dse.errors import InputError
from syq_dse.network import INPUT, Add, AvgPool, GlobalAvgPool, Node
from syq_dse.quant import integer, scales, weights
from syq_dse.quant.integer import (
    GAIN_BITS,
    LARGEST_SHIFT,
    AddIntegers,
    Integers,
    Ints,
    LayerIntegers,
    Method,
    NetworkIntegers,
)
from syq_dse.quant.model import BATCH_NORM_EPS, Model, Weighted, has_format

Floats = npt.NDArray[np.float64]

MOST_THRESHOLD_BITS = 4
"""Codes up to which a layer has thresholds where nothing else is asked for."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Readout:
    """logits = results * scale + offset, shapes (classes,): what a host does with the results."""

    scale: Floats
    offset: Floats

    def logits(self, results: npt.ArrayLike) -> Floats:
        """Of results (images, classes) of the integer model."""
        found: Floats = np.asarray(results) * self.scale + self.offset
        return found


@torch.no_grad()
def streamline(
    model: Model, methods: Mapping[str, Method] | None = None
) -> tuple[NetworkIntegers, Readout]:
    """The integers of a quantised model in its present state, with scales in hardware's format.

    Args:
        methods: how layers make codes; the rest by thresholds up to MOST_THRESHOLD_BITS, else, and
            where codes are signed, by multiply.

    Raises:
        InputError: a float model, numbers that are not finite or leave 64 bits.
    """
    scheme = model.scheme
    if scheme is None:
        raise InputError(f"{model.network.name}: is a float model and has no integers")
    model = copy.deepcopy(model).cpu().double().eval()
    methods = methods or {}
    layers: dict[str, Integers] = {}
    for node in model.network.nodes:
        tensor = model.written[node.name]
        own = tensor.name == node.name and tensor.kind != "result"
        if node.has_weights:
            held, sums, offsets = affine(model, node, model.step(node.name) if own else None)
            if own:
                few = not tensor.signed and model.bits[node.name] <= MOST_THRESHOLD_BITS
                method = methods.get(node.name, "thresholds" if few else "multiply")
                ranges = model.code_range(node.name)
                make = _thresholds if method == "thresholds" else _multiply
                read = model.code_range(model.written[node.inputs[0]].name)
                try:
                    held = make(held, sums, offsets, integer.reach(node, held, read), ranges)
                except InputError as error:
                    raise InputError(f"{node.name}: {error}") from None
            layers[node.name] = held
        elif isinstance(node.layer, Add) and own:
            layers[node.name] = _shifts(model, node)
        elif isinstance(node.layer, (AvgPool, GlobalAvgPool)) and own:
            layers[node.name] = model.mean_gain(node)
    integers = NetworkIntegers(layers=layers)
    integer.check(model.network, scheme, integers, model.network.name)
    return integers, _readout(model)


def affine(
    model: Model, node: Node, written: Tensor | None
) -> tuple[LayerIntegers, Floats, Floats]:
    """Codes and mantissas, and A and B of each channel, with which raised = A * acc + B.

    Without a step that is written: what the layer writes in real numbers.
    """
    own = model.weighted[node.name]
    sums, held = _before_batch_norm(model, node)
    offsets = np.zeros(len(sums)) if own.bias is None else _double(own.bias)
    if own.gain is not None and own.offset is not None:
        slope = _double(own.gain) / np.sqrt(_double(own.variance) + BATCH_NORM_EPS)
        sums, offsets = sums * slope, (offsets - _double(own.mean)) * slope + _double(own.offset)
    if written is not None:
        step = float(written.double())
        sums, offsets = sums / step, offsets / step + 0.5
    if not (np.isfinite(sums).all() and np.isfinite(offsets).all()):
        raise InputError(f"{node.name}: weights, scales and batch-norm must be finite")
    return held, sums, offsets


def _codes(own: Weighted) -> tuple[LayerIntegers, Floats]:
    """Codes and mantissas, and what one of the accumulator stands for at inputs of step 1."""
    if own.layer is None or own.scale is None:
        raise InputError(f"{own.node.name}: has float weights and no integers")
    scale, weight = (value.detach().double().cpu() for value in (own.scale, own.weight))
    entries = np.ones(integer.entries(own.node, own.layer), np.int64)
    unit: Any = scale.flatten().numpy()
    if has_format(own.node, own.layer):
        step = weights.has_step(own.layer.weights)
        whole, exponent = scales.mantissas(scale, own.layer.scale, step)
        entries = whole.flatten().numpy().astype(np.int64)
        unit = np.array([2.0 ** float(exponent)])
        scale = whole * torch.exp2(exponent)
    elif weights.has_step(own.layer.weights):
        unit = np.maximum(unit, scales.LEAST_STEP)
    codes = weights.codes(weight, scale, own.layer.weights)
    shape = (*own.weight.shape, 1, 1)[:4]
    return (
        LayerIntegers(codes=codes.numpy().astype(np.int64).reshape(shape), mantissas=entries),
        unit,
    )


def _double(values: Tensor) -> Floats:
    found: Floats = values.detach().double().cpu().numpy()
    return found


def _thresholds(
    held: LayerIntegers, sums: Floats, offsets: Floats, reach: Ints, ranges: tuple[int, int]
) -> LayerIntegers:
    """The least accumulator of each code from 1 on; what no accumulator reaches lies one beyond."""
    falls = sums < 0
    codes = np.where(falls[:, None, None, None], -held.codes, held.codes)
    slope = abs(sums)[:, None]
    reach = reach[:, None]
    wanted = np.arange(1, ranges[1] + 1)
    with np.errstate(divide="ignore", over="ignore"):
        places = np.ceil((wanted - offsets[:, None]) / np.maximum(slope, np.finfo(float).tiny))
    found = np.clip(places, -reach.astype(float), reach + 1.0).astype(np.int64)

    def raised(acc: npt.NDArray[np.int64]) -> Floats:
        out: Floats = np.floor(acc * slope + offsets[:, None])
        return out

    # a quotient that is rounded may be one off
    found = np.where((raised(found - 1) >= wanted) & (found > -reach), found - 1, found)
    found = np.where((raised(found) < wanted) & (found <= reach), found + 1, found)
    always = np.where(np.floor(offsets)[:, None] >= wanted, -reach, reach + 1)
    found = np.where(slope == 0, always, found)
    return replace(held, codes=codes, thresholds=found)


def _multiply(
    held: LayerIntegers, sums: Floats, offsets: Floats, reach: Ints, ranges: tuple[int, int]
) -> LayerIntegers:
    """Gains and offsets that are exact in the middle of the codes, where errors of gains spread.

    An offset has the bits of the accumulator and of a gain: where a channel has one code only, it
    is moved to the end of what gives that code, and where all gains are tiny the shift is less.
    """
    largest = abs(sums).max()
    most = (1 << GAIN_BITS - 1) - 1
    codes = ranges[1] - ranges[0] + 2
    shift = int(reach.max()).bit_length() + GAIN_BITS - 2 - codes.bit_length()
    if largest > 0:
        shift = int(min(shift, np.floor(np.log2((most + 0.5) / largest))))
    shift = max(0, min(shift, LARGEST_SHIFT))
    spread = abs(sums) * reach
    offsets = np.clip(offsets, ranges[0] - spread - 1, ranges[1] + 1 + spread)
    gains = np.clip(np.rint(np.ldexp(sums, shift)), -most, most)
    middle = (ranges[0] + ranges[1] + 1) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        at = np.where(sums != 0, (middle - offsets) / sums, 0.0)
    at = np.clip(np.nan_to_num(at), -reach, reach)
    shifted = np.ldexp(sums * at + offsets, shift) - gains * at
    return replace(
        held,
        gains=gains.astype(np.int64),
        offsets=np.rint(shifted).astype(np.int64),
        shift=shift,
    )


@torch.no_grad()
def settle(model: Model, integers: NetworkIntegers) -> None:
    """Give batch-norm the gains and offsets that the integers hold, so that both are one network.

    A gain of 16 bits at a shift that a layer shares is coarse for channels that batch-norm scales
    far less than others: up to a few codes in a hundred would differ. Streamlined again the model
    gives the same integers. Layers without batch-norm stay as they are.
    """
    for name, own in integers.layers.items():
        if not isinstance(own, LayerIntegers) or own.gains is None:
            continue
        assert own.offsets is not None and own.shift is not None
        layer = model.weighted[name]
        if layer.gain is None or layer.offset is None:
            continue
        sums, _ = _before_batch_norm(model, layer.node)
        step = float(model.step(name).double())
        wanted = np.ldexp(own.gains.astype(np.float64), -own.shift) * step
        slope = np.divide(wanted, sums, out=np.zeros_like(wanted), where=sums != 0)
        spread = np.sqrt(_double(layer.variance) + BATCH_NORM_EPS)
        # a quarter more, which a rounded float does not carry below a whole number
        raised = np.ldexp(own.offsets.astype(np.float64) + 0.25, -own.shift)
        bias = np.zeros(len(slope)) if layer.bias is None else _double(layer.bias)
        layer.gain.copy_(torch.from_numpy(slope * spread))
        kept = _double(layer.gain) / spread  # what 32 bits hold of it
        offset = (raised - 0.5) * step - (bias - _double(layer.mean)) * kept
        layer.offset.copy_(torch.from_numpy(offset))


def _before_batch_norm(model: Model, node: Node) -> tuple[Floats, LayerIntegers]:
    """What one of each channel's accumulator stands for, and the layer's codes and mantissas."""
    held, unit = _codes(model.weighted[node.name])
    read = float(model.step(model.written[node.inputs[0]].name).double())
    return np.broadcast_to(unit * read, node.out_shape.c).copy(), held


def _shifts(model: Model, node: Node) -> AddIntegers:
    written = float(model.step(node.name))
    powers = [
        round(float(np.log2(float(model.step(model.written[name].name)) / written)))
        for name in node.inputs
    ]
    least = min(*powers, 0)
    return AddIntegers(shifts=(powers[0] - least, powers[1] - least), shift=-least)


def _readout(model: Model) -> Readout:
    node = model.network.nodes[-1]
    classes = node.out_shape.c
    tensor = model.written[node.name]
    if tensor.kind == "result" and node.has_weights:
        _, sums, offsets = affine(model, node, None)
        return Readout(scale=sums, offset=offsets)
    if tensor.kind == "result":
        scale = float(model.step(model.written[node.inputs[0]].name))
        if not isinstance(node.layer, Add):
            scale /= integer.mean_pixels(node)
    else:
        scale = float(model.step(tensor.name))
    return Readout(scale=np.full(classes, scale), offset=np.zeros(classes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far the integer model goes with the trained one in 64 bit floats."""

    images: int
    same_class: int  # images to which both give one class
    codes: int  # written by all layers, of all images
    apart: Mapping[str, int]  # of each tensor, codes that differ, where any do
    images_apart: int  # images with any such code


@torch.no_grad()
def agreement(
    model: Model,
    integers: NetworkIntegers,
    readout: Readout,
    images: npt.NDArray[np.uint8],
    batch: int = 100,
) -> Agreement:
    """Run both on images (images, channels, rows, columns) of pixels 0 to 255 and compare.

    The model is evaluated in 64 bit floats.
    """
    model = copy.deepcopy(model).cpu().double().eval()
    assert model.scheme is not None
    same = total = images_apart = 0
    apart: dict[str, int] = {}
    for first in range(0, len(images), batch):
        part = torch.from_numpy(images[first : first + batch])
        trained = model.run(part, keep=True)
        codes = trained[INPUT].numpy().astype(np.int64)
        found = integer.infer(model.network, model.scheme, integers, codes, activations=True)
        wrong = np.zeros(len(part), np.bool_)
        for name, tensor in model.written.items():
            if tensor.name != name or tensor.kind == "result":
                continue
            off = trained[name].numpy().reshape(found[name].shape) != found[name]
            total += off.size
            if off.any():
                apart[name] = apart.get(name, 0) + int(off.sum())
                wrong |= off.reshape(len(off), -1).any(axis=1)
        last = model.network.nodes[-1].name
        logits = readout.logits(found[last].reshape(len(part), -1))
        same += int((logits.argmax(1) == model.logits_of(trained).numpy().argmax(1)).sum())
        images_apart += int(wrong.sum())
    return Agreement(
        images=len(images), same_class=same, codes=total, apart=apart, images_apart=images_apart
    )
