"""Simulates many images and runs Lava many times in this process; prints what it then holds."""

import json
import os
import sys
from pathlib import Path

import spikeship as ss


def main(net: str, images: int, runs: int) -> None:
    """Warm up, measure, go on, measure again."""
    graph = ss.load(net)
    data = ss.load_data("digits")
    done = 0
    _some(graph, data)
    before = held()
    while done < images:
        done += _some(graph, data)
    for _ in range(runs):
        assert ss.verify(graph, data, limit=1).spikes_equal
    after = held()
    print(json.dumps({"images": done, "runs": runs} | {k: [before[k], after[k]] for k in before}))


def _some(graph: object, data: object) -> int:
    found = ss.simulate(graph, data)  # type: ignore[arg-type]
    count: int = found.result["images"]
    return count


def held() -> dict[str, int]:
    """Resident memory, open files, child processes and segments of shared memory."""
    status = Path("/proc/self/status").read_text().splitlines()
    resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "mib": resident // 1024,
        "files": len(os.listdir("/proc/self/fd")),
        "children": len(children),
        "segments": len(os.listdir("/dev/shm")),
    }


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
