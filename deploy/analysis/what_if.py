"""What if: a network's cost on a chip against T, weight bits, firing rate and the chip itself.

Every point is an estimate like ``estimate``'s, from what the simulator counts:

- T: the network runs once for each T.
- Weight bits: with the float network, its integers are made and run anew at each width. Without,
  its weights are cut for the placement alone, the counts stay, and accuracy is unknown.
- Firing rate: counted messages times a factor, on the placement of the network as it is.

The break-even rate is the factor at which the estimate, evaluated there, meets a reference.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import nir

from spikeship.deploy.analysis.rates import (
    RateEnergy,
    Rates,
    most_beyond,
    most_often,
    neuron_rates,
    nothing_scales,
    scaled,
    share_beyond,
    spikes_per_step,
)
from spikeship.deploy.analysis.references import Reference, quantized_ann_rows
from spikeship.deploy.analysis.what_if_result import (
    Axis,
    BreakEven,
    Crossing,
    Point,
    WhatIf,
    crossing,
)
from spikeship.deploy.compiler.quantize import quantize
from spikeship.deploy.compiler.weight_width import with_weight_bits
from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.inputs import Images, steps_of
from spikeship.deploy.run.counting import Counted, count, estimate_on, place_on
from spikeship.deploy.run.evaluate import Running
from spikeship.hw_models import chips, fixed
from spikeship.hw_models.chips.spec import Level
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.placement import Placement, Rules

_ASSUMPTIONS = (
    "estimated, but for references that say measured; each point rests on the assumptions that "
    "estimate prints for its chip",
    "energy is the chip's, dynamic and static; the host's share is separate in estimate, and is "
    "in neither side of a break-even",
    "the chip's static power is on its side of a break-even in full; on the reference's side idle "
    "power is only where includes_idle says so, so what was measured is listed twice: idle "
    "power subtracted, and with it",
    "an ANN's multiply-accumulates: on a modelled GPU those on padding too, as dense kernels do "
    "them; in the quantized ANN's rows none on padding",
    "another T: the network is run at it as it is; thresholds made for another T may cost "
    "accuracy, which fine-tuning at that T would win back",
    "weight bits: an operation takes the same time and energy at any width, since no published "
    "constant knows one; so the width moves latency and energy through the placement alone (and, "
    "quantized anew, through other spikes), and their lines may be flat",
    "another rate: a factor on every spike of every neuron alike (and of a spiking input), on the "
    "placement of the network as it is; whether any network computes the same at that rate is not "
    "known, and accuracy is not",
    "break-even: the factor at which the chip's energy equals the reference's; low and high take "
    "the chip's range against the reference's",
)


@dataclass(frozen=True)
class Question:
    """What is varied, each around the network as it is.

    Attributes:
        steps: values of T.
        weight_bits: widths, 1..8.
        rates: factors on the counted firing rate, from 0 on.
        chips: names. Any but the chips may be empty.
        rules: how placements count axons and kernels.
    """

    steps: tuple[int, ...] = ()
    weight_bits: tuple[int, ...] = ()
    rates: tuple[float, ...] = ()
    chips: tuple[str, ...] = ("loihi2",)
    rules: Rules = Rules()

    def __post_init__(self) -> None:
        for name in self.chips:
            chips.get(name)
        for kind, values, least in (
            ("steps", self.steps, 1),
            ("weight bits", self.weight_bits, 1),
            ("rates", self.rates, 0),
        ):
            if any(not least <= value < float("inf") for value in values):
                raise DeployError(f"{kind}: {_listed(values)} must all be numbers from {least} on")
        for kind, given in (
            ("chips", self.chips),
            ("steps", self.steps),
            ("weight bits", self.weight_bits),
            ("rates", self.rates),
        ):
            if len(set(given)) < len(given):
                raise DeployError(f"{kind}: {_listed(given)} names one twice; leave one out")
        if any(bits > fixed.WEIGHT_BITS for bits in self.weight_bits):
            raise DeployError(
                f"weight bits: {_listed(self.weight_bits)} must all be at most {fixed.WEIGHT_BITS}"
            )
        if not self.chips or not (self.steps or self.weight_bits or self.rates):
            raise DeployError("what-if: nothing to vary; give steps, weight bits or rates")


def what_if(
    graph: FixedGraph,
    images: Images,
    question: Question,
    references: Sequence[Reference],
    *,
    seed: int,
    network: nir.NIRGraph | None = None,
    running: Running | None = None,
    progress: Callable[[int], None] | None = None,
) -> WhatIf:
    """Estimate a network around where it is, and find where its energy breaks even.

    Args:
        graph: the quantized network.
        images: what to count on.
        question: what to vary.
        references: joules of one inference to break even with, beside the quantized ANN's.
        seed: of the encoding.
        network: the float network the graph was quantized from, quantized again for each width.
        running: threads, memory, device.
        progress: is given the number of images done since its last call.

    Raises:
        DeployError: a width that the network cannot be quantized to, or every point is left out.
        ValueError: images the graph cannot take.
    """
    run = partial(count, images=images, seed=seed, running=running, progress=progress)
    own = run(graph)
    references = (*references, *quantized_ann_rows(graph, own.counts))
    asked = _Asked(own, question, run, network)
    points = [*asked.steps(), *asked.weight_bits(), *asked.rates()]
    if not points:
        raise DeployError(f"what-if: every point is left out: {'; '.join(asked.left_out)}")
    rates = neuron_rates(own)
    return WhatIf(
        network={
            "num_steps": steps_of(graph, None, images),
            "chip_steps": own.counts.chip_steps,
            "weight_bits": weight_bits_of(graph),
            "inferences": own.counts.images,
            "data": images.data.get("name"),
            "accuracy": own.accuracy,
            "spikes_per_step": spikes_per_step(own),
        },
        chips=question.chips,
        points=tuple(points),
        references=references,
        break_even=tuple(
            found
            for chip in question.chips
            for found in _break_evens(own, asked.placement(chip), references, rates)
        ),
        left_out=tuple(asked.left_out),
        assumptions=(*_ASSUMPTIONS, *_bound(own, question.rates, rates)),
    )


def runs_needed(question: Question, requantized: bool) -> int:
    """How often the images are run: once as the network is, and for each T and new width."""
    return 1 + len(question.steps) + (len(question.weight_bits) if requantized else 0)


def weight_bits_of(graph: FixedGraph) -> int:
    """The widest weights of a graph, in bits."""
    return max(synapse.num_weight_bits for synapse in graph.synapses)


class _Asked:
    """A question about one network that has been run; gives the points of each axis."""

    def __init__(
        self,
        own: Counted,
        question: Question,
        run: Callable[..., Counted],
        network: nir.NIRGraph | None,
    ) -> None:
        self.own = own
        self.question = question
        self.run = run
        self.network = network
        self.left_out: list[str] = []
        self._placements: dict[str, Placement] = {}

    def placement(self, chip: str) -> Placement:
        """The network as it is, on a chip."""
        if chip not in self._placements:
            self._placements[chip] = place_on(self.own, chip, rules=self.question.rules)
        return self._placements[chip]

    def steps(self) -> Iterator[Point]:
        """The network run at each T."""
        for steps in self.question.steps:
            counted = self.run(self.own.graph, num_steps=steps)
            yield from self._on_every_chip("steps", steps, counted, "simulated")

    def weight_bits(self) -> Iterator[Point]:
        """The network at each width of its weights."""
        for bits in self.question.weight_bits:
            if self.network is not None:
                # every chip takes the same integers: one name of several is enough
                anew = quantize(self.network, chip=self.question.chips[0], weight_bits=bits)
                _check_same(self.own.graph, anew)
                counted = self.run(anew)
                yield from self._on_every_chip("weight_bits", bits, counted, "quantized anew")
            else:
                cut = replace(self.own, graph=with_weight_bits(self.own.graph, bits), accuracy=None)
                yield from self._on_every_chip("weight_bits", bits, cut, "cut for placement")

    def rates(self) -> Iterator[Point]:
        """The network with its spikes counted a factor as often, on its own placement."""
        most, still = most_often(self.own), nothing_scales(self.own)
        for factor in self.question.rates:
            if still is not None and factor != 1:
                self.left_out.append(f"rate {factor:g}: {still}, so a factor scales nothing")
                continue
            if factor > most:
                self.left_out.append(
                    f"rate {factor:g}: a layer would send more than once a neuron and step on its "
                    f"average; at most {most:.3g}"
                )
                continue
            counted = scaled(self.own, factor)
            for chip in self.question.chips:
                yield _point("rate", factor, counted, self.placement(chip), "scaled")

    def _on_every_chip(
        self, axis: Axis, at: float, counted: Counted, source: str
    ) -> Iterator[Point]:
        for chip in self.question.chips:
            placement = place_on(counted, chip, rules=self.question.rules)
            yield _point(axis, at, counted, placement, source)


def _point(axis: Axis, at: float, counted: Counted, placement: Placement, source: str) -> Point:
    found = estimate_on(counted, placement, sensitivity=False).to_json()
    return Point(
        axis=axis,
        at=at,
        chip=placement.chip,
        source=source,
        accuracy=counted.accuracy,
        found=found,
        reasons=placement.reasons,
        synapse_bits=sum(core.synapse_bits for one in placement.layers for core in one.cores),
    )


def _break_evens(
    own: Counted,
    placement: Placement,
    references: Sequence[Reference],
    rates: Rates | None,
) -> Iterator[BreakEven]:
    energy, most, still = RateEnergy(own, placement), most_often(own), nothing_scales(own)

    def meets(level: Level, joules: float) -> Crossing:
        if still is not None:
            side = "more" if energy.at(1.0, level) >= joules else "less"
            return Crossing(None, f"the chip takes {side} at any factor: {still}")
        return crossing(lambda factor: energy.at(factor, level), joules, most)

    def beyond(found: Crossing) -> float | None:
        if found.factor is None or rates is None:
            return None
        return share_beyond(rates, found.factor)

    for reference in references:
        low, value = meets("high", reference.low), meets("value", reference.energy_j)
        high = Crossing(None, "nothing bounds the reference from above")
        if reference.high is not None:
            high = meets("low", reference.high)
        yield BreakEven(
            chip=placement.chip,
            against=reference.name,
            low=low,
            value=value,
            high=high,
            spikes_per_step=spikes_per_step(own),
            most=None if still else most,
            beyond=(beyond(low), beyond(value), beyond(high)),
        )


def _bound(own: Counted, asked: Sequence[float], rates: Rates | None) -> Iterator[str]:
    """What the largest factor is, and how many neurons it asks for more than they can send."""
    if nothing_scales(own) is not None:
        return
    most = most_often(own)
    factors = sorted({factor for factor in asked if 1 < factor <= most} | {most})
    told = "unknown, neurons were not told apart"
    if rates is not None:
        told = ", ".join(_beyond(rates, factor) for factor in factors)
    yield (
        f"a factor goes up to {most:.3g}, where some layer sends once a neuron and step on its "
        "average; the share of neurons (and spiking inputs) that would have to send more than once "
        f"a step, which none can: {told}"
    )


def _beyond(rates: Rates, factor: float) -> str:
    name, share = most_beyond(rates, factor)
    return f"{share_beyond(rates, factor):.1%} at {factor:.3g} ({share:.1%} of {name!r})"


def _check_same(graph: FixedGraph, anew: FixedGraph) -> None:
    """Refuse a float network that the graph was not made of.

    Raises:
        DeployError: it has other layers.
    """
    first, second = (
        [(node.name, node.shape) for node in (each.input, *each.nodes)] for each in (graph, anew)
    )
    if first != second:
        raise DeployError(
            "weight bits: the float network has other layers than the quantized one; give the "
            ".nir that it was quantized from, or none"
        )


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(str(value) for value in values)
