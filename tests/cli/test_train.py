"""`syq-dse train` and `validate` as a user runs them."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from syq_dse import network, scheme
from syq_dse.quant import integer, integer_file
from syq_dse.search import validation
from syq_dse.train import dataset, run
from tests.train.conftest import DATASET, write_data

from .workbench import REPOSITORY, Run, process


@pytest.fixture
def trained(workplace: Path, cli: Run) -> Path:
    """The working directory with a data set for tiny.toml and a float network."""
    write_data(workplace / "data")
    (workplace / "quarters.toml").write_text(DATASET.format(folder=workplace / "data"))
    text = (workplace / "tiny.toml").read_text()
    (workplace / "tiny.toml").write_text(text.replace('"mnist"', '"quarters.toml", epochs = 15'))
    done = cli("train", "--network", "tiny.toml", "--float", "-o", "float")
    assert done.code == 0, done
    return workplace


OTHER = "other/model.safetensors"
FLOAT = ("--pretrained", "float/model.safetensors")
TERNARY = ("train", "--network", "tiny.toml", "--uniform", "ternary,4,pixel", *FLOAT)
QUANTISED = (*TERNARY, "--epochs", "15")


def test_a_training_leaves_its_folder(trained: Path, cli: Run) -> None:
    done = cli(*QUANTISED, "-o", "out", "--json")
    assert done.code == 0 and done.err == ""
    result = json.loads(done.out)
    assert result["folder"] == "out" and result["top1"] > 0.7 and result["part"] == "test"
    assert sorted(p.name for p in Path("out").iterdir()) == [
        ".lock", "integers.json", "integers.safetensors", "metrics.csv", "model.safetensors",
        "result.json",
    ]  # fmt: skip
    with Path("out/metrics.csv").open() as stream:
        assert [row["epoch"] for row in csv.DictReader(stream)] == [str(n) for n in range(1, 16)]
    again = cli(*QUANTISED, "-o", "out")
    assert again.code == 0 and "images right (top-5 100.00 %)" in again.out
    assert "integer model: the same class on " in again.out


def test_the_integers_are_the_network(trained: Path, cli: Run) -> None:
    """The file's integers, run by themselves, classify as the result says."""
    assert cli(*QUANTISED, "-o", "out").code == 0
    net = network.load("tiny.toml")
    chosen = scheme.parse_uniform(net, "ternary,4,pixel")
    integers = integer_file.load(Path("out/integers.safetensors"), net, chosen)
    head = json.loads(Path("out/integers.json").read_text())
    found = dataset.load(net)
    pixels = found.test.batch(torch.arange(100), None).numpy()
    results = integer.infer(net, chosen, integers, pixels.astype(np.int64))
    logits = results * np.array(head["scale"]) + np.array(head["offset"])
    right = (logits.argmax(1) == found.test.labels.numpy()).mean()
    result = json.loads(Path("out/result.json").read_text())
    assert abs(right - result["top1"]) <= (100 - result["integers"]["same_class"]) / 100
    done = cli(
        "rtl", "--network", "tiny.toml", "--target", "zcu102", "--uniform", "ternary,4,pixel",
        "--integers", "out/integers.safetensors", "-o", "rtl",
    )  # fmt: skip
    assert done.code in (0, 1)
    assert done.code == 0 or "is priced with requantisation by" in done.err


def test_float_ends_leave_no_integers(trained: Path, cli: Run) -> None:
    done = cli(*TERNARY, "--recipe", "paper", "--epochs", "1", "-o", "out")
    assert done.code == 0 and "integer model" not in done.out
    assert not Path("out/integers.json").exists() and Path("out/model.safetensors").exists()


