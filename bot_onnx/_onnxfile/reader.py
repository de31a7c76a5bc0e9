"""Opening a model: everything about the file that can be refused is refused here, and no weight is read.

``open_model`` gives a :class:`Source`: the model's message without the values of large tensors (see
:mod:`bot_onnx._onnxfile.skeleton_scan`), and lazy access to these values wherever they lie, inside the file or beside
it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, TypeVar

import numpy as np
import onnx
import onnx_ir as ir
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from bot_onnx._onnxfile import finite, skeleton_scan
from bot_onnx._onnxfile.addresses import check_here
from bot_onnx._onnxfile.data_files import check_seal
from bot_onnx._onnxfile.finite import NonFinite
from bot_onnx._onnxfile.input_overrides import Given, attach
from bot_onnx._onnxfile.limits import check_classical, check_functions, check_loops, check_ports, check_weights
from bot_onnx._onnxfile.mirror import Mirror
from bot_onnx._onnxfile.references import check_references
from bot_onnx._onnxfile.repairs import repair
from bot_onnx._onnxfile.stored_tensor import StoredTensor
from bot_onnx._onnxfile.tensor_protos import (
    all_tensors,
    check_typed,
    expected,
    external_place,
    holds_values,
    one_line,
    wrong_length,
)
from bot_onnx._onnxfile.texts import names_are_text
from bot_onnx._onnxfile.weight_files import MappedTensor, WeightFile, resolve
from bot_onnx.errors import GraphError

T = TypeVar("T")

REPAIRS: Final = "bot_onnx.repairs"  #: key in the metadata of a model under which its repairs are told

_HASH_BYTES: Final = 1 << 20

_RUNTIME_DOMAIN: Final = "com.microsoft"
# Opset from which ONNX has an op that onnxruntime's optimiser writes under ONNX's name in any opset.
_OWN_SINCE: Final = {"SimplifiedLayerNormalization": 1 << 30, "LayerNormalization": 17}

# First bytes of what people pass by mistake, and what to do about it.
_MAGIC: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"PK\x03\x04", "a zip archive or a PyTorch checkpoint: export the model with torch.onnx.export first"),
    (0, b"\x80\x02", "a Python pickle: export the model with torch.onnx.export first"),
    (0, b"\x80\x04", "a Python pickle: export the model with torch.onnx.export first"),
    (0, b"\x89PNG", "a PNG image: name the .onnx file"),
    (0, b"\x1f\x8b", "a gzip archive: unpack it first"),
    (0, b"\x89HDF", "an HDF5 file: convert the model with tf2onnx first"),
    (0, b"GGUF", "a GGUF file: export the original model to ONNX"),
    (4, b"ORTM", "in onnxruntime's own format: use the .onnx file it was made from"),
    (4, b"TFL3", "a TFLite model: convert it with tf2onnx first"),
    (8, b'{"', "a safetensors file: export the model to ONNX"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the model: run `git lfs pull`"),
)


class Source:
    """An opened model file; a context manager that closes it.

    Attributes:
        path: the file as it was named.
        given: what the model is to be run on; None: it is made up.
        repairs: what was mended in ``proto``, in sentences (see :mod:`bot_onnx._onnxfile.repairs`).
        proto: the model without the values of large tensors: those have ``data_location = EXTERNAL`` and name a file
            in the model's folder (the model file itself for values stored inline), an offset and a length.
        uses_external_data: whether any values lie outside the model file.
        size_bytes: of the model file and its external data files together.
        files: real paths of these files, the model's first.
        tensors: every tensor by name. Initializers of the main graph have their own name, constants the name of
            their node's output; what lives in a subgraph or function and shares a name gets a suffix ``#2``, ``#3``…
    """

    def __init__(
        self, path: Path, name: Path | None = None, given: Given | None = None, mirror: Mirror | None = None
    ) -> None:
        self.path = name or path
        self.given = given
        self._opened = path
        self._by_location: dict[str, WeightFile] = {}
        self._mirror = mirror
        self._model_file = WeightFile(_existing(path)) if mirror is None else mirror.open()
        try:
            # Names that are not UTF-8 cannot stand in a message; this one is only a key.
            own = os.fsencode(path.name).decode("utf-8", "replace")
            self._by_location[own] = self._model_file
            self.proto = _skeleton(self._model_file, self.path, own)
            check_classical(self.proto, str(self.path))
            check_functions(self.proto, str(self.path))
            check_loops(self.proto, str(self.path))
            self.repairs = repair(self.proto)
            if mirror is not None:
                mirror.prefetch(self.proto)
            self.tensors = self._index()
            _check_structure(self.proto, self.path)
        except BaseException:
            self.close()
            raise
        unique = {file.path: file for file in self._by_location.values()}
        self.files: tuple[Path, ...] = tuple(unique)
        self.size_bytes = sum(file.size for file in unique.values())
        self.uses_external_data = len(unique) > 1

    def model(self) -> ir.Model:
        """Build the intermediate representation, whose large tensors read from the file when asked for.

        Raises:
            GraphError: onnx-ir does not understand the message.
        """
        try:
            model = ir.serde.deserialize_model(self.proto)
        except Exception as error:  # onnx-ir wraps whatever it meets
            raise GraphError(f"{self.path} cannot be understood: {one_line(error)}; export it again") from error
        model.meta[REPAIRS] = self.repairs
        attach(model, self.given)
        roots: list[ir.Graph | ir.Function] = [model.graph, *model.functions.values()]
        for graph in (model.graph, *(inner for root in roots for inner in root.subgraphs())):
            for value in graph.initializers.values():
                value.const_value = self._mapped(value.const_value)
        for root in roots:
            for node in ir.traversal.RecursiveGraphIterator(root):
                for name, attribute in list(node.attributes.items()):
                    # Not as_tensor(): it checks against a protocol, which takes longer than all the rest of this.
                    if attribute.type == ir.AttributeType.TENSOR and isinstance(attribute.value, ir.ExternalTensor):
                        node.attributes[name] = ir.AttrTensor(name, self._mapped(attribute.value))
                    elif attribute.type == ir.AttributeType.TENSORS and not attribute.is_ref():
                        node.attributes[name] = ir.AttrTensors(name, [*map(self._mapped, attribute.as_tensors())])
        return model

    def check_resizable(self) -> None:
        """Refuse a model without weights, before any time is spent on it.

        Raises:
            GraphError: no tensor holds several numbers that could be resampled.
        """
        sizes = ((prod(stored.shape), stored.dtype) for stored in self.tensors.values())
        check_weights(self.proto, sizes, str(self.path))

    def tensor(self, name: str) -> NDArray[np.generic]:
        """Show the values of a tensor, read-only; a view of the file's map wherever the data type allows.

        Raises:
            GraphError: there is no tensor of this name, or the file has become shorter.
        """
        try:
            return self.tensors[name].numpy()
        except KeyError:
            raise GraphError(f"{self.path} has no tensor {name!r}; `bot-onnx inspect` lists them") from None

    def find_nonfinite(self, probed: Mapping[str, bool] = MappingProxyType({})) -> NonFinite | None:
        """Search all weights for NaN and infinity, in the order of :attr:`tensors`, and return the first find.

        What holds such values on purpose is passed over: attention masks (0 and -inf only) and single bounds.
        ``probed`` says of tensors whether they hold any at all: those need not be read for it.
        """
        scratch = np.empty(finite.CHUNK_BYTES, np.uint8)
        for name, stored in self.tensors.items():
            if not finite.may_hold_nonfinite(stored.dtype):
                continue
            if probed[name] if name in probed else finite.suspicious(stored.chunks(scratch), stored.dtype):
                tally = finite.Tally(stored.dtype)
                for chunk in stored.chunks(scratch):
                    tally.add(chunk)
                if not tally.harmless:
                    return NonFinite(name, tally.bad)
        return None

    def check(self, *, allow_nonfinite: bool = False) -> None:
        """Read all weights once and refuse NaN and infinity (structure and placement were checked on opening).

        Raises:
            GraphError: a weight is NaN or infinite, and ``allow_nonfinite`` is off.
        """
        if not allow_nonfinite:
            self.refuse(self.find_nonfinite())

    def refuse(self, found: NonFinite | None) -> None:
        """Refuse what a search has found.

        Raises:
            GraphError: it found something.
        """
        if found is not None:
            raise GraphError(
                f"tensor {found.name!r} of {self.path} has {found.count} NaN or infinite values: "
                "train or export the model again, or accept them with --allow-nonfinite (allow_nonfinite=True)"
            )

    def check_unchanged(self) -> None:
        """Compare the files with what they were on opening.

        Raises:
            GraphError: one of them was written to, replaced or removed.
        """
        for file in {self._model_file, *self._by_location.values()}:
            file.check_unchanged()

    def hashed(self) -> Sequence[WeightFile]:
        """The files, each once, in the order in which they are hashed."""
        external = sorted((location, file) for location, file in self._by_location.items())
        unique = {self._model_file.path: self._model_file} | {file.path: file for _, file in external}
        return tuple(unique.values())

    def sha256(self) -> str:
        """Hex digest of the model file, followed by its external data files in the order of their locations."""
        digest = hashlib.sha256()
        scratch = np.empty(_HASH_BYTES, np.uint8)
        for file in self.hashed():
            for chunk in file.chunks(0, file.size, scratch):
                digest.update(chunk.data)
        return digest.hexdigest()

    def release(self) -> None:
        """Hand the pages of weights read so far back to the system; arrays stay valid and read them again."""
        for file in self._by_location.values():
            file.release()

    def close(self) -> None:
        """Close the files. Arrays handed out before stay valid."""
        for file in (self._model_file, *self._by_location.values()):
            file.close()

    def __enter__(self) -> Source:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self.close()

    def _mapped(self, tensor: T) -> T | MappedTensor:
        if not isinstance(tensor, ir.ExternalTensor):
            return tensor
        return MappedTensor(tensor, self._by_location[str(tensor.location)])

    def _index(self) -> dict[str, StoredTensor]:
        tensors: dict[str, StoredTensor] = {}
        for name, proto in all_tensors(self.proto):
            unique, number = name, 1
            while unique in tensors:
                number += 1
                unique = f"{name}#{number}"
            tensors[unique] = self._stored(unique, proto)
        return tensors

    def _stored(self, name: str, proto: onnx.TensorProto) -> StoredTensor:
        """Check a tensor's data type, shape and length against each other and find its values."""
        place = f"tensor {name!r} of {self.path}"
        dtype, shape, nbytes = expected(proto, place)
        if proto.data_location != onnx.TensorProto.EXTERNAL:
            if proto.HasField("raw_data") and len(proto.raw_data) != nbytes:
                raise GraphError(wrong_length(place, proto, len(proto.raw_data), nbytes))
            if not proto.HasField("raw_data"):
                check_typed(proto, dtype, shape, place)
            return StoredTensor(proto, dtype, shape, None, 0, nbytes)
        if holds_values(proto):
            raise GraphError(f"{place} gives its values both inside and outside the message: export the model again")
        if dtype == ir.DataType.STRING:
            raise GraphError(f"{place} holds strings, which cannot lie in external data: export the model again")
        location, offset, length = external_place(proto, place, nbytes)
        if length != nbytes:
            raise GraphError(wrong_length(place, proto, length, nbytes))
        file = self._by_location.get(location)
        if file is None:
            file = self._open(location, name)
        if offset + length > file.size:
            raise GraphError(
                f"{place} should take bytes {offset} to {offset + length} of {file.path}, which has {file.size}: "
                "the data file is truncated or belongs to another model; copy it again"
            )
        stored = StoredTensor(proto, dtype, shape, file, offset, nbytes)
        return _inlined(stored) if nbytes <= skeleton_scan.INLINE_BYTES else _normalised(stored, location)

    def _open(self, location: str, tensor: str) -> WeightFile:
        if self._mirror is not None:
            self._by_location[location] = self._mirror.open_data(location, tensor)
        else:
            real = resolve(self._opened, location, tensor)
            same = next((file for file in self._by_location.values() if file.path == real), None)
            self._by_location[location] = same or WeightFile(real)
        check_seal(location, self._by_location[location], f"tensor {tensor!r} of {self.path}")
        return self._by_location[location]


