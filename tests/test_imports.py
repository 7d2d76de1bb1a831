"""The modules stand in the order of the flow, and the heavy libraries stay in their packages."""

from __future__ import annotations

import ast
import graphlib
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import syq_dse

ROOT = Path(syq_dse.__file__).parent

ORDER = [  # the modules and packages under syq_dse; each imports only what stands above it
    "errors",
    "records",
    "cells",
    "catalogue",
    "network",
    "scheme",
    "target",
    "technology",
    "cost",
    "quant",
    "rtl",
    "train",
    "accuracy",
    "search",
    "interop",
    "report",
    "cli",
    "__main__",
]

HOMES = {  # a library: the packages that may import it
    "torch": {"quant", "train", "accuracy", "interop"},
    "optuna": {"search"},
    "amaranth": {"rtl"},
    "pyosys": {"rtl"},
    "onnx": {"interop"},
    "click": {"cli"},
}

MODULES = {
    ".".join(("syq_dse", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(ROOT.rglob("*.py"))
}


def imports(source: str) -> Iterator[str]:
    """Every module that a source text imports, wherever the import stands."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                assert module and not level, "imports are absolute"
                for alias in names:
                    inner = f"{module}.{alias.name}"
                    yield inner if inner in MODULES else module


IMPORTS = {module: set(imports(path.read_text("utf-8"))) for module, path in MODULES.items()}


def room(module: str) -> str:
    """The module or package right under syq_dse: `cost` of `syq_dse.cost.units.mac`."""
    return module.split(".")[1] if "." in module else ""


def test_imports_are_found_wherever_they_stand() -> None:
    source = (
        "import json, os.path\n"
        "from syq_dse import __version__, network as net\n"
        "from syq_dse.network import Conv\n"
        "def lazy():\n"
        "    import torch.nn as nn\n"
        "if TYPE_CHECKING:\n"
        "    from optuna import Study\n"
    )
    found = {"json", "os.path", "syq_dse", "syq_dse.network", "torch.nn", "optuna"}
    assert set(imports(source)) == found


def test_every_module_has_a_place_in_the_order() -> None:
    assert {room(module) for module in MODULES} <= {"", *ORDER}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_what_stands_above_it(module: str) -> None:
    ranks = {name: rank for rank, name in enumerate(["", *ORDER])}
    own = room(module)
    below = {
        name
        for name in IMPORTS[module]
        if name.split(".")[0] == "syq_dse" and room(name) != own and ranks[room(name)] >= ranks[own]
    }
    assert not below


def test_no_modules_import_each_other_in_a_circle() -> None:
    within = {module: names & MODULES.keys() for module, names in IMPORTS.items()}
    assert len(list(graphlib.TopologicalSorter(within).static_order())) == len(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_heavy_libraries_stay_in_their_packages(module: str) -> None:
    libraries = {name.split(".")[0] for name in IMPORTS[module]}
    assert not {name for name in libraries & HOMES.keys() if room(module) not in HOMES[name]}


COMMANDS = ["--help", "targets", "estimate --network lenet5 --target zcu102 --uniform binary,2,row"]


@pytest.mark.parametrize("command", COMMANDS)
def test_quick_commands_load_no_heavy_library(command: str) -> None:
    script = (
        "import sys\n"
        "from syq_dse.cli import main\n"
        "try:\n"
        "    main()\n"
        "finally:\n"
        f"    loaded = sys.modules.keys() & {set(HOMES) - {'click'}}\n"
        "    print('loaded:', *sorted(loaded), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command.split()],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "loaded:\n")
    assert done.stdout


@pytest.mark.parametrize("path", sorted(ROOT.parent.glob("benchmarks/*.py")), ids=lambda p: p.stem)
def test_benchmarks_import_what_there_is(path: Path) -> None:
    """They take too long to be run here; a name that has moved shows all the same."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("syq_dse"):
            module = importlib.import_module(str(node.module))
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                assert hasattr(module, alias.name) or inner in MODULES, inner
