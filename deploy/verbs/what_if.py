"""The verb ``what-if``: a network's cost around where it is, as JSON and as a picture."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.table import Table

from spikeship.deploy.analysis.references import gpu_rows
from spikeship.deploy.analysis.what_if import Question, runs_needed
from spikeship.deploy.analysis.what_if import what_if as vary
from spikeship.deploy.io import classifier, network_file
from spikeship.deploy.io.inputs import images_for
from spikeship.deploy.options.estimate import WhatIfOptions
from spikeship.deploy.options.shared import Common, NetFile, Source
from spikeship.deploy.report.report import energy_range, si
from spikeship.deploy.report.what_if_picture import write_what_if_picture
from spikeship.deploy.run.evaluate import Running
from spikeship.deploy.verbs.console import DONE, NO, Voice, check_writable
from spikeship.hw_models.atomic import replacing
from spikeship.hw_models.placement.placement import Rules
from spikeship.training.nir_io.from_nir import read_nir

JSON_NAME, PICTURE_NAME = "what-if.json", "what-if.svg"


def what_if(file: NetFile, source: Source, options: WhatIfOptions, common: Common) -> int:
    """Estimate a network around where it is, and write DIR/what-if.json and DIR/what-if.svg."""
    voice = Voice(common.json, common.quiet)
    question = Question(**options.values(), rules=Rules(options.axons, options.kernels))
    for name in (JSON_NAME, PICTURE_NAME):
        check_writable(options.output / name)
    graph = network_file.load(file.net)
    images = images_for(graph, source.data, source.data_dir, source.limit)
    network = None if options.snn is None else read_nir(options.snn)
    ann = None
    if options.ann is not None:
        ann = classifier.load(options.ann, input_shape=graph.input.shape)
    gpu = gpu_rows(
        graph, images, ann=ann, result=options.gpu_result, utilisation=options.gpu_utilisation
    )
    runs = runs_needed(question, network is not None)
    with voice.progress(runs * len(images.values), "images") as progress:
        found = vary(
            graph,
            images,
            question,
            gpu,
            seed=common.seed,
            network=network,
            running=Running(device=common.for_integers),
            progress=progress,
        )
    result = found.to_json()
    with replacing(options.output / JSON_NAME) as temporary:  # both files, or neither
        temporary.write_text(json.dumps(result, indent=2) + "\n")
        write_what_if_picture(result, options.output / PICTURE_NAME)
    _tell(voice, options.output, result)
    voice.result({**result, "output": str(options.output)})
    return DONE if any(point["fits"] for point in result["points"]) else NO


def _tell(voice: Voice, output: Path, result: Mapping[str, Any]) -> None:
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for heading in ("varied", "chip", "energy", "range", "latency", "cores", "memory", "accuracy"):
        justify: Literal["left", "right"] = "left" if heading in ("varied", "chip") else "right"
        shown.add_column(heading, justify=justify, no_wrap=True)
    names = {"steps": "T", "weight_bits": "bits", "rate": "rate x"}
    for point in result["points"]:
        energy, accuracy = point["energy_j"], point["accuracy"]
        shown.add_row(
            f"{names[point['axis']]} {point['at']:g}",
            point["chip"],
            si(energy["value"], "J"),
            energy_range(energy),
            si(point["latency_s"], "s"),
            f"{point['cores']:,}" + ("" if point["fits"] else " !"),
            f"{point['synapse_bits'] / 8192:,.0f} KiB",
            "–" if accuracy is None else f"{accuracy:.1%}",
        )
    voice.say(shown)
    if not all(point["fits"] for point in result["points"]):
        voice.say("!: does not fit; the reasons are in the JSON")
    for line in result["left_out"]:
        voice.say(f"left out: {line}")
    for found in result["break_even"]:
        voice.say(_break_even_line(found, result["references"]))
    for line in result["assumptions"]:
        voice.say(f"- {line}")
    voice.say(f"{output / JSON_NAME}, {output / PICTURE_NAME}")


def _break_even_line(found: Mapping[str, Any], references: list[dict[str, Any]]) -> str:
    kind = next(row["kind"] for row in references if row["name"] == found["against"])
    head = f"break-even of {found['chip']} against {found['against']} ({kind})"
    value = found["value"]
    ends = [found[end]["factor"] for end in ("low", "high")]
    between = " to ".join("none" if end is None else f"{end:.3g}" for end in ends)
    if value["factor"] is not None:
        return (
            f"{head}: at {value['factor']:.3g} times the rate ({between}), "
            f"{value['spikes_per_step']:.3g} spikes a neuron and step"
        )
    if ends == [None, None]:
        return f"{head}: none, {value['why']}"
    return f"{head}: none, {value['why']}; within the ranges {between} times the rate"
