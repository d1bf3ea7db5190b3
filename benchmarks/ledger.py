"""The synop ledger: one network, counted by us and by the rules of three other tools.

``python benchmarks/ledger.py [--images N] [--network seeded|vgg5] [--cache DIR] [--json PATH|-]``

A small network from a seed needs no data; the trained VGG5 of the other benchmarks needs
$SPIKESHIP_DATA and is left out without it. NeuroBench's own metric runs on the torch layers;
sinabs' and keras-spiking's rules are written from their documentation. Every difference is the sum
of named rules (ledgers/rules.py), or the command ends with status 1.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import common
import numpy as np
from ledgers import seeded, tables
from ledgers.events import Events, LedgerError, events
from ledgers.other_rules import keras_spiking, sinabs
from ledgers.rules import RULES, by_rules, changes, with_macs
from numpy.typing import NDArray
from speed.trained import default_cache, find_set, trained

from spikeship.deploy.io.inputs import messages_of
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.simulator.simulator import simulate
from spikeship.training.data.load import DataError

NETWORKS = ("seeded", "vgg5")


@dataclass(frozen=True)
class Row:
    """One synapse object, counted by everybody, over all images.

    Attributes:
        events: what it was sent, and our counts.
        tools: by tool, its count of operations (NeuroBench's ACs).
        macs: what NeuroBench calls MACs, by its tools.
    """

    events: Events
    tools: dict[str, Fraction]
    macs: dict[str, int]

    @property
    def explained(self) -> bool:
        """Whether each tool's rules lead from our count to its own, exactly, MACs too."""
        one = self.events
        return all(by_rules(tool, one) == count for tool, count in self.tools.items()) and all(
            with_macs(tool, one) == self.tools[tool] + count for tool, count in self.macs.items()
        )

    def to_json(self) -> dict[str, Any]:
        """Counts per image."""
        one, images = self.events, len(self.events.messages)
        return {
            "name": one.synapse.name,
            "source": one.synapse.source,
            "target": one.synapse.target,
            "spikes": one.spikes / images,
            "pooled_messages": one.pooled_messages / images,
            "effective": one.effective / images,
            "connected": one.connected / images,
            "dense": one.dense / images,
            "tools": {tool: float(count / images) for tool, count in self.tools.items()},
            "neurobench_macs": {tool: count / images for tool, count in self.macs.items()},
            "changes": {
                tool: {name: float(change / images) for name, change in changes(tool, one)}
                for tool in RULES
            },
        }


def ledger(graph: FixedGraph, messages: NDArray[Any]) -> tuple[Row, ...]:
    """Count one network over some images.

    Args:
        graph: a gated network.
        messages: (images, T, *input shape).

    Raises:
        LedgerError: others cannot count it, or NeuroBench is not installed.
    """
    try:
        from ledgers.neurobench_rule import neurobench
    except ImportError as error:
        raise LedgerError(f"NeuroBench is not installed ({error}); `make` installs it") from error
    recording = simulate(graph, messages, record=True).recording
    assert recording is not None  # it was asked for
    found = events(graph, recording)
    folded, _ = neurobench(found)
    apart, _ = neurobench(found, fold=False)
    return tuple(
        Row(
            one,
            {
                "neurobench": Fraction(ours.acs),
                "neurobench, pools apart": Fraction(other.acs),
                "sinabs": sinabs(one),
                "keras-spiking": keras_spiking(one),
            },
            {"neurobench": ours.macs, "neurobench, pools apart": other.macs},
        )
        for one, ours, other in zip(found, folded, apart, strict=True)
    )


def to_json(rows: Sequence[Row]) -> dict[str, Any]:
    """A network's ledger as JSON values."""
    return {
        "images": len(rows[0].events.messages),
        "explained": all(row.explained for row in rows),
        "rules": {tool: {rule.name: rule.says for rule in rules} for tool, rules in RULES.items()},
        "layers": [row.to_json() for row in rows],
    }


def _network(
    name: str, images: int, cache: Path, say: common.Say
) -> tuple[FixedGraph, NDArray[Any]]:
    if name == "seeded":
        return seeded.network(), seeded.messages()
    found = trained(find_set(), cache, say)
    few = found.held_out.first(images)
    return found.graph, np.asarray(messages_of(found.graph, few, seed=0))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables; 1 where a difference is not explained, 2 where nothing can be counted."""
    parser = common.parser(__doc__)
    parser.add_argument("--images", type=int, default=1, help="of the trained network")
    parser.add_argument("--network", choices=NETWORKS, help="only this one")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of networks")
    given = parser.parse_args(arguments)
    if given.images < 1:
        parser.error(f"--images {given.images}: give at least 1")
    return common.conclude("ledger", given.json, lambda say: _counted(given, say))


def _counted(given: argparse.Namespace, say: common.Say) -> tuple[dict[str, Any], int]:
    result = {}
    for name in NETWORKS if given.network is None else (given.network,):
        try:
            graph, messages = _network(name, given.images, given.cache, say)
        except DataError as error:
            if given.network is not None:
                raise
            say(f"\n{name}: left out ({error})")
            continue
        one = result[name] = to_json(ledger(graph, messages))
        say(f"\n{name}, an image\n\n{tables.counts(one)}\n\n{tables.differences(one)}")
    explained = all(one["explained"] for one in result.values())
    return result, common.DONE if explained else common.NO


if __name__ == "__main__":
    sys.exit(main())
