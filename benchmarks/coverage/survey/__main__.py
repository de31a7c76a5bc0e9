"""The command: ``python -m benchmarks.coverage.survey timm|transformers [TEXT]``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from rich.console import Console

CASES = Path(__file__).resolve().parents[1] / "cases"


def main() -> int:
    """Survey a library, or the families whose name contains TEXT, and keep what was found."""
    library, wanted = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    survey = importlib.import_module(f"benchmarks.coverage.survey.{library}_families").survey
    path = CASES / f"{library}_families.json"
    known = {entry["family"]: entry for entry in json.loads(path.read_text())} if path.exists() else {}
    console = Console(stderr=True)
    for entry in survey(wanted):
        known[entry["family"]] = entry
        console.print(str(entry)[:200], markup=False, highlight=False)
        lines = ",\n".join(json.dumps(known[name], sort_keys=True) for name in sorted(known))
        path.write_text(f"[\n{lines}\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
