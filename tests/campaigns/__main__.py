"""Try to break the program, or study it: `python tests/campaigns WHAT`, from the checkout; `--help` says more.

`soak` kills training runs at random instants and resumes them, `extract` extractions; `memory` watches whether a
training run grows; `fuzz` reads damaged files of every kind; `regions` compares kinds of regions on pictures of known
objects, `scenes` the regions of `extract` with those of `make-scenes`. Each prints a table and all faults; the exit
code is 1 if there are any.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # started by its folder: imports begin one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from campaigns.run import CAMPAIGNS, RANDOM, WITH_DATA, run_campaign


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one campaign and print its result; the exit code is 1 if there are faults."""
    parser = argparse.ArgumentParser(
        prog="python tests/campaigns", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=sorted(CAMPAIGNS))
    parser.add_argument(
        "--size", choices=("tiny", "small", "published"), default="small", help="how long; seconds for tiny"
    )
    parser.add_argument("--rounds", type=int, help="number of runs that are killed, or of files that fuzz damages")
    parser.add_argument("--seed", type=int, help="of random draws; default: a new one, which is reported")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="of regions: unpacked npm packages, see regions/sprites.py"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    chosen = parser.parse_args(arguments)
    if chosen.name not in RANDOM and (chosen.rounds is not None or chosen.seed is not None):
        parser.error(f"{chosen.name} is not random: --rounds and --seed are for {' and '.join(RANDOM)}")
    if chosen.name not in WITH_DATA and chosen.data is not None:
        parser.error(f"{chosen.name} makes its data itself: --data is for {' and '.join(WITH_DATA)}")
    found = run_campaign(
        chosen.name,
        size=chosen.size,
        rounds=chosen.rounds,
        seed=chosen.seed,
        threads=chosen.threads,
        data=chosen.data,
        notify=lambda text: print(text, file=sys.stderr),
    )
    if chosen.json:
        print(json.dumps(found.to_json()))
    else:
        for row in [found.columns, *found.cells()]:
            print("  ".join([f"{row[0]:<11}", *(f"{cell:>13}" for cell in row[1:])]))
        print(*(f"{name}: {value}" for name, value in {**found.settings, **found.machine}.items()), sep=", ")
    for fault in found.faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if found.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
