"""The words that the public API takes, as types that editors complete and checkers check."""

from __future__ import annotations

from typing import Literal

#: How the source's tensors are aligned before they are resampled.
AlignKind = Literal["auto", "none", "permute", "select", "rotate"]

#: Where the weights are computed.
DeviceName = Literal["auto", "cpu", "cuda"]

#: The methods that are built in; installed packages may bring others.
MethodName = Literal["bert2bert", "bot", "front", "interleave", "net2net", "scratch", "stack", "ws"]

#: What the weights of a model are quantised to.
QuantiseKind = Literal["int8", "int4", "fp16"]
