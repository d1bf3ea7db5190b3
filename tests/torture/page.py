"""The last full run, on docs/hostile-files.md: ``python tests/torture/page.py`` writes it there.

Read from docs/measured/torture.json, which ``make torture`` wrote; nobody types a number.
"""

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE, RECORD = DOCS / "hostile-files.md", DOCS / "measured" / "torture.json"
BEGIN, END = "<!-- the last full run -->", "<!-- its end -->"
COLUMNS = ("tried", "refused", "loaded", "unexpected", "hung", "leaked", "lost", "skipped")


def section(said: dict[str, Any]) -> str:
    """The table of a run, and what it adds up to."""
    rows = said["rows"]
    files = sum(row["tried"] for row in rows.values() if row["refused"] or row["loaded"])
    bad = {key: sum(row[key] for row in rows.values()) for key in COLUMNS[3:7]}
    lines = [
        f"Seed {said['seed']}, {said['seconds'] / 60:.0f} minutes on two cores: {files:,} damaged "
        f"files, {rows['kills']['tried']} runs ended by a signal; "
        + ", ".join(f"{count} {key}" for key, count in bad.items())
        + ".",
        "",
        "| | " + " | ".join(COLUMNS) + " |",
        "|---" * (len(COLUMNS) + 1) + "|",
    ]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[key]:,}" for key in COLUMNS) + " |")
    return "\n".join(lines)


def written(page: str, said: dict[str, Any]) -> str:
    """The page with this run on it."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{section(said)}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(), json.loads(RECORD.read_text())))