def open_model(
    path: str | os.PathLike[str], *, name: str | os.PathLike[str] | None = None, given: Given | None = None
) -> Source:
    """Open an ONNX model of any size in milliseconds.

    Args:
        path: the model file. It is only ever read.
        name: what messages call it, where it has not got its name yet; None: ``path``.
        given: what the model is to be run on.

    Raises:
        GraphError: the path is missing or no file; the file is empty, truncated, damaged or not ONNX; onnx.checker
            refuses the graph; a tensor's length does not fit its shape and type; external data is missing, too short
            or outside the model's folder.
    """
    return Source(Path(path), None if name is None else Path(name), given)


def open_mirror(mirror: Mirror, given: Given | None = None) -> Source:
    """Open a model that lies elsewhere, as :func:`open_model` does; what is looked at is fetched.

    Raises:
        GraphError: as of :func:`open_model`, or it cannot be read.
    """
    return Source(mirror.model, given=given, mirror=mirror)


def _existing(path: Path) -> Path:
    check_here(path)
    if "\0" in str(path) or not path.exists():
        hint = " (a link to a file that is gone)" if "\0" not in str(path) and path.is_symlink() else ""
        raise GraphError(f"there is no file {str(path)!r}{hint}: check the path")
    if path.is_dir():
        raise GraphError(f"{path} is a folder: name the .onnx file in it")
    if path.stat().st_size == 0 and path.is_file():
        raise GraphError(f"{path} is empty: download or export the model again")
    return path


