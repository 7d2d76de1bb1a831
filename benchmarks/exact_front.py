"""Time of the exact front, and what an unseeded sampler reaches of it in as many seconds.

taskset -c 0,1 python benchmarks/exact_front.py [NETWORK] [TARGET]
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

from syq_dse.search import front, run, samplers
from syq_dse.search.study import Study

TRIALS = 500


def main() -> None:
    name, board = sys.argv[1:3] if len(sys.argv) > 2 else ("resnet18", "zcu102")
    start = time.perf_counter()
    problem = run.problem_of(run.resolved(Study(network=name, target=board)))
    priced = time.perf_counter()
    exact = front.exact_front(problem)
    solved = time.perf_counter()
    print(f"{name} on {board}: table {priced - start:.1f} s, exact front {solved - priced:.1f} s")
    print(f"together {solved - start:.1f} s (wanted for resnet18 on zcu102: under 15 s)")
    reference = front.reference_point(problem, exact)
    whole = front.hypervolume(problem, exact, reference)
    print(f"{len(exact.values)} points, hypervolume {whole:.6g}")
    nothing = exact.designs[:0]
    for sampler in ("nsga2", "tpe", "random"):
        start = time.perf_counter()
        designs = samplers.propose(problem, sampler, 0, TRIALS, nothing)
        reached = front.hypervolume(problem, front.front_of(problem, designs), reference)
        spent = time.perf_counter() - start
        print(f"{sampler}, unseeded, {TRIALS} trials: {reached / whole:.4f} of it in {spent:.0f} s")


if __name__ == "__main__":
    main()