def test_a_killed_training_goes_on_to_the_same_result(trained: Path, cli: Run) -> None:
    assert cli(*TERNARY, "--epochs", "120", "-o", "whole").code == 0
    for number in (signal.SIGKILL, signal.SIGINT):
        running = process(*TERNARY, "--epochs", "120", "-o", f"by{number}", cwd=trained)
        checkpoint = trained / f"by{number}" / "checkpoint.safetensors"
        while not checkpoint.exists() and running.poll() is None:
            time.sleep(0.01)
        running.send_signal(number)
        _, err = running.communicate()
        assert checkpoint.exists()
        assert running.returncode == (-9 if number == signal.SIGKILL else 130), err
        if number == signal.SIGINT:
            assert err.endswith(
                f"interrupted; the state is saved in by{number}, the same command goes on from "
                "there\n"
            )
        assert cli(*TERNARY, "--epochs", "120", "-o", f"by{number}").code == 0
        for name in ("model.safetensors", "integers.safetensors"):
            same = (trained / "whole" / name).read_bytes()
            assert (trained / f"by{number}" / name).read_bytes() == same
        assert not checkpoint.exists()


def torchrun(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Two processes that train tiny.toml into the folder `two`."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
        "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "syq_dse",
        *TERNARY, "-o", "two", "--json", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_two_processes_train_one_network(trained: Path) -> None:
    done = torchrun(trained, "--epochs", "20")
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0, err
    assert "Warning" not in err
    assert json.loads(out)["top1"] > 0.7
    assert json.loads((trained / "two" / "result.json").read_text())["images"] == 20 * 2 * 128


def test_one_of_two_processes_stops_both(trained: Path) -> None:
    running = torchrun(trained, "--epochs", "100000")
    while not (trained / "two" / "metrics.csv").exists():
        assert running.poll() is None
        time.sleep(0.1)
    children = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    os.kill(int(children[-1]), signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert err.count("interrupted; the state is saved in two") == 2
    assert (trained / "two" / "checkpoint.safetensors").exists()


def refusals() -> list[tuple[tuple[str, ...], str, int]]:
    uniform = ("--network", "tiny.toml", "--uniform", "ternary,4,pixel")
    return [
        (("train",), "give a point's JSON, or --network with one of", 2),
        (("train", "x.json", *uniform), "give a point's JSON, or --network with one of", 2),
        (("train", *uniform, "--float"), "give a point's JSON, or --network with one of", 2),
        (("train", "none.json"), "none.json: ", 1),
        (("train", "float/result.json"), "float/result.json: is no point", 1),
        (("train", *uniform), "tiny: no float network for ", 1),
        (("train", *uniform, "--pretrained", "none"), "none: cannot be read", 1),
        (("train", *uniform, "--pretrained", "quarters.toml"), "is cut or no safetensors", 1),
        (("train", *uniform, "--pretrained", "cut"), "cut: is cut or no safetensors file", 1),
        (("train", *uniform, "--pretrained", "weights.pt"), "cannot be read as weights", 1),
        (("train", *uniform, "--pretrained", OTHER), "is of network 'lenet5', got", 1),
        (("train", *uniform, *FLOAT, "--recipe", "moderm"), "did you mean 'modern'", 1),
        (("train", *uniform, *FLOAT, "--dataset", "nothing"), "unknown dataset 'nothing'", 1),
        (("train", *uniform, *FLOAT, "--data", "away"), "is not in away; give --data FOLDER", 1),
        (("train", *uniform, *FLOAT, "--device", "tpu"), "device must be cpu, cuda or cuda:N", 1),
        (("train", *uniform, *FLOAT, "-o", "float"), "is of a training with another 'scheme'", 1),
        (("train", *uniform, *FLOAT, "-o", "tiny.toml"), "cannot be made", 1),
        (("train", "--network", "tiny.toml", "--float", "--seed", "1", "-o", "float"),
         "is of a training with another seed 0, now 1; give another folder, or remove it", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message", "code"), refusals())
def test_what_cannot_be_trained(
    trained: Path, cli: Run, arguments: tuple[str, ...], message: str, code: int
) -> None:
    whole = Path("float/model.safetensors").read_bytes()
    Path("cut").write_bytes(whole[: len(whole) // 2])
    Path("weights.pt").write_bytes(b"no weights")
    Path("other").mkdir()
    _other_network()
    done = cli(*arguments)
    assert done.code == code and done.out == "" and done.err.count("syq-dse: ") == 1
    assert message in done.err, done.err
    assert not Path("trainings").exists()


def _other_network() -> None:
    from syq_dse.quant.model import Model
    from syq_dse.train import checkpoint

    net = network.load("lenet5")
    document = {"network": {"name": net.name}, "scheme": None}
    checkpoint.save(Path(OTHER), Model(net).named_state(), document)


def test_a_state_of_torch_starts_a_training(trained: Path, cli: Run) -> None:
    state = run.load_float(Path("float/model.safetensors"), network.load("tiny.toml"))
    torch.save({name.replace("/", "."): value for name, value in state.items()}, "float.pt")
    uniform = ("train", "--network", "tiny.toml", "--uniform", "ternary,4,pixel")
    for start, out in (("float/model.safetensors", "a"), ("float.pt", "b")):
        assert cli(*uniform, "--pretrained", start, "-o", out).code == 0
    same = Path("a/integers.safetensors").read_bytes()
    assert Path("b/integers.safetensors").read_bytes() == same


@pytest.fixture
def explored(trained: Path, cli: Run) -> Path:
    done = cli(
        "explore", "--network", "tiny.toml", "--target", "bench.toml", "--bits", "2,4",
        "--weights", "binary,int4", "--intervals", "4", "--out", "run",
    )  # fmt: skip
    assert done.code == 0, done
    return trained


def test_validation_measures_points(explored: Path, cli: Run) -> None:
    before = json.loads(Path("run/front.json").read_text())
    ask = ("validate", "run", "--points", "knee,smallest", "--seeds", "2", *FLOAT)
    done = cli(*ask, "--epochs", "2", "--json")
    assert done.code == 0, done
    answer = json.loads(done.out)
    chosen = {before["named"]["knee"], before["named"]["smallest"]}
    assert {row["point"] for row in answer["points"]} == chosen
    with Path("run/validation.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * len(chosen) and tuple(rows[0]) == validation.COLUMNS
    assert {(row["point"], row["seed"]) for row in rows} == {(p, s) for p in chosen for s in "01"}
    assert all(row["part"] == "validation" and row["measured_images"] == "40" for row in rows)
    front = json.loads(Path("run/front.json").read_text())
    with Path("run/front.csv").open() as stream:
        table = {row["point"]: row for row in csv.DictReader(stream)}
    for old, new in zip(before["points"], front["points"], strict=True):
        if new["point"] not in chosen:
            assert new == old
            continue
        own = [float(row["top1"]) for row in rows if row["point"] == new["point"]]
        assert new["accuracy"] == pytest.approx(np.mean(own))
        assert new["accuracy_source"] == table[new["point"]]["accuracy_source"] == "measured"
        assert front["expected"][new["point"]]["accuracy"] == old["accuracy"]
        half = 12.706 * np.std(own, ddof=1) / np.sqrt(2)
        assert new["accuracy_low"] == pytest.approx(max(0, np.mean(own) - half), abs=1e-4)
    times = {p: p.stat().st_mtime_ns for p in Path("run/trainings").rglob("result.json")}
    again = cli(*ask, "--epochs", "2", "--json")
    assert json.loads(again.out) == answer
    assert times == {p: p.stat().st_mtime_ns for p in Path("run/trainings").rglob("result.json")}
    assert cli("plot", "run").code == 0


def test_validation_goes_on_after_a_failure(explored: Path, cli: Run) -> None:
    ask = ("validate", "run", "--top", "1", "--epochs", "1", "--jobs", "2", *FLOAT)
    moved = shutil.move("data", "away")
    done = cli(*ask)
    assert done.code == 1 and done.err.count("syq-dse: ") == 1
    assert ", seed 0: quarters: 'train-images-idx3-ubyte' is not in " in done.err
    shutil.move(moved, "data")
    done = cli(*ask)
    assert done.code == 0 and "how training scatters needs --seeds 2 or more" in " ".join(
        done.out.split()
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("none",), "none: holds no run"),
        (("run", "--points", "p999"), "p999"),
        (("run", *FLOAT, "--recipe", "nothing"), "unknown recipe 'nothing'"),
        (("run", "--pretrained", "none"), "none: cannot be read"),
    ],
)
def test_what_cannot_be_validated(
    explored: Path, cli: Run, arguments: tuple[str, ...], message: str
) -> None:
    done = cli("validate", *arguments)
    assert done.code == 1 and message in done.err and done.err.count("syq-dse: ") == 1
    assert not Path("run/validation.csv").exists()


def test_a_broken_validation_table(explored: Path, cli: Run) -> None:
    head = ",".join(validation.COLUMNS)
    row = "p001,0,1.5,1,0.1,1,1,1,modern,test,10,abc,0,2"
    for text, message in (
        ("nonsense", "columns must be point, seed, top1"),
        (f"{head}\n{row}\n", "top1 must be 0 to 1"),
        (f'{head}\n"', "cannot be read"),
    ):
        Path("run/validation.csv").write_text(text)
        done = cli("validate", "run", *FLOAT)
        assert done.code == 1 and message in done.err, done.err
        assert Path("run/validation.csv").read_text() == text


def test_a_trained_point_goes_out(explored: Path, cli: Run) -> None:
    options = ("--points", "knee", "--epochs", "1", "--pretrained", "float/model.safetensors")
    assert cli("validate", "run", *options).code == 0
    for kind, endings in {
        "onnx": {".onnx"},
        "qonnx": {".qonnx.onnx"},
        "brevitas": {"_brevitas.py", "_brevitas.safetensors"},
    }.items():
        done = cli("export", "run", "--format", kind, "-o", f"out/{kind}")
        assert done.code == 0, done
        files = [Path(line) for line in done.out.splitlines()]
        assert sorted(files) == sorted(Path(f"out/{kind}").iterdir())
        names = {path.name for path in files}
        assert all(any(name.endswith(ending) for name in names) for ending in endings)
        assert all(name.startswith("tiny-bench-p") or kind == "brevitas" for name in names)
    (path,) = Path("out/onnx").iterdir()
    found = dataset.load(network.load("tiny.toml"))
    images = found.test.batch(torch.arange(100), None).numpy()
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path))
    (logits,) = session.run(["logits"], {"images": images})
    (folder,) = Path("run/trainings").glob("*/result.json")
    result = json.loads(folder.read_text())
    right = (logits.argmax(1) == found.test.labels.numpy()).mean()
    assert right > 0.5 and result["integers"]["same_class"] > 0
    back = cli("import", next(str(p) for p in Path("out/qonnx").iterdir() if "qonnx" in p.name),
               "-o", "back.toml")  # fmt: skip
    assert back.code == 0, back
    assert network.load("back.toml").file.layers == network.load("tiny.toml").file.layers
    point = json.loads(next(Path("run/points").iterdir()).read_text())
    assert point["network"] == "tiny"


def test_what_has_not_been_trained_stays(explored: Path, cli: Run) -> None:
    done = cli("export", "run", "--format", "onnx", "-o", "out")
    assert done.code == 1 and "has not been trained; remedy: `syq-dse validate run" in done.err
    assert cli(*QUANTISED[:-2], "--epochs", "1", "-o", "other").code == 0
    done = cli("export", "run", "--format", "onnx", "--training", "other", "-o", "out")
    assert done.code == 1 and "other: is of another scheme than point tiny-bench-p" in done.err
    done = cli("export", "run", "--format", "onnx", "--training", "float", "-o", "out")
    assert done.code == 1 and "float layers" in done.err
    done = cli("export", "run", "--format", "onnx", "--training", "nowhere", "-o", "out")
    assert done.code == 1 and "nowhere: has no result.json" in done.err
    assert not Path("out").exists()