def _skeleton(file: WeightFile, path: Path, location: str) -> onnx.ModelProto:
    """Parse the model without its large tensors' values."""
    head = file.read(0, min(file.size, 512)).tobytes()
    for position, magic, what in _MAGIC:
        if head[position : position + len(magic)] == magic:
            raise GraphError(f"{path} is not an ONNX model: it is {what}")
    if not any(byte < 32 and byte not in b"\t\n\r\f" for byte in head):
        raise GraphError(f"{path} is not an ONNX model but a text file: name the binary .onnx file")
    proto = onnx.ModelProto()
    try:
        try:
            proto.ParseFromString(skeleton_scan.scan(file.scanned(), location).data)
        except DecodeError as error:
            # Somewhere in a short message, which the scan has not entered: entering all of them names the place.
            skeleton_scan.scan(file.scanned(), location, inline_bytes=-1)
            raise GraphError(f"broken ONNX file: {one_line(error)}; download or export it again") from error
    except GraphError as error:
        raise GraphError(f"{path}: {error}") from error
    if not proto.HasField("graph"):
        raise GraphError(f"{path} is not an ONNX model: it has no graph; name an .onnx file with a whole model")
    if not names_are_text(proto):
        raise GraphError(f"{path} has names that are not UTF-8 text: the file is damaged; download or export it again")
    return proto


