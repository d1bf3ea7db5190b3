"""The synapses of a ``.net`` file as netx makes them: Lava's Conv, Dense and DelayDense."""

import numpy as np

from spikeship.deploy.importers.netx_file import Layer
from spikeship.deploy.importers.netx_weights import HeldWeights, conv_weights, dense_weights
from spikeship.hw_models import fixed
from spikeship.hw_models.graph import Array, Conv, Dense


def convolution(layer: Layer, source: str) -> Conv:
    """The synapse of a convolutional layer.

    Raises:
        NetxError, WeightError, GraphError: what the layer holds cannot be run.
    """
    _refuse_complex(layer)
    weight = layer.integers("weight")
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]
    if weight.ndim != 4:
        raise layer.error(f"weight has shape {weight.shape}, a convolution's has 4 axes")
    if "delay" in layer:
        layer.note("netx ignores the delay of a convolution, and so does this")
    held = conv_weights(weight)
    return Conv(
        name=layer.name,
        source=source,
        target=layer.name,
        num_weight_bits=held.num_weight_bits,
        weight=held.weight,
        stride=layer.pair("stride"),
        padding=layer.pair("padding"),
        dilation=layer.pair("dilation"),
        groups=layer.number("groups"),
    )


def matrix(layer: Layer, key: str, rows: int) -> Array:
    """A weight matrix (rows, inputs); a flat one is cut into rows.

    Raises:
        NetxError: missing, complex or of another shape.
    """
    _refuse_complex(layer)
    weight = layer.integers(key)
    if weight.ndim == 1 and weight.size % rows == 0:
        weight = weight.reshape(rows, -1)
    if weight.ndim != 2 or len(weight) != rows:
        raise layer.error(f"{key} has shape {weight.shape}, which does not fit {rows} neurons")
    return weight


def dense(layer: Layer, source: str, weight: Array, recurrent: Array | None) -> list[Dense]:
    """The synapse of a dense layer and, of a recurrent one, its own to itself.

    Args:
        layer: where exponents, delays and names come from.
        source: node that feeds it.
        weight: (out, in), as the file says.
        recurrent: (out, out), or None.

    Raises:
        NetxError, WeightError, GraphError: what the layer holds cannot be run.
    """
    matrices = [weight] if recurrent is None else [weight, recurrent]
    held = dense_weights(*matrices)
    for given, found in zip(matrices, held, strict=True):
        _note_changes(layer, given, found)
    delays = _delays(layer, weight)
    exponent = held[0].weight_exp
    if recurrent is not None and "delay" in layer:
        if weight.shape != recurrent.shape:
            raise layer.error(
                "a recurrent layer with delays and another number of inputs than neurons, which "
                "netx cannot run; remove the delays"
            )
        if exponent:
            layer.note(
                "netx forgets the exponent of a recurrent layer with delays: its weights count "
                f"{2**-exponent} times, and so they do here"
            )
            exponent = 0
    extra = 0 if delays is None or np.ptp(delays) else int(delays.flat[0])
    differing = None if delays is None or not np.ptp(delays) else delays
    ends = [(layer.name, source), (f"{layer.name}_rec", layer.name)]
    return [
        Dense(
            name=name,
            source=origin,
            target=layer.name,
            delay=1 + extra,
            weight_exp=exponent,
            num_weight_bits=found.num_weight_bits,
            weight=found.weight,
            delays=differing,
        )
        for (name, origin), found in zip(ends, held, strict=False)
    ]


def _delays(layer: Layer, weight: Array) -> Array | None:
    """Extra steps as (out, 1), (1, in) or (out, in); one number stays one."""
    if "delay" not in layer:
        return None
    delays = layer.integers("delay")
    if delays.min() < 0:
        raise layer.error(f"a delay of {delays.min()} steps; none can be negative")
    if delays.max() > fixed.SYNAPSE_DELAY_MAX:
        layer.note(
            f"delays up to {delays.max()} steps are cut to {fixed.SYNAPSE_DELAY_MAX}, as netx "
            "cuts them"
        )
        delays = np.minimum(delays, fixed.SYNAPSE_DELAY_MAX)
    rows, columns = weight.shape
    if delays.ndim == 0:
        return delays.reshape(1, 1)
    if delays.shape == (rows,):  # netx asks for the outputs first
        return delays.reshape(-1, 1)
    if delays.shape == (columns,):
        return delays.reshape(1, -1)
    if delays.shape != weight.shape:
        raise layer.error(
            f"delay has shape {delays.shape}, which fits neither {rows} outputs nor {columns} "
            "inputs; export it again"
        )
    return delays


def _note_changes(layer: Layer, given: Array, held: HeldWeights) -> None:
    ideal = given << -held.weight_exp
    changed = int(np.count_nonzero(ideal != held.weight))
    if changed:
        layer.note(
            f"{changed} weights run as other values than the file's, as netx and Lava make them "
            "(negative alone, the largest a power of two)"
        )


def _refuse_complex(layer: Layer) -> None:
    if "weight/imag" in layer:
        raise layer.error("complex weights, which cannot be run here; train it with real ones")
