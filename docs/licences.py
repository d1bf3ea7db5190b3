"""Write the table of docs/licences.md: every installed package, its licence, and what uses it.

The packages are those of constraints.txt and the three that it leaves out. Licences and needs come
from the installed packages' own metadata, uses from the import statements here.
``python docs/licences.py`` writes the table; ``tests/test_licences.py`` fails where it is no longer
what is installed.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"
HEAD = "| package | licence | used by |\n|---|---|---|\n"
OUTSIDE = ("torch", "lava-nc", "lava-dl")  # not in constraints.txt, which says why
FOLDERS = ("hw_models", "training", "deploy", "docs", "examples", "benchmarks", "tests")
# newer ones need less
PYTHON = {"python_version": "3.11", "python_full_version": "3.11.0"}
LONGEST = 60  # some put the whole text in the field for the name
# where the metadata name none, from the text of the licence beside them; torch's differ by build
READ = {
    "neurobench": "Apache-2.0",
    "spikingjelly": "Apache-2.0, parts of others (its LICENSES/NOTICE)",
    "torch": "BSD-3-Clause, parts of others (its third_party folder)",
    "lava-nc": "BSD-3-Clause; LGPL-2.1-or-later (lava.magma.compiler, lava.magma.runtime)",
    "lava-dl": "BSD-3-Clause",
}
# used in a way that no import shows
RUN = {
    "import-linter": "`make contract`",
    "mypy": "`make types`",
    "onnxscript": "torch's exporter of ONNX, for `compare --int8`",
    "pytest-xdist": "`make test`",
    "ruff": "`make lint`",
    "tensorboardx": "`training/`, through lightning-fabric's logger; `tests/`",
    "setuptools": "building and installing",
}
BY_NAME = r"lava(\.\w+)+"  # modules of Lava are imported by their names, when they are needed


def packages() -> list[str]:
    """Names of everything that ``make`` installs, as pip writes them in lower case."""
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return sorted({canonicalize_name(name) for name in (*locked, *OUTSIDE)})


def licence(name: str) -> str:
    """A package's licence, in its own words where these are short."""
    if name in READ:
        return READ[name]
    metadata = distribution(name).metadata
    for field in ("License-Expression", "License"):
        words = (metadata.get(field) or "").strip()
        if words and words != "UNKNOWN" and len(words) <= LONGEST and "\n" not in words:
            return words
    tails = [
        line.rpartition(" :: ")[2]
        for line in metadata.get_all("Classifier") or []
        if line.startswith("License :: ")
    ]
    if not tails:
        raise SystemExit(f"{name} names no licence; read it and add a row to READ")
    return ", ".join(tails)


def importers() -> dict[str, set[str]]:
    """By package, the folders with a file that imports it."""
    provided = packages_distributions()
    found: defaultdict[str, set[str]] = defaultdict(set)
    for folder in FOLDERS:
        for file in {*(ROOT / folder).rglob("*.py")} - {Path(__file__).resolve()}:
            for module in imported(ast.parse(file.read_text())):
                for package in _providers(module, provided):
                    found[canonicalize_name(package)].add(folder)
    return found


def _providers(module: str, provided: dict[str, list[str]]) -> Iterable[str]:
    top = module.partition(".")[0]
    if top == "lava":  # a name that both share
        return ("lava-dl",) if module.startswith("lava.lib.dl") else ("lava-nc",)
    return provided.get(top, ())


def imported(tree: ast.AST) -> Iterable[str]:
    """Names that a file imports, with what it takes from modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Constant) and re.fullmatch(BY_NAME, str(node.value)):
            yield str(node.value)


def needed_by(names: list[str]) -> dict[str, set[str]]:
    """By package, those of ``names`` that ask for it, with the extras that others ask of them."""
    asked = {name: [*map(Requirement, distribution(name).requires or [])] for name in names}
    extras: defaultdict[str, set[str]] = defaultdict(lambda: {""})
    for wanted in (one for wants in asked.values() for one in wants):
        if _holds(wanted, {""}):
            extras[canonicalize_name(wanted.name)] |= wanted.extras
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, wants in asked.items():
        for wanted in wants:
            if _holds(wanted, extras[name]):
                found[canonicalize_name(wanted.name)].add(name)
    return found


def _holds(wanted: Requirement, extras: set[str]) -> bool:
    if wanted.marker is None:
        return True
    return any(wanted.marker.evaluate({**PYTHON, "extra": extra}) for extra in extras)


def table() -> str:
    """The table, in Markdown."""
    names = packages()
    imported, needed = importers(), needed_by(names)
    rows = []
    for name in names:
        folders = [f"`{folder}/`" for folder in FOLDERS if folder in imported.get(name, ())]
        if name in RUN:
            used = RUN[name]
        elif folders:
            used = ", ".join(folders)
        else:
            used = f"through {', '.join(sorted(needed[name]))}"
        if not folders and not needed[name] and name not in RUN:
            raise SystemExit(f"{name} is installed and nothing uses it")
        rows.append(f"| {name} | {licence(name)} | {used} |\n")
    return HEAD + "".join(rows)


def page() -> str:
    """The page with today's table."""
    before, _, rest = PAGE.read_text().partition(HEAD)
    after = re.sub(r"\A(\|.*\n)*", "", rest)
    return before + table() + after


if __name__ == "__main__":
    PAGE.write_text(page())
