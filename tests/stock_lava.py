"""Run a plan on Lava's own neurons, none of ours: ``python stock_lava.py plan messages steps out``.

They take one threshold and one decay for all, reset to zero, and know no gate: what test_lava.py
gives them is such a network. What every neuron sends is saved by name, (steps, neurons).
"""

import sys
from typing import Any

import numpy as np

from spikeship.hw_models.lava import compat


def main(plan_path: str, messages: str, steps: str, out: str) -> None:
    """Build the plan with Lava's neurons, run it, save what they sent."""
    compat.install()
    from lava.proc.io.sink import RingBuffer
    from lava.proc.lif.process import LIF
    from lava.proc.sdn.process import ActivationMode, Delta, Sigma, SigmaDelta

    from spikeship.hw_models.lava import network

    def one(values: Any) -> int:
        assert np.all(values == values.flat[0])
        return int(values.flat[0])

    def shared(given: dict[str, Any]) -> dict[str, Any]:
        keys = ("shape", "spike_exp", "state_exp", "cum_error")
        return {key: given[key] for key in keys} | {"vth": one(given["vth"])}

    def lif(**given: Any) -> LIF:
        assert given["reset"] == "zero" and not given["refractory"]
        return LIF(
            shape=given["shape"],
            vth=one(given["vth"]),
            du=given["du"],
            dv=one(given["dv"]),
            bias_mant=given["bias_mant"],
            bias_exp=given["bias_exp"],
            v=given["v0"],
        )

    def sigma(**given: Any) -> Sigma:
        assert one(given["bias"]) == 0
        return Sigma(shape=given["shape"])

    def sigma_delta(**given: Any) -> SigmaDelta:
        mode = ActivationMode[given["activation"].upper()]
        return SigmaDelta(bias=given["bias"], act_mode=mode, **shared(given))

    network.NODE_OF.update(
        neuron=lif,
        readout=sigma,
        delta=lambda **given: Delta(**shared(given)),
        sigma_delta=sigma_delta,
    )
    plan = network.read_plan(plan_path)
    built = network.LavaNetwork(plan, messages, int(steps))
    sinks = {}
    for name, node in built.nodes.items():
        sinks[name] = RingBuffer(shape=node.s_out.shape, buffer=built.period)
        node.s_out.connect(sinks[name].a_in)
    built.run(1)
    sent = {name: sink.data.get().reshape(-1, built.period).T for name, sink in sinks.items()}
    built.stop()
    np.savez(out, allow_pickle=False, **sent)


if __name__ == "__main__":
    main(*sys.argv[1:])
