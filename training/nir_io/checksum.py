"""A checksum over all that a NIR graph holds, the same before and after a file."""

import hashlib
from collections.abc import Mapping
from typing import Any

import nir
import numpy as np

CHECKSUM = "spikeship_sha256"


def checksum(graph: nir.NIRGraph) -> str:
    """SHA-256 over nodes, edges and metadata, in the order of their names.

    The metadata's own ``CHECKSUM`` is left out.
    """
    digest = hashlib.sha256()
    content = graph.to_dict()
    content["metadata"] = {k: v for k, v in graph.metadata.items() if k != CHECKSUM}
    content["edges"] = sorted([str(source), str(target)] for source, target in graph.edges)
    _add(digest, "", content)
    return digest.hexdigest()


def _add(digest: Any, path: str, value: Any) -> None:
    if isinstance(value, Mapping):
        for key in sorted(value, key=str):
            _add(digest, f"{path}/{key}", value[key])
        return
    if value is None:
        return
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    array = np.asarray(value)
    if array.dtype.kind in "USO":
        texts = [
            each.decode(errors="replace") if isinstance(each, bytes) else str(each)
            for each in array.reshape(-1).tolist()
        ]
        digest.update(f"{path}|text|{array.shape}|{texts}|".encode(errors="replace"))
        return
    digest.update(f"{path}|{array.dtype.str}|{array.shape}|".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
