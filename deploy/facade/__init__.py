"""Spikeship: from a trained image classifier to a verified spiking network on Lava and Loihi.

    import spikeship as ss

    trained = ss.train("vgg5", "digits")
    net = ss.quantize(ss.convert(trained, "digits", num_steps=16))
    print(ss.verify(net), ss.estimate(net, "digits"))

What the command line does in one verb is one call here. Importing this loads nothing else: each
name is fetched when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__all__ = [
    "SpikeshipError",
    "__version__",
    "compare",
    "convert",
    "estimate",
    "export",
    "finetune",
    "load",
    "load_ann",
    "load_data",
    "messages",
    "predict",
    "quantize",
    "save",
    "simulate",
    "stream",
    "trace",
    "train",
    "validate",
    "verify",
    "what_if",
]

if TYPE_CHECKING:
    from spikeship.deploy.api.files import export, load, save
    from spikeship.deploy.api.judge import compare, estimate, validate, what_if
    from spikeship.deploy.api.make import convert, finetune, quantize, train
    from spikeship.deploy.api.run import messages, predict, simulate, stream, verify
    from spikeship.deploy.api.sources import load_ann, load_data, trace
    from spikeship.hw_models.errors import SpikeshipError

    __version__: str

_AT = {
    "SpikeshipError": "hw_models.errors",
    **dict.fromkeys(("load_ann", "load_data", "trace"), "deploy.api.sources"),
    **dict.fromkeys(("export", "load", "save"), "deploy.api.files"),
    **dict.fromkeys(("convert", "finetune", "quantize", "train"), "deploy.api.make"),
    **dict.fromkeys(("messages", "predict", "simulate", "stream", "verify"), "deploy.api.run"),
    **dict.fromkeys(("compare", "estimate", "validate", "what_if"), "deploy.api.judge"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'spikeship' has no attribute {name!r}")
    if name == "__version__":
        from importlib.metadata import version

        return version("spikeship")
    found = getattr(importlib.import_module(f"spikeship.{_AT[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
