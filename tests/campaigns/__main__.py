"""Try to break the program: `python tests/campaigns soak`, `memory` or `fuzz`; `--help` lists the options."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":  # started by its folder: imports begin one level up
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from campaigns.run import CAMPAIGNS, DRAWN, run_campaign


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one campaign and print what it found; exit code 1 when something broke."""
    parser = argparse.ArgumentParser(prog="python tests/campaigns", description=__doc__)
    parser.add_argument("name", choices=sorted(CAMPAIGNS))
    parser.add_argument("--size", choices=("tiny", "small", "published"), default="small")
    parser.add_argument("--rounds", type=int, help="how many runs soak kills, or files fuzz damages")
    parser.add_argument("--seed", type=int, help="of what soak and fuzz draw; default: a new one, reported")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    chosen = parser.parse_args(arguments)
    if chosen.name not in DRAWN and (chosen.rounds is not None or chosen.seed is not None):
        parser.error(f"{chosen.name} draws nothing: --rounds and --seed are for {' and '.join(DRAWN)}")
    found = run_campaign(
        chosen.name,
        size=chosen.size,
        rounds=chosen.rounds,
        seed=chosen.seed,
        threads=chosen.threads,
        tell=lambda text: print(text, file=sys.stderr),
    )
    if chosen.json:
        print(json.dumps(found.to_json()))
    else:
        for row in [found.columns, *found.cells()]:
            print("  ".join(f"{cell:>14}" for cell in row))
        for name, value in {**found.settings, **found.machine}.items():
            print(f"{name}: {value}")
    for fault in found.faults:
        print(f"fault: {fault}", file=sys.stderr)
    return 1 if found.faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
