"""A graph and its messages in one small file, so that what once differed can be run again."""

import io
import tempfile
from pathlib import Path

import numpy as np
from graphs import Case
from numpy.typing import NDArray

from spikeship.deploy.io.network_file import load, save
from spikeship.hw_models.atomic import replacing


def write(path: Path, case: Case, said: str) -> None:
    """Write a case and what was said of it as ``.npz``: no pickle, the graph as its own file."""
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "graph.safetensors"
        save(case.graph, whole)
        graph = np.frombuffer(whole.read_bytes(), np.uint8)
    held = io.BytesIO()
    np.savez_compressed(held, graph=graph, messages=_narrow(case.messages), said=np.array(said))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        temporary.write_bytes(held.getvalue())


def read(path: Path) -> tuple[Case, str]:
    """Read what ``write`` wrote.

    Raises:
        ValueError: not such a file; one line says why.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            graph, messages, said = file["graph"], file["messages"], str(file["said"])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: not a replay file ({error}); 'fuzz.py' writes them") from error
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "graph.safetensors"
        whole.write_bytes(graph.tobytes())
        return Case(load(whole), messages.astype(np.int64)), said


def _narrow(messages: NDArray[np.int64]) -> NDArray[np.int16]:
    return messages.astype(np.int16)  # an input's messages have at most 16 bits
