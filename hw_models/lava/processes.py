"""Our Lava Processes and their fixed-point models: source, spiking neurons and readout.

Time on the chip: a pipelined sample takes ``period`` = T + D steps. A node at depth d is open in
the T steps d < step <= d + T of the sample; outside them a message is received and dropped. A
staged node integrates in every step and fires in those of its window alone. At the first step
of every sample each node puts its own state back (u to 0, v to its start), so samples may follow
each other in one run.

Arrays are in Lava's axis order (x, y, channel). Recordings are written to memory-mapped files,
one row a step, because reading a Var back costs about 15 us an element.

Lava's compiler executes the files beside a Process under bare names, so this one stands alone.
"""

from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.lif.models import AbstractPyLifModelFixed
from lava.proc.lif.process import AbstractLIF
from numpy.typing import NDArray

Ints = NDArray[np.int32]


class Window:
    """When a node is open within a sample, and which row of its recording a step belongs to."""

    def __init__(
        self, depth: int, num_steps: int, period: int, gated: bool, fires: tuple[int, ...]
    ) -> None:
        self.depth = depth
        self.num_steps = num_steps
        self.period = period
        self.gated = gated
        self.fires = fires

    @classmethod
    def of(cls, proc_params: Any) -> "Window":
        """Return the window that a Process was given."""
        return cls(
            *(proc_params[key] for key in ("depth", "num_steps", "period", "gated", "fires"))
        )

    def index(self, time_step: int) -> int:
        """Index of a Lava step (counted from 1) within its sample, from 0."""
        return (time_step - 1) % self.period

    def open(self, time_step: int) -> bool:
        """Whether the node integrates and may spike in this step."""
        index = self.index(time_step)
        return not self.gated or self.depth <= index < self.depth + self.num_steps

    def may_fire(self, time_step: int) -> bool:
        """Whether the node may spike in this step, if it is open."""
        if not self.fires:
            return True
        fire_from, last = self.fires
        return fire_from <= self.index(time_step) + 1 <= last


class Recorder:
    """Rows of a memory-mapped ``.npy`` file, one a step; without a path it records nothing."""

    def __init__(self, path: str) -> None:
        self.rows = np.load(path, mmap_mode="r+") if path else None

    def write(self, time_step: int, values: Any) -> None:
        """Write one step's values, flattened in Lava's axis order."""
        if self.rows is not None:
            self.rows[time_step - 1] = np.asarray(values).reshape(-1)


class MessageSource(AbstractProcess):
    """Sends the messages of a file, sample after sample, and zeros while the network drains.

    Args:
        shape: shape of a message in Lava's axes.
        messages: path of an ``.npy`` file of shape (samples * num_steps, neurons), integers.
        num_steps: T.
        period: T + D.
        progress: path of an ``.npy`` file of one int64 that counts the steps begun, or "".
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        messages: str,
        num_steps: int,
        period: int,
        progress: str = "",
    ) -> None:
        super().__init__(
            shape=shape,
            messages=messages,
            num_steps=num_steps,
            period=period,
            progress=progress,
        )
        self.s_out = OutPort(shape=shape)


@implements(proc=MessageSource, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyMessageSource(PyLoihiProcessModel):
    """Fixed-point model of MessageSource."""

    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.shape = tuple(proc_params["shape"])
        self.num_steps = proc_params["num_steps"]
        self.period = proc_params["period"]
        self.rows = np.load(proc_params["messages"], mmap_mode="r")
        path = proc_params["progress"]
        self.progress = np.load(path, mmap_mode="r+") if path else None

    def run_spk(self) -> None:
        """Send this step's messages."""
        sample, index = divmod(self.time_step - 1, self.period)
        row = sample * self.num_steps + index
        if index < self.num_steps and row < len(self.rows):
            message = np.asarray(self.rows[row], dtype=np.int32).reshape(self.shape)
        else:
            message = np.zeros(self.shape, dtype=np.int32)
        if self.progress is not None:
            self.progress[0] = self.time_step
        self.s_out.send(message)