def _check_structure(proto: onnx.ModelProto, path: Path) -> None:
    """Let onnx.checker judge the graph without its weights.

    A location that starts with ``#`` means "in memory" to the checker, which then looks at no file (see
    ``onnx.model_container``).
    """
    weightless = onnx.ModelProto()
    weightless.CopyFrom(proto)
    _set_apart(weightless)
    try:
        for _, tensor in all_tensors(weightless):
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "#"
        for value in weightless.graph.output:  # onnxruntime needs no shape here, and what it is shows when it runs
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(weightless)
    except Exception as error:  # the checker raises several types of its own
        raise GraphError(f"{path} is not a valid model: {one_line(error)}; export it again") from error
    check_references(proto, str(path))
    check_ports(proto, str(path))
    if proto.graph.sparse_initializer:
        name = proto.graph.sparse_initializer[0].values.name
        raise GraphError(f"sparse initializer {name!r} of {path} is not supported: export the model with dense weights")


def _set_apart(model: onnx.ModelProto) -> None:
    """Move ops that onnxruntime's optimiser writes into ONNX's domain, but ONNX does not have, where they belong."""
    version = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    moved = [node for node in model.graph.node if version < _OWN_SINCE.get(node.op_type, 0) and not node.domain]
    for node in moved:
        node.domain = _RUNTIME_DOMAIN
    if moved and all(entry.domain != _RUNTIME_DOMAIN for entry in model.opset_import):
        model.opset_import.append(onnx.helper.make_opsetid(_RUNTIME_DOMAIN, 1))


def _inlined(stored: StoredTensor) -> StoredTensor:
    """Take a small tensor's values into its message: shape arithmetic needs them at hand."""
    assert stored.file is not None
    stored.proto.raw_data = stored.file.read(stored.offset, stored.nbytes).tobytes()
    stored.proto.ClearField("external_data")
    stored.proto.ClearField("data_location")
    return StoredTensor(stored.proto, stored.dtype, stored.shape, None, 0, stored.nbytes)


def _normalised(stored: StoredTensor, location: str) -> StoredTensor:
    """Spell out where the values lie: later readers need no defaults."""
    del stored.proto.external_data[:]
    for key, value in (("location", location), ("offset", stored.offset), ("length", stored.nbytes)):
        stored.proto.external_data.add(key=key, value=str(value))
    return stored
