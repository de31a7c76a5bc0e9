"""Load what the dynamo exporter loads when it is first used, by using it."""

import io

import torch

from benchmarks.coverage.exporting import quiet


def warm_up() -> None:
    """Export one linear layer."""
    with quiet():
        torch.onnx.export(
            torch.nn.Linear(2, 2), (torch.zeros(1, 2),), io.BytesIO(), dynamo=True, verbose=False, opset_version=18
        )


warm_up()
