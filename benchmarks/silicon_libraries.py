"""What is the library, what the formula: one library's prices on the units of another.

    python benchmarks/silicon_libraries.py

Reads the shipped samples, units drawn alike in all libraries. Of units of 200 gate equivalents and
more: how far their equivalents lie apart between libraries, how far each library's own prices are
off on units that they had not seen, and how far those of another library are.
"""

from __future__ import annotations

import itertools

import numpy as np

from syq_dse import catalogue
from syq_dse.cost import gates
from syq_dse.rtl import gate_calibration


def main() -> None:
    names = catalogue.names("hwmodels", "asic")
    shipped = catalogue.folder("hwmodels") / gates.FOLDER
    runs = {
        name: {
            (run.unit, run.run): run
            for run in gate_calibration.read(shipped / f"{name}_samples.csv")
        }
        for name in names
    }
    print("| unit | between libraries % | own prices off % | another library's off % |")
    print("| --- | --- | --- | --- |")
    for unit in gates.PRICED:
        common = set.intersection(*(set(of) for of in runs.values()))
        keys = [
            key
            for key in sorted(common)
            if key[0] == unit
            and all(of[key].gates >= gate_calibration.SMALL for of in runs.values())
            and len({str(of[key].parameters) for of in runs.values()}) == 1
        ]
        made = np.array([[runs[name][key].gates for name in names] for key in keys])
        apart = np.std(np.log(made), axis=1).mean()
        own = np.mean(
            [[abs(of[key].held_out / of[key].gates - 1) for key in keys] for of in runs.values()]
        )
        others = []
        for one, other in itertools.permutations(names, 2):
            prices = gates.load(one)
            others += [
                abs(float(prices.of(unit, runs[other][key].features)) / runs[other][key].gates - 1)
                for key in keys
            ]
        print(
            f"| `{unit}` | {100 * apart:.1f} | {100 * own:.1f} | {100 * np.mean(others):.1f} | "
            f"{len(keys)} units"
        )


if __name__ == "__main__":
    main()
