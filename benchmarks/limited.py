"""Commands under a limit of memory: the strictest kind of limit that the machine lets one set.

* ``cgroup``: a scope of systemd with ``MemoryMax`` and no swap (cgroup v2). Everything counts, the file cache that the
  command fills as well, but the system drops that before it ends a command.
* ``RLIMIT_DATA``: memory of the process' own (Linux counts heap and private writable maps), not the pages of files that
  it maps to read; those show in the peak of resident memory. ``RLIMIT_AS`` would count every byte of a mapped file.
* ``none``: nothing could be set; the peak of resident memory alone tells.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

_SET_AND_GO: Final = (
    "import os, resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[1]),) * 2); "
    "os.execvp(sys.argv[2], sys.argv[2:])"
)


@dataclass(frozen=True, slots=True)
class Limit:
    """What holds a command down, and to how many bytes."""

    kind: Literal["cgroup", "RLIMIT_DATA", "none"]
    nbytes: int

    def around(self, command: Sequence[str]) -> list[str]:
        """The command that runs another one under the limit, in the same process."""
        if self.kind == "cgroup":
            return [*_scope(self.nbytes), *command]
        if self.kind == "RLIMIT_DATA":
            return [sys.executable, "-c", _SET_AND_GO, str(self.nbytes), *command]
        return [*command]


def strictest(nbytes: int) -> Limit:
    """The strictest limit that can be set here: tried with a command that does nothing."""
    if shutil.which("systemd-run") and _works([*_scope(nbytes), "true"]):
        return Limit("cgroup", nbytes)
    limit = Limit("RLIMIT_DATA", nbytes)
    works = sys.platform == "linux" and _works(limit.around([sys.executable, "-c", "pass"]))
    return limit if works else Limit("none", nbytes)


def _scope(nbytes: int) -> list[str]:
    user = [] if hasattr(os, "geteuid") and os.geteuid() == 0 else ["--user"]
    held = [f"--property=MemoryMax={nbytes}", "--property=MemorySwapMax=0"]
    return ["systemd-run", *user, "--scope", "--quiet", *held, "--"]


def _works(command: Sequence[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
