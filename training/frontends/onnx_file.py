"""An ONNX file's graph, checked before anything in it is believed."""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from spikeship.hw_models.errors import SpikeshipError, reason
from spikeship.hw_models.memory import check_claim

Array = npt.NDArray[Any]
MOST_NODES = 100_000
LONGEST_NAME = 1_000
# numbers and truth values of one byte or more
KINDS = frozenset(
    getattr(onnx.TensorProto, name)
    for name in (
        "FLOAT",
        "FLOAT16",
        "BFLOAT16",
        "DOUBLE",
        "INT8",
        "INT16",
        "INT32",
        "INT64",
        "UINT8",
        "UINT16",
        "UINT32",
        "UINT64",
        "BOOL",
    )
)


class OnnxError(SpikeshipError, ValueError):
    """A file that holds no network we can read, in one line: which, why, and what to do."""


@dataclass(frozen=True)
class OnnxGraph:
    """What a file holds.

    Attributes:
        nodes: in the file's order.
        input: name of the one value that is given with every image.
        shape: of that value; the batch axis is 0 where it is free.
        output: name of the one result.
        constants: stored arrays by name.
        opsets: version of each operator set.
    """

    nodes: tuple[Any, ...]
    input: str
    shape: tuple[int, ...]
    output: str
    constants: Mapping[str, Array]
    opsets: Mapping[str, int]


def read_graph(path: Path) -> OnnxGraph:
    """Read a file's graph and its arrays, those in files beside it too.

    Raises:
        OnnxError: it is missing, damaged, no ONNX, names files elsewhere, or has not one input
            and one output.
        MemoryClaimError: its arrays would take more memory than they may.
    """
    try:
        # otherwise the ending of the name would decide on the format
        model = onnx.load(path, format="protobuf", load_external_data=False)
        graph = model.graph
        _check_names(graph)
    except FileNotFoundError as error:
        raise OnnxError(f"{path}: is missing; check the path") from error
    # damage can show in any part of the decoder
    except Exception as error:
        raise OnnxError(
            f"{path}: not a whole ONNX file ({reason(error)}); export it again"
        ) from error
    if not graph.output:
        raise OnnxError(f"{path}: not an ONNX file, or one without a network; export it again")
    if len(graph.node) > MOST_NODES:
        raise OnnxError(
            f"{path}: has {len(graph.node)} nodes, {MOST_NODES} are read; export a smaller network"
        )
    if graph.sparse_initializer:
        raise OnnxError(
            f"{path}: stores {len(graph.sparse_initializer)} arrays as sparse ones; export them "
            "dense"
        )
    constants = {
        tensor.name: array_of(tensor, f"{path}: array {tensor.name[:100]!r}", path.parent)
        for tensor in graph.initializer
    }
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise OnnxError(
            f"{path}: has {len(inputs)} inputs and {len(graph.output)} outputs; export a network "
            "from one tensor to one"
        )
    shape = tuple(dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim)
    if len(shape) < 2 or min(shape[1:]) < 1 or shape[0] < 0:
        raise OnnxError(
            f"{path}: its input {inputs[0].name[:100]!r} has no fixed shape behind the batch axis; "
            "export it with one"
        )
    check_claim(f"{path}: input {inputs[0].name[:100]!r}", 4 * math.prod(shape[1:]))
    _check_order(path, graph, {inputs[0].name, *constants})
    return OnnxGraph(
        tuple(graph.node),
        inputs[0].name,
        shape,
        graph.output[0].name,
        constants,
        {entry.domain: entry.version for entry in model.opset_import},
    )


def array_of(tensor: Any, where: str, folder: Path | None = None) -> Array:
    """The array of a stored tensor.

    Args:
        tensor: as ONNX stores it.
        where: what errors call it.
        folder: that files of its data lie in; None where there can be none.

    Raises:
        OnnxError: strings, packed types, a shape that its data does not fill, or data in a file
            that lies elsewhere.
        MemoryClaimError: it would take more memory than it may.
    """
    if tensor.data_type not in KINDS:
        kinds = onnx.TensorProto.DataType.items()
        kind = next((name for name, value in kinds if value == tensor.data_type), tensor.data_type)
        raise OnnxError(f"{where}: holds values of type {kind}; export plain numbers")
    shape = tuple(tensor.dims)
    if any(side < 0 for side in shape) or len(shape) > 32:
        raise OnnxError(f"{where}: has shape {shape[:8]}; export it again")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        content = _external(tensor, where, folder, math.prod(shape) * dtype.itemsize)
        return np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape)
    try:
        array: Array = onnx.numpy_helper.to_array(tensor)
    except Exception as error:  # whatever the data lacks
        raise OnnxError(
            f"{where}: its data does not fill shape {shape} ({reason(error)}); export it again"
        ) from error
    return array


def _external(tensor: Any, where: str, folder: Path | None, size: int) -> bytearray:
    """Data from a file in the folder of the model, or in one below it; nothing else is opened."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    pure = PurePosixPath(location)
    if (
        folder is None
        or not location
        or not location.isprintable()
        or "\\" in location
        or pure.is_absolute()
        or ".." in pure.parts
    ):
        raise OnnxError(
            f"{where}: keeps its data in {location[:100]!r}, which is not read; keep it in a file "
            "beside the model"
        )
    file = Path(os.path.realpath(folder / location))
    if Path(os.path.realpath(folder)) not in file.parents:
        raise OnnxError(
            f"{where}: {location[:100]!r} is a link that leads elsewhere, which is not followed; "
            "copy the data beside the model"
        )
    if not file.is_file():
        raise OnnxError(f"{where}: {folder / location} is missing; put it beside the model")
    there = file.stat().st_size
    try:
        offset, length = (int(entries.get(key) or (0, size)[key == "length"]) for key in _RANGE)
    except ValueError:
        raise OnnxError(f"{where}: offset and length are no numbers; export it again") from None
    if offset < 0 or length != size or offset + length > there:
        raise OnnxError(
            f"{where}: {length} bytes from byte {offset} of {location[:100]!r}, which has {there}, "
            f"where its shape takes {size}; export it again"
        )
    check_claim(where, size)
    content = bytearray(size)
    with file.open("rb") as data:
        data.seek(offset)
        if data.readinto(content) != size:
            raise OnnxError(f"{where}: {file} ends too early; export it again")
    return content


_RANGE = ("offset", "length")


def _names(graph: Any) -> Iterable[Any]:
    for node in graph.node:
        yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
    for value in (*graph.initializer, *graph.input, *graph.output):
        yield value.name


def _check_names(graph: Any) -> None:
    for name in _names(graph):
        if not isinstance(name, str) or not name.isprintable():
            raise OnnxError("a name is no text")
        if len(name) > LONGEST_NAME:
            raise OnnxError(f"a name of {len(name)} letters, {LONGEST_NAME} are read")


def _check_order(path: Path, graph: Any, given: set[str]) -> None:
    """Refuse values that two nodes give, or none."""
    known = set(given)
    for node in graph.node:
        if not any(node.output):
            where = f"{path}: node {node.name[:100]!r} ({node.op_type[:40]})"
            raise OnnxError(f"{where}: gives nothing; export it again")
        for name in filter(None, node.output):
            if name in known:
                raise OnnxError(
                    f"{path}: two nodes give {name[:100]!r}, or a stored array is called so too; "
                    "export it again"
                )
            known.add(name)
