"""``python -m tests.system.kill --kills 300``: kill commands at random, and count what is left."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.system.kill.harness import kill
from tests.system.kill.jobs import JOBS, QUICK


def run() -> int:
    """Parse, kill, tell; exit code 1 if anything was lost, mixed or left."""
    parser = argparse.ArgumentParser(prog="python -m tests.system.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(QUICK))
    parser.add_argument("--folder", type=Path, help="on the disk to be tried; default: the one for temporary files")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        tally = kill(Path(folder), given.jobs, given.kills, given.seed, lambda fault: print(fault, file=sys.stderr))
    print(json.dumps(asdict(tally), indent=2))
    return 1 if tally.faults else 0


if __name__ == "__main__":
    sys.exit(run())
