"""Small ``.net`` files as lava-dl writes them, and what netx itself makes of them on Lava.

As a script it is the peer: ``python net_files.py JOBS.json`` builds lava-dl's network of each
job's file, feeds it messages and keeps what every layer sent, its last state and its weights.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

CUBA: dict[str, Any] = {
    "neuron/type": "CUBA",
    "neuron/vThMant": 80,
    "neuron/iDecay": 4096,
    "neuron/vDecay": 128,
    "neuron/refDelay": 1,
}
SDNN: dict[str, Any] = {"neuron/type": "SDNN", "neuron/vThMant": 2, "neuron/activation": "relu"}
SIGMA: dict[str, Any] = {"neuron/type": "SDNN", "neuron/sigma_output": True}
LIMIT_S = 400.0

LayerFields = Mapping[str, Any]


def write_net(path: Path, layers: Sequence[LayerFields], num_steps: int | None = None) -> Path:
    """Write layers, each its datasets by name; a ``type`` becomes bytes as lava-dl writes it."""
    with h5py.File(path, "w") as file:
        for index, fields in enumerate(layers):
            group = file.create_group(f"layer/{index}")
            for key, value in fields.items():
                if key == "type":
                    group.create_dataset(key, (1,), "S10", [value.encode()])
                else:
                    group.create_dataset(key, data=value)
        if num_steps is not None:
            file.create_dataset("simulation/tSample", data=num_steps)
    return path


def dense(weight: Any, neuron: LayerFields = CUBA, **fields: Any) -> dict[str, Any]:
    """A dense layer."""
    values = np.asarray(weight, dtype=np.float32)
    return {"type": "dense", "shape": [len(values)], "weight": values, **neuron, **fields}


def conv(
    weight: Any, shape: Sequence[int], neuron: LayerFields = CUBA, **fields: Any
) -> dict[str, Any]:
    """A convolution of this output shape (c, h, w)."""
    geometry = {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1], "groups": 1}
    values = np.asarray(weight, dtype=np.float32)
    return {"type": "conv", "shape": shape, "weight": values, **geometry, **neuron, **fields}


def run_peer(folder: Path, jobs: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Run netx in a process of its own; returns, for each job's name, its arrays.

    A job holds ``name``, ``net``, ``layers`` (or None), ``messages`` (T, *shape), ``sent`` and
    ``states`` (numbers of netx's layers to keep); or ``name`` and ``matrices``, to learn what
    becomes of weights alone.
    """
    plain = []
    for job in jobs:
        path = folder / f"{job['name']}.npy"
        np.save(path, job["matrices"] if "matrices" in job else job["messages"])
        texts = {key: value for key, value in job.items() if key not in ("messages", "matrices")}
        texts |= {"net": str(job.get("net", "")), "out": f"{path}.npz", "arrays": str(path)}
        plain.append(texts)
    order = folder / "jobs.json"
    order.write_text(json.dumps(plain))
    peer = subprocess.Popen(
        [sys.executable, __file__, str(order)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        said, _ = peer.communicate(timeout=LIMIT_S)
    finally:
        # models of Lava that failed wait for ever
        with contextlib.suppress(ProcessLookupError):
            os.killpg(peer.pid, signal.SIGKILL)
    if peer.returncode != 0:
        raise RuntimeError(said.decode(errors="replace")[-3000:])
    return {job["name"]: dict(np.load(job["out"])) for job in plain}


def _main(order: Path) -> None:
    from spikeship.hw_models.lava import compat

    compat.install(block_torch=False)  # lava-dl needs it; Lava's models must not call it
    from lava.proc.conv import utils

    utils.TORCH_IS_AVAILABLE = False
    for job in json.loads(order.read_text()):
        np.savez(job["out"], **(_run_netx(job) if job["net"] else _held_weights(job)))


def _held_weights(job: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """What netx and then Lava's Dense make of each matrix: weights, exponent, bits, sign mode."""
    from lava.lib.dl.netx.utils import optimize_weight_bits
    from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    weights, numbers = [], []
    for matrix in np.load(job["arrays"]):
        shifted, bits, exponent, _ = optimize_weight_bits(matrix)
        mode = determine_sign_mode(shifted)
        weights.append(truncate_weights(clip_weights(shifted, mode, num_bits=8), mode, bits))
        numbers.append((exponent, bits))
    return {"weights": np.array(weights), "numbers": np.array(numbers)}


def _run_netx(job: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    from lava.lib.dl import netx

    # NumPy 2.4 makes no int of an array of one value, which netx asks of an input's weight
    netx.hdf5.int = lambda value: int(np.asarray(value).item())
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc import io

    net = netx.hdf5.Network(job["net"], num_layers=job["layers"])
    messages = np.load(job["arrays"])
    num_steps = len(messages)
    source = io.source.RingBuffer(data=np.ascontiguousarray(messages.transpose()))
    first = net.in_layer
    bare = hasattr(first, "synapse")
    source.s_out.connect(first.inp if bare else first.neuron.a_in)
    sinks = {}
    for i in job["sent"]:
        sinks[i] = io.sink.RingBuffer(shape=net.layers[i].out.shape, buffer=num_steps)
        net.layers[i].out.connect(sinks[i].a_in)
    net.run(condition=RunSteps(num_steps=num_steps), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    found = {f"sent{i}": sink.data.get().transpose() for i, sink in sinks.items()}
    for i in job["states"]:
        layer = net.layers[i]
        for key in ("u", "v", "sigma"):
            if hasattr(layer.neuron, key):
                found[f"{key}{i}"] = getattr(layer.neuron, key).get().transpose()
        for key in ("synapse", "synapse_rec"):
            if hasattr(getattr(layer, key, None), "weights"):
                found[f"{key}{i}"] = getattr(layer, key).weights.get()
    net.stop()
    return found


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