class GatedLIF(AbstractLIF):
    """Leaky integrate-and-fire neurons: a threshold each, soft or hard reset, rest, and a gate.

    Args:
        shape: shape in Lava's axes.
        vth, dv, bias_mant, bias_exp, v0: integer arrays of that shape.
        du: decay constant of the current (a plain int).
        reset: "subtract" or "zero".
        refractory: steps after a spike in which v stays and the neuron does not spike.
        depth, num_steps, period, gated, fires: see Window; ``fires``: (first, last) step, or ().
        record: path of an ``.npy`` file (steps, neurons) of uint8, or "".
        potentials: the same of int32, for v after the reset.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        vth: Ints,
        du: int,
        dv: Ints,
        bias_mant: Ints,
        bias_exp: Ints,
        v0: Ints,
        reset: str,
        refractory: int,
        depth: int,
        num_steps: int,
        period: int,
        gated: bool = True,
        fires: tuple[int, ...] = (),
        record: str = "",
        potentials: str = "",
    ) -> None:
        super().__init__(
            shape=shape,
            u=0,
            v=v0,
            du=du,
            dv=dv,
            bias_mant=bias_mant,
            bias_exp=bias_exp,
            name=None,
            log_config=None,
            v0=v0,
            reset=reset,
            refractory=refractory,
            depth=depth,
            num_steps=num_steps,
            period=period,
            gated=gated,
            fires=fires,
            record=record,
            potentials=potentials,
        )
        # a value each, where Lava's own has one for all
        self.dv = Var(shape=shape, init=dv)
        self.vth = Var(shape=shape, init=vth)


@implements(proc=GatedLIF, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyGatedLIF(AbstractPyLifModelFixed):
    """Fixed-point model of GatedLIF: Lava's own integration, our gate, reset and rest."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    s_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24)
    dv: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=12)
    vth: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=17)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.window = Window.of(proc_params)
        self.v0 = proc_params["v0"]
        self.hard = proc_params["reset"] == "zero"
        self.refractory = proc_params["refractory"]
        self.rest = np.zeros(proc_params["shape"], dtype=np.int32)
        self.recorder = Recorder(proc_params["record"])
        self.potentials = Recorder(proc_params["potentials"])

    def run_spk(self) -> None:
        """Receive; inside the window integrate, fire and reset; send and record the spikes."""
        activation = self.a_in.recv()
        if self.window.index(self.time_step) == 0:
            self.u[:] = 0
            self.v[:] = self.v0
            self.rest[:] = 0
        if self.window.open(self.time_step):
            self.scale_bias()
            resting = self.rest > 0
            frozen = self.v[resting]
            self.subthr_dynamics(activation_in=activation)
            self.v[resting] = frozen
            threshold = np.left_shift(self.vth, self.vth_shift)
            spikes = ~resting & (self.v > threshold) & self.window.may_fire(self.time_step)
            self.v[spikes] = 0 if self.hard else (self.v - threshold)[spikes]
            self.rest[resting] -= 1
            self.rest[spikes] = self.refractory
        else:
            spikes = np.zeros(self.v.shape, dtype=bool)
        self.recorder.write(self.time_step, spikes)
        self.potentials.write(self.time_step, self.v)
        self.s_out.send(spikes.astype(np.int32))


class Accumulator(AbstractProcess):
    """The readout: adds up its input and bias in 32 bits; no shift, threshold or spike.

    Args:
        shape: shape in Lava's axes.
        bias, v0: integer arrays of that shape, weight units.
        depth, num_steps, period, gated, fires: see Window; ``fires``: (first, last) step, or ().
        record: path of an ``.npy`` file (steps, neurons) of int32, or ""; so is potentials.
    """

    def __init__(
        self,
        *,
        shape: tuple[int, ...],
        bias: Ints,
        v0: Ints,
        depth: int,
        num_steps: int,
        period: int,
        gated: bool = True,
        fires: tuple[int, ...] = (),
        record: str = "",
        potentials: str = "",
    ) -> None:
        super().__init__(
            shape=shape,
            v0=v0,
            depth=depth,
            num_steps=num_steps,
            period=period,
            gated=gated,
            fires=fires,
            record=record,
            potentials=potentials,
        )
        self.a_in = InPort(shape=shape)
        self.v = Var(shape=shape, init=v0)
        self.bias = Var(shape=shape, init=bias)


@implements(proc=Accumulator, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyAccumulator(PyLoihiProcessModel):
    """Fixed-point model of Accumulator."""

    a_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24)
    v: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=32)
    bias: np.ndarray = LavaPyType(np.ndarray, np.int32, precision=32)

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.window = Window.of(proc_params)
        self.v0 = proc_params["v0"]
        self.recorder = Recorder(proc_params["record"])
        self.potentials = Recorder(proc_params["potentials"])

    def run_spk(self) -> None:
        """Receive; inside the window add; record the potential."""
        activation = self.a_in.recv()
        if self.window.index(self.time_step) == 0:
            self.v[:] = self.v0
        if self.window.open(self.time_step):
            self.v[:] += activation + self.bias
        self.recorder.write(self.time_step, self.v)
        self.potentials.write(self.time_step, self.v)
