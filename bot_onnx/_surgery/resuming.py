"""Whose work it is that a killed run has left: a key of all that the bytes of the tensors follow from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bot_onnx._onnxfile.byte_layout import Layout, layout
from bot_onnx._onnxfile.kept_work import KeptWork
from bot_onnx._progress import stage
from bot_onnx._resample.parallel import arithmetic
from bot_onnx._shards import External
from bot_onnx._surgery.planner import Prepared
from bot_onnx._surgery.stored import plan_record
from bot_onnx._surgery.types import Plan

#: Of a plan, what no byte of a tensor follows from.
_ASIDE: Final = ("source", "name", "notes", "costs", "proof", "promise", "weights_sha256", "device")


@contextmanager
def kept_work(prepared: Prepared, output: Path, external: External, device: str) -> Iterator[KeptWork]:
    """The work on an output that is kept, as far as it is of this plan.

    Args:
        prepared: the plan. output: the file to be. external: where its weights lie. device: of the arithmetic.

    Raises:
        OutputError: it cannot be kept; the message says why.
    """
    stage("looking at what is finished")
    places = layout(prepared.proto, prepared.slots, output.name, external=external)
    with KeptWork(output.absolute(), work_key(prepared.plan, places, device), places) as kept:
        yield kept


def work_key(plan: Plan, places: Layout, device: str) -> str:
    """Hex SHA-256 of the source, the plan, the place of every tensor, and what arithmetic is done on.

    Args:
        plan: of the run. places: of its output. device: where the weights are computed.
    """
    told = {key: value for key, value in plan_record(plan).items() if key not in _ASIDE}
    told["places"] = [[name, place.file, place.offset, place.nbytes] for name, place in places.placements.items()]
    told["arithmetic"] = [device, arithmetic()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
