"""A trained network in other tools' own code, against the trained model on test images.

    python benchmarks/exports.py TRAINING [--images 1000] [--data FOLDER]

TRAINING is what `syq-dse train -o TRAINING` has left. ONNX is run by onnxruntime, QONNX by qonnx
node by node, Brevitas by its own layers in 64 bit floats. ONNX and QONNX have to equal the integer
model, which the hardware is, Brevitas the trained model; each has to give every image the class of
both. Needs what tests/requirements.txt lists.
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx

from syq_dse import network, records
from syq_dse.interop import brevitas, integer_onnx, qonnx, trained
from syq_dse.quant import integer
from syq_dse.train import dataset
from syq_dse.train.run import RESULT

BATCH = 100


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("training", type=Path)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--data", type=Path)
    asked = parser.parse_args()
    job = records.read(asked.training / RESULT)["job"]
    net = network.build(records.structure(job["network"], network.NetworkFile, "job"))
    own = trained.read_training(asked.training, net)
    test = dataset.load(net, job["dataset"], asked.data).test
    count = min(asked.images, len(test))
    images = test.batch(torch.arange(count), None)
    model = own.model()
    real, whole = [], []
    with torch.no_grad():
        for part in images.split(BATCH):
            values = model.run(part, keep=True)
            real.append(model.logits_of(values).numpy())
            codes = values[network.INPUT].numpy().astype(np.int64)
            results = integer.infer(net, own.scheme, own.integers, codes)
            whole.append(own.readout.logits(results))
    references = {"trained": np.concatenate(real), "integer": np.concatenate(whole)}
    classes = {name: values.argmax(1) for name, values in references.items()}
    print(f"{net.name}: {count} test images, logits up to {abs(references['trained']).max():.3g}")
    print("| format | class of trained model | of integer model | largest difference of a logit |")
    print("| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for name, run in formats(own, Path(folder)):
            found = np.concatenate([run(part.numpy()) for part in images.split(BATCH)])
            same = [int((found.argmax(1) == known).sum()) for known in classes.values()]
            kind = "trained" if name.startswith("brevitas") else "integer"
            off = abs(found - references[kind]).max()
            print(f"| {name} | {same[0]} | {same[1]} | {off:.2g} (of the {kind}) |", flush=True)


Run = Callable[[Any], Any]


def formats(own: trained.Trained, folder: Path) -> list[tuple[str, Run]]:
    (path,) = integer_onnx.write(own, "net", folder)
    session = onnxruntime.InferenceSession(str(path))
    found: list[tuple[str, Run]] = [
        ("onnx", lambda part: session.run(["logits"], {"images": part})[0])
    ]
    for path in qonnx.write(own, "net", folder):
        found.append((path.name.removeprefix("net."), by_qonnx(path)))
    source, _ = brevitas.write(own, "net", folder)
    spec = importlib.util.spec_from_file_location(source.stem, source)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made = module.load(dtype=torch.float64).eval()

    def by_brevitas(part: Any) -> Any:
        with torch.no_grad():
            return made(torch.from_numpy(part).double()).numpy()

    return [*found, ("brevitas, 64 bit", by_brevitas)]


def by_qonnx(path: Path) -> Run:
    model = ModelWrapper(str(path))

    def run(part: Any) -> Any:
        return np.concatenate(
            [
                execute_onnx(model, {"images": image[None].astype(np.float32)})["logits"]
                for image in part
            ]
        )

    return run


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
