"""A directory that builds and runs the network's Lava Processes anywhere Lava is installed.

It holds copies of the very files that run Lava here (shim, Processes, builder), their imports made
local, beside the plan with the weights. It needs lava-nc, NumPy and SciPy, not Spikeship.
"""

from pathlib import Path

from spikeship.deploy.errors import DeployError
from spikeship.hw_models import lava
from spikeship.hw_models.atomic import replacing_folder
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.lava.build import build, write_plan
from spikeship.hw_models.lava.compat import LAVA_VERSION

PACKAGE = lava.__name__
FILES = {
    "../errors.py": "errors.py",
    "axes.py": "axes.py",
    "compat.py": "compat.py",
    "processes.py": "processes.py",
    "sigma_delta.py": "sigma_delta.py",
    "network.py": "network.py",
    "standalone.py": "run.py",
}
MARK = "plan.npz"
# what an export and a run of it leave
WRITTEN = {*FILES.values(), MARK, "README.md", "__pycache__"}


def export_lava(graph: FixedGraph, folder: Path) -> Path:
    """Write the directory, whole or not at all.

    An earlier export at the same place is replaced where nothing was added to it; anything else
    is left alone.

    Raises:
        DeployError: the place is taken by something that is not an export.
        OutputError: it cannot be written.
    """
    theirs = sorted(_entries(folder) - WRITTEN)
    if theirs:
        raise DeployError(
            f"{folder}: exists and is not an export of ours alone (holds {theirs[0]}); "
            "choose another name"
        )
    with replacing_folder(folder) as temporary:
        source = Path(lava.__path__[0])
        for name, target in FILES.items():
            (temporary / target).write_text(_local_imports((source / name).read_text()))
        write_plan(build(graph), temporary / MARK)
        (temporary / "README.md").write_text(_readme(graph))
    return folder


def _entries(folder: Path) -> set[str]:
    """Names of what stands at a place; a file's own where it is no folder."""
    if folder.is_dir() and not folder.is_symlink():
        return {path.name for path in folder.iterdir()}
    return {folder.name} if folder.exists() or folder.is_symlink() else set()


def _local_imports(text: str) -> str:
    local = text.replace(f"from {PACKAGE} import ", "import ").replace(f"from {PACKAGE}.", "from ")
    return local.replace("from spikeship.hw_models.errors import", "from errors import")


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
