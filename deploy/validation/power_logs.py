"""The measured part of Blouw et al.'s rows, read from their power logs.

``python -m spikeship.deploy.validation.power_logs CHECKOUT``

CHECKOUT is a clone of github.com/abr/power_benchmarks (read at commit fce95c8). The figures go into
``blouw.json`` and ``conventional.json`` beside this file, into the rows that name their logs; all
else there stays.
"""

import argparse
import csv
import json
import statistics
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

ROWS = Path(__file__).with_name("blouw.json")
DEVICES = Path(__file__).with_name("conventional.json")
IDLE_EDGE = 20  # readings at each end of an idle log that the authors leave out
SETTLING = 3  # readings after a run that may still hold some of it
CLOCK = "%Y-%m-%d_%H:%M:%S.%f"

Reading = tuple[str, float]  # time, watts


def readings(path: Path) -> list[Reading]:
    """Watts of the whole chip in a log, with the time of each; a reading that broke off is lost."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    found = []
    for row in rows:
        try:
            found.append((row[0], float(row[1])))
        except (IndexError, ValueError):
            continue
    return found


def idle_before(logs: Path) -> float:
    """Mean watts before a first run, over all logs of it, as the authors average them."""
    watts: list[float] = []
    for path in sorted((logs / "idle").glob("loihi*.csv")):
        watts += [one for _, one in readings(path)[IDLE_EDGE - 1 : 1 - IDLE_EDGE]]
    return statistics.fmean(watts)


def measured(logs: Path, pattern: str, idle: float) -> dict[str, Any]:
    """Seconds an inference and watts of the runs whose logs match ``pattern``."""
    times: list[float] = []
    running: list[list[float]] = []
    after: list[float] = []
    for path in sorted((logs / "running").glob(pattern)):
        said = json.loads(path.read_text())
        begin, end = said["start_time"], said["end_time"]
        seconds = datetime.strptime(end, CLOCK) - datetime.strptime(begin, CLOCK)
        times.append(seconds.total_seconds() / said["n_inferences"])
        read = readings(path.with_suffix(".csv"))
        running.append([watts for when, watts in read if begin <= when <= end])
        after += [watts for when, watts in read if when > end][SETTLING:]
    return {
        "runs": len(times),
        "idle": "cold",
        "time_s": {
            "inference": _rounded(statistics.fmean(times)),
            "spread": _rounded(statistics.pstdev(times)),
        },
        "power_w": {
            "running": _rounded(statistics.fmean(sum(running, []))),
            "spread": _rounded(statistics.pstdev([statistics.fmean(one) for one in running])),
            "idle_before": _rounded(idle),
            "idle_after": _rounded(statistics.fmean(after)),
        },
    }


def of_device(logs: Path, running: str, idle: str) -> dict[str, Any]:
    """Watts and inferences a second of one run on conventional hardware, as the authors take them.

    Args:
        logs: the checkout's.
        running: name of the run's log, without ending.
        idle: name of the log taken while idle.
    """
    said = json.loads((logs / "running" / f"{running}.json").read_text())
    read = _metered(logs / "running" / f"{running}.csv")
    begin = next(i for i, (when, _) in enumerate(read) if when == said["start_time"])
    end = max(i for i, (when, _) in enumerate(read) if when and when <= said["end_time"])
    quiet = _metered(logs / "idle" / f"{idle}.csv")
    quiet = quiet[IDLE_EDGE : len(quiet) - IDLE_EDGE + 1]
    return {
        "running_w": _rounded(_mean(read[begin : end + 1])),
        "idle_w": _rounded(_mean(quiet)),
        "inferences_per_s": _rounded(said["n_inferences"] / said["n_seconds"]),
    }


def _metered(path: Path) -> list[tuple[str, str]]:
    """Time and watts, as text, of each line of another device's log; empty where there is none."""
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    found = []
    for row in rows:
        cell = row[7] if len(row) > 5 else row[1] if len(row) > 1 else ""  # as their programs log
        when = row[0].replace("/", "-").replace(" ", "_").split(".")[0] if row else ""
        found.append((when, cell.strip(" W")))
    return found


def _mean(read: list[tuple[str, str]]) -> float:
    return statistics.fmean(float(watts) for _, watts in read if watts)


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def main() -> int:
    """Write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path)
    logs = parser.parse_args().checkout / "logs"
    if not (logs / "idle").is_dir() or not (logs / "running").is_dir():
        print(f"{logs}: no folders idle and running; give a clone of abr/power_benchmarks")
        return 2
    document = json.loads(ROWS.read_text())
    idle = idle_before(logs)
    for row in document["rows"]:
        row["measured"] = measured(logs, row["logs"], idle)
        print(row["name"], row["measured"])
    ROWS.write_text(json.dumps(document, indent=2) + "\n")
    devices = json.loads(DEVICES.read_text())
    for row in devices["rows"]:
        row["measured"] = of_device(logs, row["logs"], row["idle_log"])
        print(row["device"], row["batch"], row["measured"])
    DEVICES.write_text(json.dumps(devices, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
