"""From a plan (arrays in Lava's axes) to connected Lava Processes, and a run of them.

A plan is a dict that JSON can say, its arrays kept beside it by key::

    {"num_steps": T, "drain": D, "gated": true, "input": {"name", "shape", "torch_shape"},
     "nodes": [{"kind": "neuron" | "readout", "name", "shape", "torch_shape", "depth", ...}],
     "synapses": [{"name", "source", "target", "stages": [{"kind": "conv" | "dense" | "sparse",
                   ...}]}]}

Array-valued fields hold ``{"array": key}``. A synapse is a chain of stages, Lava Processes of its
own stock (Conv, Dense, Sparse, DelaySparse), connected one after the other.

This file stands alone beside ``processes.py``: exported networks carry a copy of both.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import Dense
from lava.proc.sparse.process import DelaySparse, Sparse
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from spikeship.hw_models.lava.processes import Accumulator, GatedLIF, MessageSource

Plan = dict[str, Any]


def read_plan(path: str | Path) -> Plan:
    """Read a plan file (``.npz``): the JSON under ``plan``, the arrays beside it."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    plan: Plan = _with_arrays(json.loads(str(arrays.pop("plan"))), arrays)
    return plan


def _with_arrays(value: Any, arrays: dict[str, NDArray[Any]]) -> Any:
    if isinstance(value, dict):
        if set(value) == {"array"}:
            return arrays[value["array"]]
        return {key: _with_arrays(item, arrays) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_arrays(item, arrays) for item in value]
    return value


class LavaNetwork:
    """The Processes of a plan, connected and ready to run.

    Args:
        plan: what read_plan returned.
        messages: path of the messages, see MessageSource.
        num_steps: T of this run; the plan's own where it is None.
        records: path of a recording for each node's name; nodes left out are not recorded.
        progress: path of the step counter, or "".
    """

    def __init__(
        self,
        plan: Plan,
        messages: str | Path,
        num_steps: int | None = None,
        records: Mapping[str, str | Path] | None = None,
        progress: str | Path = "",
    ) -> None:
        self.num_steps = num_steps or plan["num_steps"]
        self.period = self.num_steps + plan["drain"]
        records = records or {}
        self.source = MessageSource(
            shape=tuple(plan["input"]["shape"]),
            messages=str(messages),
            num_steps=self.num_steps,
            period=self.period,
            progress=str(progress),
        )
        self.nodes = {
            node["name"]: self._node(node, plan["gated"], str(records.get(node["name"], "")))
            for node in plan["nodes"]
        }
        senders = {plan["input"]["name"]: self.source, **self.nodes}
        for synapse in plan["synapses"]:
            port = senders[synapse["source"]].s_out
            for stage in synapse["stages"]:
                process, entry, exit_ = _stage(stage)
                _reshaped(port, entry.shape).connect(entry)
                port = exit_
            target = self.nodes[synapse["target"]].a_in
            _reshaped(port, target.shape).connect(target)

    def _node(self, node: Plan, gated: bool, record: str) -> Any:
        window = {
            "depth": node["depth"],
            "num_steps": self.num_steps,
            "period": self.period,
            "gated": gated,
            "record": record,
        }
        shape = tuple(node["shape"])
        if node["kind"] == "readout":
            return Accumulator(shape=shape, bias=node["bias"], **window)
        return GatedLIF(
            shape=shape,
            vth=node["vth"],
            du=int(node["du"]),
            dv=node["dv"],
            bias_mant=node["bias_mant"],
            bias_exp=node["bias_exp"],
            v0=node["v0"],
            reset=node["reset"],
            **window,
        )

    def run(self, samples: int) -> None:
        """Run this many samples, T + D steps each, in Lava's fixed point (the tag is a must)."""
        self.source.run(
            condition=RunSteps(num_steps=samples * self.period),
            run_cfg=Loihi2SimCfg(select_tag="fixed_pt"),
        )

    @property
    def actors(self) -> list[Any]:
        """The operating system processes Lava runs the models in (none before a run)."""
        runtime = self.source.runtime
        return [] if runtime is None else runtime._messaging_infrastructure.actors

    def stop(self) -> None:
        """End Lava's processes; never call it after one of them failed, it would hang."""
        self.source.stop()


def _reshaped(port: Any, shape: tuple[int, ...]) -> Any:
    return port if tuple(port.shape) == tuple(shape) else port.reshape(tuple(shape))


def _stage(stage: Plan) -> tuple[Any, Any, Any]:
    kind = stage["kind"]
    message_bits = int(stage["num_message_bits"])
    if kind == "conv":
        conv = Conv(
            weight=stage["weight"],
            input_shape=tuple(stage["input_shape"]),
            stride=tuple(stage["stride"]),
            padding=tuple(stage["padding"]),
            dilation=tuple(stage["dilation"]),
            groups=int(stage["groups"]),
            num_message_bits=message_bits,
        )
        return conv, conv.s_in, conv.a_out
    options = {
        "weight_exp": int(stage["weight_exp"]),
        "num_weight_bits": int(stage["num_weight_bits"]),
        "num_message_bits": message_bits,
    }
    if kind == "dense":
        dense = Dense(weights=stage["weight"], **options)
        return dense, dense.s_in, dense.a_out
    shape = tuple(stage["matrix_shape"])
    weights = csr_matrix((stage["data"], stage["indices"], stage["indptr"]), shape=shape)
    extra = int(stage["extra_delay"])
    if extra == 0:
        sparse = Sparse(weights=weights, **options)
    else:
        delays = csr_matrix(
            (np.full(len(stage["data"]), extra, np.int64), stage["indices"], stage["indptr"]),
            shape=shape,
        )
        sparse = DelaySparse(weights=weights, delays=delays, max_delay=extra, **options)
    return sparse, sparse.s_in, sparse.a_out
