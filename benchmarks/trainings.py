"""Trainings side by side for the studies of this folder, each a process of one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from syq_dse.search.process import MALLOC

T, R = TypeVar("T"), TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Workers:
    """How many trainings run at a time, and where."""

    jobs: int
    device: str  # cpu or cuda

    def train(self, folder: Path, arguments: list[str]) -> dict[str, float]:
        """Top-1 and loss of `syq-dse train` with these arguments; a folder that is done is read."""
        command = [sys.executable, "-m", "syq_dse", "train", *arguments, "--json"]
        environment = {"GLIBC_TUNABLES": MALLOC, **os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [*command, "--device", self.device, "-o", str(folder)],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{folder}: {done.stderr.splitlines()[-1]}")
        result = json.loads(done.stdout)
        return {"top1": result["top1"], "loss": result["loss"]}

    def map(self, job: Callable[[T], R], jobs: Iterable[T]) -> Iterator[R]:
        """The result of each, in order."""
        with ThreadPoolExecutor(self.jobs) as pool:
            yield from pool.map(job, jobs)
