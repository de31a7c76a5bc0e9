"""The command: ``python -m benchmarks.coverage.survey timm|transformers [TEXT] [--again]``."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from rich.console import Console

CASES = Path(__file__).resolve().parents[1] / "cases"


def main() -> int:
    """Survey the families of a library that are not known yet (or all of them), and keep what was found."""
    given = [argument for argument in sys.argv[1:] if argument != "--again"]
    library, wanted = given[0], given[1] if len(given) > 1 else ""
    survey = importlib.import_module(f"benchmarks.coverage.survey.{library}_families").survey
    path = CASES / f"{library}_families.json"
    known = {entry["family"]: entry for entry in json.loads(path.read_text())} if path.exists() else {}
    console = Console(stderr=True)
    for entry in survey(wanted, () if "--again" in sys.argv else tuple(known)):
        known[entry["family"]] = entry
        console.print(str(entry)[:200], markup=False, highlight=False)
        lines = ",\n".join(json.dumps(known[name], sort_keys=True) for name in sorted(known))
        path.write_text(f"[\n{lines}\n]\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
