"""Start-up of the command line, against importing what any such tool imports.

    python benchmarks/startup.py

The baseline is `python -c "import numpy, pandas, click"`; runs are interleaved.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

REPEATS = 9

COMMANDS = {
    "syq-dse --help": ["-m", "syq_dse", "--help"],
    "syq-dse targets": ["-m", "syq_dse", "targets"],
    "syq-dse estimate resnet18": [
        *("-m", "syq_dse", "estimate", "--network", "resnet18", "--target", "zcu102"),
        *("--uniform", "ternary,4,pixel", "--json"),
    ],
}


def seconds(arguments: list[str]) -> float:
    """Wall time of one Python process [s]."""
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> None:
    baseline = ["-c", "import numpy, pandas, click"]
    seconds(baseline)
    for name, arguments in COMMANDS.items():
        seconds(arguments)
        pairs = [(seconds(arguments), seconds(baseline)) for _ in range(REPEATS)]
        ratio = statistics.median(a / b for a, b in pairs)
        print(f"{name}: {ratio:.2f} times the baseline (wanted: at most 2.5)")


if __name__ == "__main__":
    main()
