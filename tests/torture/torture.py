"""Hostile files and bad moments: nothing lost, nothing let in, nothing left.

``python tests/torture/torture.py [--files N] [--kills N] [--images N] [--lava N] [--seed S]
[--json PATH|-]`` loads N damaged files of every kind under a limit of memory and time, ends every
verb by signals at random moments, lets two processes write one file, fills a disk (as root), and
simulates and runs Lava long enough to see memory grow. It prints what was tried, and exits with 1
where anything was unexpected, hung, leaked or lost. ``--only KIND:SEED:NUMBER`` loads one file
again and shows what it raises.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torture import storms  # noqa: E402
from torture.damage import damage_file  # noqa: E402
from torture.files import Tally, damage_all  # noqa: E402
from torture.loaders import KINDS, make  # noqa: E402

COLUMNS = ("tried", "refused", "loaded", "unexpected", "hung", "leaked", "lost", "skipped")
BAD = ("unexpected", "hung", "leaked", "lost")


def main() -> int:
    """Read the command line, run, print; return the exit status."""
    args = _arguments()
    begin = time.perf_counter()
    found: dict[str, Tally] = {}
    with TemporaryDirectory(prefix="torture-") as folder:
        good = Path(folder) / "good"
        make(good)
        if args.only:
            return _again(args.only, good)
        if args.files:
            found |= damage_all(good, list(KINDS), args.files, args.seed)
        for tally in found.values():
            tally.counts["tried"] = sum(
                tally.counts[key] for key in ("refused", "loaded", "unexpected", "hung")
            )
        work = Path(folder) / "work"
        work.mkdir()
        if args.kills:
            found |= storms.storm(work, args.kills, args.seed)
            if args.images:
                found |= storms.soak(work, args.images, args.lava)
    said = {
        "seed": args.seed,
        "seconds": round(time.perf_counter() - begin, 1),
        "rows": {
            name: {key: tally.counts[key] for key in COLUMNS} for name, tally in found.items()
        },
        "findings": [line for tally in found.values() for line in tally.findings],
    }
    _show(said, args.json)
    return 1 if any(row[key] for row in said["rows"].values() for key in BAD) else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Hostile files and bad moments.")
    parser.add_argument("--files", type=int, default=100, help="damaged files of each kind")
    parser.add_argument("--kills", type=int, default=0, help="signals and kills over all verbs")
    parser.add_argument("--images", type=int, default=0, help="to simulate in one process")
    parser.add_argument("--lava", type=int, default=0, help="runs on Lava in that process")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", default=None, help="path, or - for stdout")
    parser.add_argument("--only", default=None, metavar="KIND:SEED:NUMBER")
    return parser.parse_args()


def _again(only: str, good: Path) -> int:
    kind, seed, number = only.split(":")
    row = KINDS[kind]
    target = good / kind / row.name
    content = target.with_name("good")
    target.rename(content)
    damage_file(content, kind, target, int(seed) * 1_000_003 + int(number))
    content.unlink()
    row.load(target)
    print("loaded")
    return 0


def _show(said: dict[str, Any], path: str | None) -> None:
    text = json.dumps(said, indent=2)
    if path == "-":
        print(text)
        return
    print(f"{'':12}" + "".join(f"{name:>11}" for name in COLUMNS))
    for name, row in said["rows"].items():
        print(f"{name:12}" + "".join(f"{row[key]:>11,}" for key in COLUMNS))
    for line in said["findings"][:50]:
        print(line)
    print(f"seed {said['seed']}, {said['seconds']} s")
    if path is not None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
