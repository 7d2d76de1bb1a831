"""Help: every command has it with an example, and every example runs as it stands."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from onnx import TensorProto, helper

from syq_dse.cli import COMMANDS
from syq_dse.cli.explore import command as explore
from syq_dse.search.problem import OBJECTIVES
from syq_dse.search.samplers import SAMPLERS
from syq_dse.search.study import Study

from .workbench import REPOSITORY


def example(text: str) -> list[str]:
    """The arguments of the one example in a help text."""
    (line,) = re.findall(r"Example: syq-dse (.*)", text)
    return shlex.split(line)


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_group_lists_every_command(cli, option: str) -> None:
    done = cli(option)
    assert (done.code, done.err) == (0, "")
    listed = done.out.split("Commands:\n")[1]
    assert re.findall(r"^  (\S+) ", listed, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(cli, name: str) -> None:
    done = cli(name, "--help")
    assert (done.code, done.err) == (0, "")
    assert example(done.out)[0] == name
    assert max(map(len, done.out.splitlines())) <= 100


SYNTHESISES = {"verify", "calibrate"}
"""Commands whose examples take minutes; what they do is tested in tests/rtl."""


TRAINS = {"train", "validate", "profile"}
"""Commands whose examples take minutes and need a data set."""


PROGRESS = re.compile(r"\d+/\d+ .*, \d+ s")
"""What a busy machine, on which an example takes long, says meanwhile."""


def small_onnx() -> bytes:
    """The file of the example of import: a conv, and a mean over its pixels."""
    shapes = {"x": (1, 1, 4, 4), "y": None}
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items())
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], kernel_shape=[3, 3]),
        helper.make_node("GlobalAveragePool", ["a"], ["y"]),
    ]
    weight = helper.make_tensor("w", TensorProto.FLOAT, (2, 1, 3, 3), [1.0] * 18)
    model = helper.make_model(
        helper.make_graph(nodes, "small", [x], [y], [weight]),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    return bytes(model.SerializeToString())


def test_every_example_runs(cli, workplace: Path) -> None:
    (workplace / "small.onnx").write_bytes(small_onnx())
    examples = [example(cli("--help").out)]
    quick = [name for name in COMMANDS if name not in SYNTHESISES | TRAINS]
    examples += [example(cli(name, "--help").out) for name in quick]
    for arguments in examples:  # the first leaves the run that plot and export name
        done = cli(*arguments)
        assert done.code == 0, arguments
        said = [
            line for line in done.err.splitlines() if not line.startswith("note: no batch-norm")
        ]
        assert all(PROGRESS.fullmatch(line) for line in said), arguments
        assert done.out
        if "--json" in arguments:
            json.loads(done.out)
    assert {path.name for path in (workplace / "runs").iterdir()} == {
        "fmnist-vgg-zcu102",
        "cnv-pynq-z1",
    }
    assert len(list((workplace / "exported").iterdir())) == 1
    for name in TRAINS:  # as far as its data, which are not there
        done = cli(*example(cli(name, "--help").out), "--data", "away")
        said = [line for line in done.err.splitlines() if not PROGRESS.fullmatch(line)]
        assert done.code == 1 and len(said) == 1
        assert "fashion-mnist: 'train-images-idx3-ubyte' is not in " in done.err


def test_defaults_in_the_help_of_explore_are_those_of_a_study() -> None:
    study = Study(target="zcu102")
    shown = {
        parameter.name: match.group(1)
        for parameter in explore.params
        if (match := re.search(r"\[(.*)\]$", getattr(parameter, "help", None) or ""))
    }
    assert shown["name"] == study.network
    assert shown["objectives"] == ", ".join(study.objectives)
    for name in ("limit", "sampler", "trials", "seed"):
        assert shown[name] == str(getattr(study, name))
    for name in ("weights", "granularity", "scale", "bits"):
        assert shown[name] == ",".join(map(str, getattr(study.space, name)))


def test_help_of_explore_lists_objectives_and_samplers(cli) -> None:
    text = " ".join(cli("explore", "--help").out.split())
    listed = re.search(r"Objectives: ([^.]*)\.", text)
    assert listed is not None
    assert sorted(listed.group(1).split(", ")) == sorted(OBJECTIVES)
    assert f"exact, {', '.join(SAMPLERS)} or all." in text


@pytest.mark.parametrize(
    ("library", "extra", "arguments"),
    [
        ("torch", "train", ("train", "--network", "lenet5", "--float")),
        ("amaranth", "rtl", ("verify", "runs/x")),
    ],
)
def test_a_library_that_is_not_installed(
    library: str, extra: str, arguments: tuple[str, ...]
) -> None:
    """As a user of the core packages sees it: one line, with the remedy."""
    code = (
        f"import sys; sys.modules['{library}'] = None; sys.argv = {['syq-dse', *arguments]!r}; "
        "from syq_dse.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"syq-dse: {library} is not installed, which this command needs; "
        f"pip install 'syq-dse[{extra}]'\n"
    )
