"""One training as a process of its own: started, listened to, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from syq_dse.errors import InputError
from syq_dse.train import result
from syq_dse.train.result import RESULT

PARENT = "SYQ_DSE_PARENT"
"""Of train.training, which needs torch: a test holds them equal."""

MALLOC = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:"
    "glibc.malloc.trim_threshold=17179869184:glibc.malloc.top_pad=268435456"
)
"""Activations of a step come and go: huge pages that are kept make training a tenth faster."""

OURS = "syq-dse: "
"""How a line begins that says what went wrong."""

Answer = dict[str, Any] | str
"""A result, or what went wrong."""


@dataclass
class Process:
    """A training that runs, or has ended."""

    popen: subprocess.Popen[str]
    folder: Path
    processes: int = 1  # of torchrun
    said: str = "..."  # how far it is
    reason: str = ""
    listener: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def _listen(self) -> None:
        assert self.popen.stderr is not None
        with self.popen.stderr as lines:
            for line in lines:
                text = line.strip()
                if text.startswith(OURS) or not self.reason.startswith(OURS):
                    self.reason = text
                self.said = text.partition("steps, ")[2] or self.said

    def ended(self, timeout: float) -> bool:
        """Whether it ends within so many seconds."""
        try:
            self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """Let it save its state and end."""
        for pid in self._trainers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        self.popen.wait()

    def _trainers(self) -> list[int]:
        """The processes that train: torchrun itself would end its own with SIGTERM."""
        pid = self.popen.pid
        if self.processes == 1 or self.popen.poll() is not None:
            return [pid]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
        return [int(child) for child in children] or [pid]

    @property
    def killed(self) -> bool:
        """Whether a signal ended it, such as the kernel's when memory is full."""
        return self.popen.returncode < 0

    def answer(self) -> Answer:
        """What came out, after the end."""
        self.listener.join()
        code = self.popen.returncode
        if code:
            return self.reason.removeprefix(OURS) or f"ended with exit code {code}"
        try:
            return result.read(self.folder / RESULT)
        except InputError as error:
            return str(error)


def start(arguments: Sequence[str], folder: Path, processes: int = 1) -> Process:
    """Start `syq-dse train` with some arguments and a folder.

    Of one thread: threads of several processes would wait for each other. It ends, its state saved,
    however this process ends.

    Args:
        processes: of torchrun, a GPU each; 1: without torchrun.
    """
    launcher = [] if processes == 1 else [
        "-m", "torch.distributed.run", "--nproc-per-node", str(processes),
        "--master-port", "0", "--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0",
    ]  # fmt: skip
    command = [
        sys.executable, *launcher, "-m", "syq_dse", "train", *arguments,
        "--threads", "1", "-o", str(folder),
    ]  # fmt: skip
    environment = {"GLIBC_TUNABLES": MALLOC, **os.environ, "OMP_NUM_THREADS": "1"}
    environment[PARENT] = str(os.getpid())
    popen = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches it from here, once
    )
    return Process(popen, folder, processes)
