"""The picture of a placement that does not fit says so; no layer's name can break it."""

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from placed_graphs import CORE_BITS, LOIHI1, chain, dense_graph

from spikeship.deploy.report.placement_picture import (
    PlacementFigure,
    placement_picture,
    write_placement_picture,
)
from spikeship.hw_models.placement.placement import Placement
from spikeship.hw_models.placer.place import place


def drawn(placement: Placement, tmp_path: Path) -> tuple[str, str]:
    """Words in the picture, and its text alternative."""
    shown = PlacementFigure(placement, LOIHI1, [0.5] * placement.cores)
    write_placement_picture(shown, tmp_path / "p.svg")
    root = ElementTree.parse(tmp_path / "p.svg").getroot()
    alt = str(root.get("aria-label"))
    assert placement_picture(shown).alt == alt
    write_placement_picture(shown, tmp_path / "p.png")
    with Image.open(tmp_path / "p.png") as picture:
        assert picture.text["Description"] == alt  # type: ignore[attr-defined]
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    return " ".join(" ".join(texts).split()), alt


def test_what_does_not_fit_stands_in_the_picture_and_in_its_alternative(tmp_path: Path) -> None:
    refused = place(dense_graph(CORE_BITS // 8 + 1, 2, delay=64), LOIHI1)
    assert len(refused.reasons) == 2
    words, alt = drawn(refused, tmp_path)
    for reason in refused.reasons:
        assert reason in words and reason in alt
    assert "it does not fit" in alt
    assert "n: 2 cores, breaks synaptic memory, …" in words


def test_a_network_without_room_is_refused_in_the_picture(tmp_path: Path) -> None:
    refused = place(dense_graph(8192, 1000), LOIHI1, max_chips=1, cores=2)
    words, alt = drawn(refused, tmp_path)
    (reason,) = refused.reasons
    assert reason in words and reason in alt and "the network does not fit" in alt


def test_what_fits_is_not_said_to_be_refused(tmp_path: Path) -> None:
    words, alt = drawn(place(dense_graph(4, 4), LOIHI1), tmp_path)
    assert "not fit" not in words + alt and "breaks" not in words


def test_many_reasons_are_counted(tmp_path: Path) -> None:
    placed = place(chain(2, *[2] * 12, delay=64), LOIHI1)
    assert len(placed.reasons) == 12
    words, alt = drawn(placed, tmp_path)
    assert "and 4 more reasons" in words
    assert all(reason in alt for reason in placed.reasons)


@pytest.mark.parametrize("name", ["bell\x07", "two\nlines", "\x1b[31m", 'a<b>&"c', "half\ud800"])
def test_any_name_gives_a_picture_that_opens(name: str, tmp_path: Path) -> None:
    graph = chain(2, 2)
    placed = place(replace(graph, synapses=(replace(graph.synapses[0], delay=64),)), LOIHI1)
    # no graph has some of these names, and a picture opens all the same
    layers = tuple(
        replace(layer, name=name, cores=tuple(replace(core, layer=name) for core in layer.cores))
        for layer in placed.layers
    )
    misfits = tuple(replace(misfit, layer=name) for misfit in placed.misfits)
    words, alt = drawn(replace(placed, layers=layers, misfits=misfits), tmp_path)
    kept = "".join(letter for letter in name if letter.isprintable())
    assert f"1 {kept}: " in words and f"{kept} 1 cores" in alt
