"""What a row leaves open, and the format therefore takes for granted."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_OF_ALL = {"weight_bits": "weights of 8 bits", "connect": "every source connected to every neuron"}
_OF_CONV = {
    "kernel": "kernel 3 x 3", "stride": "stride 1", "padding": "no padding", "groups": "one group",
}  # fmt: skip


def taken(row: Mapping[str, Any]) -> Iterator[str]:
    """A text for each field that a checked row leaves out and that decides its estimate."""
    layers = row["layers"]
    if "rate" not in row["input"]:
        yield "inputs are spikes, at the rate of the layers that say none"
    if "reset" not in row:
        yield "hard reset"
    if "pipelined" not in row:
        yield "inferences follow each other without a pause"
    if "output" not in row:
        yield "the last layer is what is read out"
    if "idle" not in row["measured"]:
        yield "idle is that of a board that has run"
    if "runs" not in row["measured"]:
        yield "one run"
    yield from _of(layers, layers, _OF_ALL)
    yield from _of([layer for layer in layers if layer.get("connect") == "conv"], layers, _OF_CONV)
    without = [layer["name"] for layer in layers if "cores" not in layer]
    if len(without) == len(layers):
        yield "cores: those that place chooses"
    elif without:
        yield f"the fewest cores that hold it: {', '.join(without)}"


def _of(
    some: Sequence[Mapping[str, Any]], layers: Sequence[Any], texts: Mapping[str, str]
) -> Iterator[str]:
    for field, text in texts.items():
        without = [layer["name"] for layer in some if field not in layer]
        if len(without) == len(layers):
            yield text
        elif without:
            yield f"{text}: {', '.join(without)}"
