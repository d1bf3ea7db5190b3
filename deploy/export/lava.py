"""A directory that builds and runs the network's Lava Processes anywhere Lava is installed.

It holds copies of the very files that run Lava here (shim, Processes, builder), their imports made
local, beside the plan with the weights. It needs lava-nc, NumPy and SciPy, and nothing of ours.
"""

import os
import shutil
from pathlib import Path

from spikeship.deploy.check import DeployError
from spikeship.hw_models import lava
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.lava.build import build, write_plan
from spikeship.hw_models.lava.compat import LAVA_VERSION

PACKAGE = lava.__name__
FILES = {
    "axes.py": "axes.py",
    "compat.py": "compat.py",
    "processes.py": "processes.py",
    "network.py": "network.py",
    "standalone.py": "run.py",
}
MARK = "plan.npz"


def export_lava(graph: FixedGraph, folder: Path) -> Path:
    """Write the directory (under a temporary name first, then renamed).

    An earlier export at the same place is replaced; anything else there is left alone.

    Raises:
        DeployError: the place is taken by something that is not an export, or cannot be written.
    """
    if folder.exists() and not (folder / MARK).is_file() and any(_entries(folder)):
        raise DeployError(f"{folder}: exists and is not an export of ours; choose another name")
    temporary = folder.with_name(f".{folder.name}.tmp")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        source = Path(lava.__path__[0])
        for name, target in FILES.items():
            (temporary / target).write_text(_local_imports((source / name).read_text()))
        write_plan(build(graph), temporary / MARK)
        (temporary / "README.md").write_text(_readme(graph))
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    except OSError as error:
        raise DeployError(f"{folder}: cannot be written ({error.strerror or error})") from error
    return folder


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else [folder]


def _local_imports(text: str) -> str:
    return text.replace(f"from {PACKAGE} import ", "import ").replace(f"from {PACKAGE}.", "from ")


def _readme(graph: FixedGraph) -> str:
    shape = ", ".join(map(str, graph.input.shape))
    nodes = "\n".join(f"- `{node.name}` {node.shape}" for node in graph.nodes)
    steps = "as many as you like" if graph.num_steps is None else str(graph.num_steps)
    return f"""# A spiking network as Lava Processes

    pip install --no-deps --ignore-requires-python lava-nc=={LAVA_VERSION}
    pip install numpy scipy networkx asteval
    python run.py messages.npy -o activity.npz

`messages.npy`: integers (images, steps, {shape}), steps: {steps}, magnitude at most
{graph.input.max_message}. A sample takes steps + {graph.drain} chip steps; the readout is valid
after the last. `activity.npz` gets one array a node, (images, chip steps, ...):

{nodes}

To build the Processes into a program of your own: `compat.install()` first, then
`network.LavaNetwork(network.read_plan("plan.npz"), "rows.npy")`, where the rows are messages
flattened by `axes.to_lava`; run with `Loihi2SimCfg(select_tag="fixed_pt")`, always with the tag.
"""
