"""Mutated files and arguments: every command says one line, or works; none shows a traceback."""

from __future__ import annotations

import collections
import gc
import itertools
import os
import random
from pathlib import Path

import pytest

from . import mutations

SEEDS, CASES = 5, 400


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> mutations.Bench:
    top = tmp_path_factory.mktemp("mutations")
    place = top / "a" / "b" / "here"  # what climbs stays in the folder of the test
    place.mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        _in(place, patch)
        mutations.prepare(place)
    return mutations.Bench(place, top / "kept")


def _in(place: Path, patch: pytest.MonkeyPatch) -> None:
    patch.chdir(place)
    patch.setenv("XDG_CACHE_HOME", str(place.parent / "cache"))
    patch.setattr(os, "fsync", lambda handle: None)  # a busy disk takes a second for each


@pytest.mark.parametrize("seed", range(SEEDS))
def test_mutated_files_and_arguments_give_one_line(
    seed: int, bench: mutations.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    _in(bench.place, monkeypatch)
    codes: collections.Counter[int] = collections.Counter()
    for case in itertools.islice(bench.cases(random.Random(seed)), CASES):
        try:
            with mutations.limited():
                done = mutations.called(case.arguments)
        except BaseException as error:
            raise AssertionError(case) from error
        mutations.check(done, case.arguments)
        codes[done.code] += 1
    gc.collect()
    assert codes[1] > CASES / 4 and codes[2] > CASES / 20 and codes[0] > CASES / 20
