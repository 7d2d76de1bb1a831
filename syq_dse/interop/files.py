"""Imported networks as files: a network's TOML, its weights, and its scheme where it has one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import tomli_w

from syq_dse import catalogue, network, records, scheme
from syq_dse.errors import InputError, one_line
from syq_dse.interop.operators import Imported
from syq_dse.network import Flatten, Network, NetworkFile, Recipe, Shape

KNOWN = {
    (3, 32, 32, 10): "cifar10",
    (1, 28, 28, 10): "fashion-mnist",
    (3, 224, 224, 1000): "imagenet",
}
"""Data sets by channels, rows, columns and classes."""

OWN = "own"
"""Data set of a network that is of none of KNOWN: training has to be told."""

DOCUMENT = "syq-dse"
"""Key of what this program says of a file, in ONNX and safetensors."""


def read(source: str, sizes: str | None = None, dataset: str | None = None) -> Imported:
    """The network of an ONNX file or of `package.module:factory`, `@N,C,H,W` behind it.

    Args:
        sizes: of a module's input, N,C,H,W.

    Raises:
        InputError: it cannot be read, or is no network for this program.
    """

    def recipe(shape: Shape, classes: int) -> Recipe:
        guess = KNOWN.get((shape.c, shape.h, shape.w, classes), OWN)
        return Recipe(dataset=dataset or guess)

    if source.lower().endswith(".onnx"):
        from syq_dse.interop import onnx_file, read_onnx

        if sizes is not None:
            raise InputError("--input is for modules; an ONNX file says its own input")
        path = Path(source)
        model = onnx_file.load(path)
        found = read_onnx.read(
            model, path, name_of(path.stem), f"Imported from {path.name}.", recipe
        )
        said = dict(onnx_file.metadata(model)).get(DOCUMENT)
        return found if said is None else _named_as(found, said, dataset)
    from syq_dse.interop import read_torch

    spec, _, behind = source.partition("@")
    if behind and sizes is not None:
        raise InputError(f"input is given twice: --input {one_line(sizes)} and @{one_line(behind)}")
    given = sizes if sizes is not None else behind
    wanted = read_torch.parse_input(given) if given else read_torch.DEFAULT_INPUT
    name = name_of(spec.rpartition(":")[2])
    module = read_torch.make(spec)
    return read_torch.read(module, wanted, spec, name, f"Imported from {spec}.", recipe)


def name_of(text: str) -> str:
    """A network's name from that of its source."""
    kept = "".join(c if c.isprintable() and c != "/" else "_" for c in text).strip() or "network"
    return kept.encode()[: catalogue.LONGEST_NAME].decode(errors="ignore")


def write(found: Imported, out: Path) -> list[Path]:
    """Write NAME.toml, NAME.safetensors and, of a quantised network, NAME-scheme.toml.

    Args:
        out: the first of them.

    Raises:
        InputError: a file cannot be written.
    """
    if out.suffix != ".toml":
        raise InputError(f"{out}: must end in .toml")
    weights = out.with_suffix(".safetensors")
    written = [out, weights]
    texts = {out: tomli_w.dumps(records.plain(found.file))}
    if found.scheme is not None:
        text = tomli_w.dumps({"network": found.file.name, **found.scheme})
        texts[out.with_name(f"{out.stem}-scheme.toml")] = text
    document = {"network": records.plain(found.file), "scheme": None}
    arrays = {name: np.ascontiguousarray(array, np.float32) for name, array in found.arrays.items()}
    for path in (*written, *texts):
        if path.is_dir():
            raise InputError(f"{path}: is a folder")
    records.make_folder(out.parent)
    records.write_bytes(weights, safetensors.numpy.save(arrays, {DOCUMENT: json.dumps(document)}))
    for path, text in texts.items():
        records.write_text(path, text)
    return list(dict.fromkeys([*written, *texts]))


def cached(source: str) -> Path:
    """The TOML of a source in the user's cache, by what it says, for `--network`."""
    found = read(source)
    said = json.dumps([records.plain(found.file), found.scheme], sort_keys=True)
    digest = hashlib.sha256(said.encode())
    for array in found.arrays.values():
        digest.update(np.ascontiguousarray(array, np.float32).tobytes())
    folder = catalogue.cache_folder("networks") / digest.hexdigest()[:16]
    path = folder / f"{found.file.name}.toml"
    if not path.is_file():
        write(found, path)
    return path


# Networks that this program wrote


def _named_as(found: Imported, said: str, dataset: str | None) -> Imported:
    """With the names that the file says, where it says the network that its operators are.

    What another tool has changed is another network, and keeps the names of its operators.
    """
    try:
        document = json.loads(said)
        file = records.structure(document["network"], NetworkFile, DOCUMENT)
        net = network.build(file)
        chosen = document.get("scheme")
        own = None if chosen is None else scheme.read(net, chosen, DOCUMENT)
    except (InputError, ValueError, KeyError, TypeError, RecursionError):
        return found
    here = network.build(found.file)
    if _form(net) != _form(here):
        return found
    names = dict(zip(_names(here), _names(net), strict=True))
    kept = None
    if found.scheme is not None:
        kept = _renamed(found.scheme, names)
        if own is not None and _agree(net, scheme.read(net, kept, DOCUMENT), own):
            kept = chosen
    if dataset is not None:
        file = replace(file, recipe=replace(file.recipe, dataset=dataset))
    arrays = {}
    for key, array in found.arrays.items():
        layer, _, part = key.rpartition("/")
        arrays[f"{names[layer]}/{part}"] = array
    return Imported(file=file, arrays=arrays, scheme=kept)


def _names(net: Network) -> list[str]:
    """Layers that do something, in order."""
    return [node.name for node in net.nodes if not _is_idle(net, node.name)]


def _is_idle(net: Network, name: str) -> bool:
    node = net.by_name[name]
    return isinstance(node.layer, Flatten) and node.in_shape.pixels == 1


def _form(net: Network) -> list[tuple[Any, ...]]:
    """What a network is but for names; a bias and batch-norm are both a term a channel."""
    names = _names(net)
    place = {network.INPUT: -1, **{name: index for index, name in enumerate(names)}}
    found = []
    for node in net.nodes:
        if _is_idle(net, node.name):
            place[node.name] = place[node.inputs[0]]
            continue
        layer = node.layer
        found.append(
            (
                *(layer.op, node.k, node.stride, node.pad, node.groups),
                node.has_bias or getattr(layer, "batch_norm", None),
                getattr(layer, "relu", None) if net.readers[node.name] else None,
                *(node.out_shape, [place[name] for name in node.inputs]),
            )
        )
    return found


def _renamed(found: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    layers = {names[name]: entry for name, entry in found["layers"].items()}
    return {**found, "layers": layers}


def _agree(net: Network, a: scheme.Scheme, b: scheme.Scheme) -> bool:
    """Whether two schemes are one but for what a quantiser does not say: the format of a scale,
    whether codes of two bits are ternary, and whether one channel is a layer."""

    def form(of: scheme.Scheme) -> tuple[Any, ...]:
        layers = {}
        for node in net.engines:
            layer = scheme.normal(node, of.layers[node.name])
            weights = "ternary" if layer.weights == "int2" else layer.weights
            alone = layer.granularity == "channel" and node.out_shape.c == 1
            layers[node.name] = weights, "layer" if alone else layer.granularity
        return layers, dict(of.bits)

    return form(a) == form(b)
