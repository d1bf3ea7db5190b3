"""docs/results.md, written from the recipes and results of ``paper_table.py``.

``python benchmarks/results_page.py`` writes the page; nobody types a number.
"""

import json
import sys
from pathlib import Path
from typing import Any

import paper_table

PAGE = Path(__file__).parents[1] / "docs" / "results.md"
Json = dict[str, Any]

HEAD = """# Results on real data

What `python benchmarks/paper_table.py ROW` measured, beside the figures of Rathi et al., ICLR
2020 (arXiv 2005.01807, tables 1 and 2). `python benchmarks/results_page.py` writes this page from
the files in `benchmarks/results/`. A row's recipe is `benchmarks/rows/ROW.toml`. Every accuracy is
of the whole test set, with one seed; what was chosen was chosen without it.
"""
CLASSIFIERS = """## Classifiers

The networks before conversion. The paper trains 300 epochs.
"""
CHOICES = """## What the recipes were chosen by

Runs on the training images without the 5,000 that were put aside, and what they got right of
those. Test images were not read.
"""


def classifiers(rows: list[tuple[str, Json, Json]]) -> str:
    """The table of the stage ``ann``, of (row, recipe, result)."""
    heads = ["row", "the paper's", "ours", "test images", "epochs", "minutes", "weights"]
    lines = []
    for row, recipe, result in rows:
        paper = recipe.get("paper")
        quoted = f"{paper['ann']:.2f} %" if paper else "not in it"
        stage = result.get("stages", {}).get("ann")
        if stage is None:
            lines.append([f"`{row}`", quoted, "not run yet", "", "", "", ""])
            continue
        lines.append(
            [
                f"`{row}`",
                quoted,
                f"{stage['accuracy']:.2%}".replace("%", " %"),
                f"{stage['correct']:,} of {stage['images']:,}",
                f"{stage['epochs']}",
                f"{stage['seconds'] / 60:.0f}",
                f"{stage['parameters']:,}",
            ]
        )
    return _table(heads, lines)


def commands(rows: list[tuple[str, Json, Json]]) -> str:
    """What was run, on what, with which revision."""
    parts = []
    for row, recipe, result in rows:
        if result.get("stages") and "note" in recipe:
            parts.append(f"`{row}`: {recipe['note']}\n")
        for name, stage in result.get("stages", {}).items():
            found = stage["machine"]
            revisions = ", ".join(f"`{revision[:12]}`" for revision in stage["revisions"])
            parts.append(
                f"`{row}`, {name}: {stage['date']}, seed {stage['seed']}, {found['threads']} "
                f"threads of an {found['processor']}, torch {found['torch']}, revision "
                f"{revisions}, network `{stage['sha256'][:12]}`\n\n```\n"
                f"{stage['command']}\n```\n"
            )
    return "\n".join(parts)


def choices(tried: list[Json]) -> str:
    """The table of the runs that recipes were chosen by."""
    heads = ["row", "right of the images put aside", "epochs", "minutes", "command"]
    return _table(
        heads,
        [
            [
                f"`{entry['row']}`",
                f"{entry['validation_accuracy']:.2%} of {entry['images']:,}".replace("%", " %"),
                str(entry["epochs"]),
                f"{entry['seconds'] / 60:.0f}",
                f"`{entry['command']}`",
            ]
            for entry in tried
        ],
    )


def page() -> str:
    """The whole page."""
    rows = [(row, paper_table.recipe(row), paper_table.result(row)) for row in paper_table.rows()]
    parts = [HEAD, CLASSIFIERS, classifiers(rows) + "\n"]
    said = commands(rows)
    if said:
        parts.append(said)
    if paper_table.CHOICES.is_file():
        parts += [CHOICES, choices(json.loads(paper_table.CHOICES.read_text())) + "\n"]
    return "\n".join(parts)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
