"""The verb ``estimate``: what a network would cost on a chip, its placement and its picture."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.table import Table

from spikeship.deploy.io import network_file
from spikeship.deploy.io.inputs import images_for
from spikeship.deploy.options.estimate import EstimateOptions
from spikeship.deploy.options.shared import Common, NetFile, Source
from spikeship.deploy.pipeline.estimate import estimate as estimate_network
from spikeship.deploy.report.drawing import check_format
from spikeship.deploy.report.placement_picture import figure_of, write_placement_picture
from spikeship.deploy.report.report import si
from spikeship.deploy.verbs.console import DONE, NO, Voice, check_writable
from spikeship.hw_models.atomic import replacing
from spikeship.hw_models.energy_models import ModelEnergy
from spikeship.hw_models.estimate import Estimate
from spikeship.hw_models.placement import placement_file
from spikeship.hw_models.placement.placement import Placement
from spikeship.hw_models.placer.one_more_core import OneMore


def estimate(file: NetFile, source: Source, options: EstimateOptions, common: Common) -> int:
    """Estimate cost on a chip."""
    voice = Voice(common.json, common.quiet)
    if options.picture is not None:
        check_format(options.picture)
    for path in (options.placement, options.picture):
        if path is not None:
            check_writable(path)
    graph = network_file.load(file.net)
    images = images_for(graph, source.data, source.data_dir, source.limit)
    with voice.progress(len(images.values), "images") as progress:
        both = estimate_network(
            graph,
            images,
            options,
            seed=common.seed,
            device=common.for_integers,
            progress=progress,
        )
    found, placement = both.estimate, both.estimate.placement
    result: dict[str, Any] = {
        **found.to_json(),
        "rules": asdict(placement.rules),
        "misfits": [{**asdict(misfit), "text": str(misfit)} for misfit in placement.misfits],
    }
    _tell(voice, found)
    if options.models:
        result["models"] = [model.to_json() for model in both.models]
        voice.say(_models_table(both.models, found))
    if options.placement is not None:
        _write(placement, options.placement)
        result["placement"] = str(options.placement)
    if options.picture is not None:
        write_placement_picture(figure_of(found), options.picture)
        result["picture"] = str(options.picture)
    for path in (options.placement, options.picture):
        if path is not None:
            voice.say(str(path))
    voice.result(result)
    return DONE if placement.fits else NO


def _write(placement: Placement, path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(placement_file.to_json(placement), indent=1) + "\n")


def _tell(voice: Voice, found: Estimate) -> None:
    energy, placement = found.energy, found.placement
    voice.say(
        f"{found.chip}, estimated per inference: {energy.dynamic + energy.static:.3g} J "
        f"({energy.low:.3g} to {energy.high:.3g}), {found.latency_s:.3g} s, "
        f"{_operations(found)}, {placement.cores} cores"
        + ("" if placement.fits else ", DOES NOT FIT")
    )
    for misfit in placement.misfits:
        voice.say(f"{found.chip}: {misfit}")
    parts = ", ".join(f"{name} {si(one.value, 'J')}" for name, one in energy.components.items())
    voice.say(
        f"chip: dynamic {si(energy.dynamic, 'J')} ({parts}), static {si(energy.static, 'J')} of "
        f"{placement.chips} chip{'s' * (placement.chips != 1)}; pipelined at most "
        f"{found.throughput_per_s:.3g} inferences a second"
    )
    voice.say(_host_line(found))
    voice.say(_bottleneck_line(found))
    for line in (*found.assumptions, f"the host's share: {found.host.source}"):
        if line not in placement.reasons:  # they stand above
            voice.say(f"- {line}")


def _operations(found: Estimate) -> str:
    """Effective operations, the host's apart from those that cores do."""
    every, injected = found.rates["synops"]["effective"], found.injected["effective"]
    if not injected:
        return f"{every:.0f} synaptic operations"
    return f"{every - injected:.0f} synaptic operations ({injected:.0f} more are the host's)"


def _host_line(found: Estimate) -> str:
    host = found.host
    line = "host, apart from all this: unknown"
    if host.energy_j is not None and host.latency_s is not None:
        line = (
            f"host, apart from all this: {si(host.energy_j, 'J')} ({si(host.low, 'J')} to "
            f"{si(host.high, 'J')}), {si(host.latency_s, 's')} ({si(host.latency_low_s, 's')} to "
            f"{si(host.latency_high_s, 's')})"
        )
    if host.injected_values:
        line += (
            f"; it injects {host.injected_values:,} values an inference, made with "
            f"{host.macs:,.0f} multiply-accumulates"
        )
    return line


def _bottleneck_line(found: Estimate) -> str:
    limit, link = found.bottleneck, found.link
    line = f"bottleneck: {limit.limit}, for {limit.share:.0%} of the time; "
    if limit.limit == "link" and link is not None:
        carried = ", ".join(f"{one.synapse!r} {one.messages:,.0f}" for one in link.loads)
        line += (
            f"the busiest is from tile {link.link.start} to tile {link.link.end} of chip "
            f"{link.link.chip}, with {link.messages:,.0f} messages an inference ({carried})"
        )
    else:
        line += f"the busiest core is one of {limit.core.layer!r}"
    return line + _one_more(found.one_more)


def _one_more(more: OneMore | None) -> str:
    if more is None:
        return "; no layer that decides a step can be cut further"
    if more.seconds <= 0:
        return "; one more core would save nothing"
    cores = "one more core" if more.cores == 1 else f"{more.cores} more cores"
    line = f"; {cores} for {more.layer!r} would save {si(more.seconds, 's')} an inference"
    if more.chips:
        line += (
            f", and take another chip: {si(more.static_w, 'W')} more, whatever it does, "
            f"{si(more.static_j, 'J')} an inference"
        )
    return line


def _models_table(models: Sequence[ModelEnergy], found: Estimate) -> Table:
    """What every named model says, with the chip's estimate above for comparison."""
    shown = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title="Other published models of the same counts, uncalibrated; all estimated",
        title_justify="left",
        caption="cheaper below: spikes a neuron and step below which the network costs less than "
        f"the model's ANN; here {models[0].spike_rate:.3g}",
        caption_justify="left",
    )
    for heading in ("model", "energy", "low", "high", "its ANN", "cheaper below"):
        justify: Literal["left", "right"] = "left" if heading == "model" else "right"
        shown.add_column(heading, justify=justify, no_wrap=True)
    energy = found.energy
    total = energy.dynamic + energy.static
    own = (total, energy.low, energy.high)
    shown.add_row(f"{found.chip}, above", *(si(joules, "J") for joules in own), "–", "–")
    for model in models:
        shown.add_row(
            model.model,
            *(si(joules, "J") for joules in (model.energy_j, model.low, model.high)),
            si(model.ann_energy_j, "J"),
            _cheaper_below(model),
        )
    return shown


def _cheaper_below(model: ModelEnergy) -> str:
    """The break-even rate, or on which side the network is at any rate."""
    if model.ann_energy_j is None:
        return "–"
    if model.break_even.rate is not None:
        return f"{model.break_even.rate:.3g}"
    return "always" if model.energy_j <= model.ann_energy_j else "never"
