"""FixedGraph to and from ``.safetensors``: arrays as tensors, the rest as a JSON header.

The header holds a format name and version, the structure, the metadata and a SHA-256 over
structure and arrays, so a damaged file is refused rather than run.
"""

import hashlib
import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from spikeship.hw_models.atomic import replacing
from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.graph import (
    Conv,
    Delta,
    Dense,
    FixedGraph,
    GraphError,
    Identity,
    Input,
    Neuron,
    Readout,
    SigmaDelta,
    Sparse,
)
from spikeship.hw_models.json_text import parse
from spikeship.training.statistics import check_statistics

FORMAT = "spikeship-fixedgraph"
VERSION = 3
# 1 knew no sigma-delta neurons, identities, delays of weights or refractory, 2 no staged timing
READS = ("1", "2", "3")
_KINDS: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (Neuron, Delta, SigmaDelta, Readout, Conv, Dense, Sparse, Identity)
}


class FileError(SpikeshipError, ValueError):
    """A file that cannot be read as a network; one line names it, the reason and the fix."""


def save(graph: FixedGraph, path: Path) -> None:
    """Write a graph, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {}
    structure = {
        "input": {f.name: _plain(getattr(graph.input, f.name)) for f in fields(Input)},
        "nodes": [_split(node, f"nodes.{i}", arrays) for i, node in enumerate(graph.nodes)],
        "synapses": [_split(s, f"synapses.{i}", arrays) for i, s in enumerate(graph.synapses)],
        "num_steps": graph.num_steps,
        "gated": graph.gated,
        "timing": graph.timing,
        "metadata": dict(graph.metadata),
    }
    text = json.dumps(structure, sort_keys=True)
    header = {
        "format": FORMAT,
        "version": str(VERSION),
        "graph": text,
        "sha256": _digest(text, arrays),
    }
    with replacing(path) as temporary:
        save_file(arrays, temporary, metadata=header)
        _in_order(temporary)


def _in_order(path: Path) -> None:
    """Sort a safetensors file's metadata in place: safetensors writes it in an order of chance."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        file.seek(8)
        file.write(text.ljust(size))


def holds_one(path: Path) -> bool:
    """Whether a file says that it holds a graph; one that cannot be read says nothing."""
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False


def load(path: Path) -> FixedGraph:
    """Read a graph and check it as when it was made.

    Raises:
        FileError: missing, damaged, of another kind or version, or not a graph a chip could run.
    """
    if not path.is_file():
        raise FileError(f"{path}: no such file; 'spikeship quantize' writes one")
    try:
        with safe_open(path, framework="numpy") as file:
            header = file.metadata() or {}
            arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        raise FileError(
            f"{path}: not a whole safetensors file ({error}); write it again"
        ) from error
    if header.get("format") != FORMAT:
        raise FileError(
            f"{path}: is not a quantized network (format {header.get('format')!r}); "
            "'spikeship quantize' writes one"
        )
    if header.get("version") not in READS:
        raise FileError(
            f"{path}: has format version {header.get('version')}, this Spikeship reads "
            f"{', '.join(READS)}; quantize again"
        )
    text = header.get("graph", "")
    if header.get("sha256") != _digest(text, arrays):
        raise FileError(f"{path}: its contents do not match their hash; the file is damaged")
    try:
        return _graph(parse(text), arrays)
    except GraphError as error:
        raise FileError(f"{path}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path}: its header is damaged ({error}); quantize again") from error


def _graph(structure: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> FixedGraph:
    metadata = structure["metadata"]
    if not isinstance(metadata, dict):
        raise TypeError("its metadata is no object")
    check_statistics(metadata.get("data") or {})
    return FixedGraph(
        input=Input(**{**structure["input"], "shape": tuple(structure["input"]["shape"])}),
        nodes=tuple(_join(row, arrays) for row in structure["nodes"]),
        synapses=tuple(_join(row, arrays) for row in structure["synapses"]),
        num_steps=structure["num_steps"],
        gated=structure["gated"],
        timing=structure.get("timing", "pipelined"),
        metadata=metadata,
    )


def _split(part: Any, prefix: str, arrays: dict[str, NDArray[Any]]) -> dict[str, Any]:
    """Fields of a node or synapse as JSON; its arrays go beside it under ``prefix``."""
    row: dict[str, Any] = {"kind": type(part).__name__}
    for field in fields(part):
        value = getattr(part, field.name)
        if isinstance(value, np.ndarray):
            key = f"{prefix}.{field.name}"
            arrays[key] = np.ascontiguousarray(_narrow(value))
            row[field.name] = {"array": key}
        else:
            row[field.name] = _plain(value)
    return row


def _join(row: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> Any:
    kind = _KINDS[row["kind"]]
    values = {}
    for field in fields(kind):
        if field.name not in row and (
            field.default is not MISSING or field.default_factory is not MISSING
        ):
            continue
        value = row[field.name]
        if isinstance(value, dict):
            value = arrays[value["array"]]
        values[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def _narrow(values: NDArray[Any]) -> NDArray[Any]:
    """Integers in the smallest type that holds them, so that weights take a byte or two."""
    if values.dtype.kind != "i" or values.size == 0:
        return values
    low, high = int(values.min()), int(values.max())
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return values.astype(kind)
    return values


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _digest(text: str, arrays: dict[str, NDArray[Any]]) -> str:
    total = hashlib.sha256(text.encode())
    for key in sorted(arrays):
        value = np.ascontiguousarray(arrays[key])
        total.update(f"{key}{value.dtype.str}{value.shape}".encode())
        total.update(value.tobytes())
    return total.hexdigest()
