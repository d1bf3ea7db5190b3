"""What benchmarks/gpu_reference.py writes of a GPU, with figures nobody measured."""

import json
from pathlib import Path
from typing import Any

from spikeship.deploy.analysis.gpu_row import FORMAT


def row(batch: str, **changes: Any) -> dict[str, Any]:
    return {
        "workload": "ann",
        "precision": "float32",
        "processor": "cuda",
        "batch": batch,
        "energy_kind": "measured",
        "device": "NVIDIA Test",
        "inferences_per_call": 1 if batch == "one" else 512,
        "energy_j": 2e-3,
        "low": 1e-3,
        "high": 4e-3,
        "latency_s": 5e-4,
        "idle_power_w": 71.5,
        "assumptions": ["idle power is subtracted"],
        **changes,
    }


def result(tmp_path: Path, *rows: Any, **changes: Any) -> Path:
    found = {"format": FORMAT, "network": {"ann_macs": 1000}, "rows": list(rows), **changes}
    path = tmp_path / "h200.json"
    path.write_text(json.dumps(found))
    return path
