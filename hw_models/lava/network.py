"""From a plan (arrays in Lava's axes) to connected Lava Processes, and a run of them.

A plan is a dict that JSON can say, its arrays kept beside it by key::

    {"num_steps": T, "drain": D, "gated": true, "staged_steps": [of the input, of a sample],
     "input": {"name", "shape", "torch_shape"},
     "nodes": [{"kind": "neuron" | "delta" | "sigma_delta" | "readout", "name", "shape",
                "torch_shape", "depth", "fires": [first step, last step], "record": dtype,
                "fields": of the Process}],
     "synapses": [{"name", "source", "target", "stages": [{"kind": "conv" | "dense" | "sparse",
                   ...}]}]}

A pipelined plan's ``staged_steps`` and ``fires`` are empty. Array-valued fields hold
``{"array": key}``. A synapse is a chain of stages, Lava Processes of its
own stock (Conv, Dense, DelayDense, Sparse, DelaySparse), connected one after the other; without
a stage its ends are connected directly.

This file stands alone beside ``processes.py`` and ``sigma_delta.py``: exported networks carry
copies of all three.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.sparse.process import DelaySparse, Sparse
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from spikeship.hw_models.lava.processes import Accumulator, GatedLIF, MessageSource
from spikeship.hw_models.lava.sigma_delta import GatedDelta, GatedSigmaDelta

Plan = dict[str, Any]
NODE_OF = {
    "neuron": GatedLIF,
    "delta": GatedDelta,
    "sigma_delta": GatedSigmaDelta,
    "readout": Accumulator,
}


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
        num_steps: T of this run; the plan's own where it is None. A staged plan has no other.
        records: path of a recording for each node's name; nodes left out are not recorded.
        progress: path of the step counter, or "".
        potentials: as records, for the state after each step.
    """

    def __init__(
        self,
        plan: Plan,
        messages: str | Path,
        num_steps: int | None = None,
        records: Mapping[str, str | Path] | None = None,
        progress: str | Path = "",
        potentials: Mapping[str, str | Path] | None = None,
    ) -> None:
        self.num_steps = num_steps or plan["num_steps"]
        steps = plan["staged_steps"] or [self.num_steps, self.num_steps + plan["drain"]]
        self.sending, self.period = int(steps[0]), int(steps[1])
        if plan["staged_steps"] and self.num_steps != plan["num_steps"]:
            raise ValueError(
                f"a staged network belongs to its T = {plan['num_steps']}, not {self.num_steps}; "
                "quantize it for that T"
            )
        recordings = {"record": records or {}, "potentials": potentials or {}}
        self.source = MessageSource(
            shape=tuple(plan["input"]["shape"]),
            messages=str(messages),
            num_steps=self.sending,
            period=self.period,
            progress=str(progress),
        )
        self.nodes = {
            node["name"]: self._node(
                node,
                gated=plan["gated"],
                **{kind: str(paths.get(node["name"], "")) for kind, paths in recordings.items()},
            )
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

    def _node(self, node: Plan, **options: Any) -> Any:
        return NODE_OF[node["kind"]](
            shape=tuple(node["shape"]),
            **node["fields"],
            depth=node["depth"],
            fires=tuple(node["fires"]),
            num_steps=self.num_steps,
            period=self.period,
            **options,
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
    delays = stage.get("delays")
    if kind == "dense":
        dense = (
            Dense(weights=stage["weight"], **options)
            if delays is None
            else DelayDense(weights=stage["weight"], delays=delays, **options)
        )
        return dense, dense.s_in, dense.a_out
    shape = tuple(stage["matrix_shape"])
    weights = csr_matrix((stage["data"], stage["indices"], stage["indptr"]), shape=shape)
    if delays is None:
        sparse = Sparse(weights=weights, **options)
    else:
        sparse = DelaySparse(
            weights=weights,
            delays=csr_matrix((delays, stage["indices"], stage["indptr"]), shape=shape),
            **options,
        )
    return sparse, sparse.s_in, sparse.a_out
