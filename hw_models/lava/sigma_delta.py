"""Lava's own Delta and SigmaDelta with a threshold each, our gate and our recording.

The dynamics are Lava's: the models call its ``delta_dynamics`` and ``dynamics``. Time on the chip
and recordings are those of ``processes.py``; messages and recordings are 32-bit integers.

Lava's compiler executes the files beside a Process under bare names, so this one stands alone.
"""

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.sdn.models import AbstractDeltaModel, AbstractSigmaDeltaModel
from lava.proc.sdn.process import ActivationMode, Delta, SigmaDelta
from numpy.typing import NDArray

from spikeship.hw_models.lava.processes import Recorder, Window

Ints = NDArray[np.int32]


class GatedDelta(Delta):
    """Lava's Delta, with a threshold each and a gate.

    Args:
        shape: shape in Lava's axes.
        vth: integer array of that shape, before the shift by spike_exp and state_exp.
        spike_exp, state_exp, cum_error: as Lava's.
        depth, num_steps, period, gated: see Window.
        record: path of an ``.npy`` file (steps, neurons) of int32, or "".
        potentials: the same, for act.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        vth: Ints,
        spike_exp: int,
        state_exp: int,
        cum_error: bool,
        **timing: Any,
    ) -> None:
        super().__init__(
            shape=shape, vth=0, spike_exp=spike_exp, state_exp=state_exp, cum_error=cum_error
        )
        for key, value in timing.items():
            self.proc_params[key] = value
        self.vth = Var(shape=shape, init=vth << (spike_exp + state_exp))


class GatedSigmaDelta(SigmaDelta):
    """Lava's SigmaDelta, with a threshold each and a gate.

    Args:
        shape: shape in Lava's axes.
        vth, bias: integer arrays of that shape, before the shift by spike_exp and state_exp.
        activation: "relu" or "unit".
        spike_exp, state_exp, cum_error: as Lava's.
        depth, num_steps, period, gated: see Window.
        record: path of an ``.npy`` file (steps, neurons) of int32, or "".
        potentials: the same, for sigma.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        vth: Ints,
        bias: Ints,
        activation: str,
        spike_exp: int,
        state_exp: int,
        cum_error: bool,
        **timing: Any,
    ) -> None:
        super().__init__(
            shape=shape,
            vth=0,
            bias=bias,
            act_mode=ActivationMode[activation.upper()],
            spike_exp=spike_exp,
            state_exp=state_exp,
            cum_error=cum_error,
            **timing,
        )
        self.vth = Var(shape=shape, init=vth << (spike_exp + state_exp))


@implements(proc=GatedDelta, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyGatedDelta(AbstractDeltaModel):
    """Fixed-point model of GatedDelta."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    vth: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    sigma: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    act: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    residue: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    error: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    spike_exp: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=3)
    state_exp: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=3)
    cum_error: np.ndarray = LavaPyType(np.ndarray, bool, precision=1)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.window = Window.of(proc_params)
        self.recorder = Recorder(proc_params["record"])
        self.potentials = Recorder(proc_params["potentials"])

    def run_spk(self) -> None:
        """Receive; inside the window encode; send and record the messages."""
        received = self.a_in.recv()
        if self.window.index(self.time_step) == 0:
            _clear(self.act, self.residue, self.error)
        if self.window.open(self.time_step):
            activation = np.left_shift(received, self.spike_exp + self.state_exp)
            message = np.right_shift(self.delta_dynamics(activation), self.state_exp)
            self.act = activation
        else:
            message = np.zeros_like(received)
        self.recorder.write(self.time_step, message)
        self.potentials.write(self.time_step, self.act)
        self.s_out.send(message.astype(np.int32))


@implements(proc=GatedSigmaDelta, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyGatedSigmaDelta(AbstractSigmaDeltaModel):
    """Fixed-point model of GatedSigmaDelta."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    vth: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    sigma: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    act: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    residue: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    error: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=24)
    bias: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=16)
    spike_exp: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=3)
    state_exp: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=3)
    cum_error: np.ndarray = LavaPyType(np.ndarray, bool, precision=1)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.window = Window.of(proc_params)
        self.recorder = Recorder(proc_params["record"])
        self.potentials = Recorder(proc_params["potentials"])

    def run_spk(self) -> None:
        """Receive; inside the window add up and encode; send and record the messages."""
        received = self.a_in.recv()
        if self.window.index(self.time_step) == 0:
            _clear(self.sigma, self.act, self.residue, self.error)
        if self.window.open(self.time_step):
            message = np.right_shift(self.dynamics(received), self.state_exp)
        else:
            message = np.zeros_like(received)
        self.recorder.write(self.time_step, message)
        self.potentials.write(self.time_step, self.sigma)
        self.s_out.send(message.astype(np.int32))


def _clear(*states: Any) -> None:
    for state in states:
        state[:] = 0
