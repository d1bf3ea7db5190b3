"""A placement's file: what cannot be is refused in one line."""

import json
from typing import Any

import pytest
from placed_graphs import LOIHI1, chain, conv_graph, dense_graph

from spikeship.hw_models.placement import placement_file
from spikeship.hw_models.placement.placement import PlacementError
from spikeship.hw_models.placer.place import place


def test_a_damaged_file_is_refused_in_one_line() -> None:
    whole = placement_file.to_json(place(chain(2, 2, 2), LOIHI1))
    assert placement_file.from_json(whole) == place(chain(2, 2, 2), LOIHI1)
    core = {**whole["layers"][0]["cores"][0]}
    layer = {**whole["layers"][0]}
    for changes, words in (
        ({"format": "else"}, "no placement"),
        ({"version": 99}, "version 99"),
        ({"chips": -1}, "'chips' is -1"),
        ({"chips": True}, "'chips' is True"),
        ({"layers": None}, "'layers'"),
        ({"rules": {"axons": "none", "kernels": "shared"}}, "'axons' is 'none'"),
        ({"assumptions": [1]}, "'assumptions'"),
        ({"layers": [{**layer, "cores": [{**core, "rows": [3, 3]}]}]}, "empty range"),
        ({"layers": [{**layer, "cores": [{**core, "tile": [1.5, 0]}]}]}, "'tile'"),
        ({"layers": [{**layer, "limit": 7}]}, "'limit'"),
        ({"layers": [7]}, "'name'"),
    ):
        with pytest.raises(PlacementError, match=words) as refused:
            placement_file.from_json({**whole, **changes})
        assert "\n" not in str(refused.value)
    with pytest.raises(PlacementError, match="no placement"):
        placement_file.from_json([1])


def file_of(cores: int = 4) -> dict[str, Any]:
    found = place(chain(2, 2, 2), LOIHI1, cores=cores)
    data: dict[str, Any] = json.loads(json.dumps(placement_file.to_json(found)))
    assert [len(layer["cores"]) for layer in data["layers"]] == [2, 2]
    return data


def refused(data: dict[str, Any], words: str) -> None:
    with pytest.raises(PlacementError, match=words) as found:
        placement_file.from_json(data)
    assert "\n" not in str(found.value) and "place the network anew" in str(found.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chip": "loihi9"}, "'chip' is 'loihi9', not one of loihi1, loihi2"),
        ({"chips": 99}, "'chips' is 99, where its cores are on 1"),
        ({"chips": 0}, "'chips' is 0"),
        ({"layers": []}, "'layers' is empty"),
    ],
)
def test_the_whole_contradicts_its_parts(changes: dict[str, Any], words: str) -> None:
    refused({**file_of(), **changes}, words)


@pytest.mark.parametrize("version", [True, 1.0, "1", None])
def test_a_version_is_a_whole_number(version: Any) -> None:
    with pytest.raises(PlacementError, match="version"):
        placement_file.from_json({**file_of(), "version": version})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"channel_groups": 7}, "7 x 1 x 1 pieces on 2 cores"),
        ({"channel_groups": 0}, "0 x 1 x 1 pieces on 2 cores"),
        ({"channel_groups": 1, "row_tiles": 2}, "2 x 1 x 1 ranges in 1 x 2 x 1 pieces"),
        ({"cores": []}, "2 x 1 x 1 pieces on 0 cores"),
        ({"compartments": 0}, "'compartments' is 0"),
        ({"name": "n2"}, "'layers' has 'n2' 2 times"),
    ],
)
def test_a_layer_contradicts_its_cores(changes: dict[str, Any], words: str) -> None:
    data = file_of()
    data["layers"][0].update(changes)
    refused(data, words)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layer": "zzz"}, "it has a core of layer 'zzz'"),
        ({"tile": [99, 99]}, r"'tile' is \(99, 99\), where a chip has 8 x 4 tiles"),
        ({"chip": 42}, "'chips' is 1, where its cores are on 2"),
        ({"compartments": 5}, "5 compartments for 1 neurons"),
        ({"channels": [1, 2]}, "its channels do not follow each other"),
        ({"rows": [1, 2]}, "2 x 2 x 1 ranges in 2 x 1 x 1 pieces"),
        ({"columns": [0, 2]}, "its columns do not follow each other"),
    ],
)
def test_a_core_contradicts_its_layer_or_its_chip(changes: dict[str, Any], words: str) -> None:
    data = file_of()
    data["layers"][0]["cores"][0].update(changes)
    refused(data, words)


def test_cores_out_of_order_are_refused() -> None:
    data = file_of()
    data["layers"][0]["cores"].reverse()
    refused(data, "not in order")


def test_no_tile_has_more_cores_than_fit() -> None:
    data = json.loads(
        json.dumps(placement_file.to_json(place(conv_graph(2, 8, 8), LOIHI1, cores=8)))
    )
    assert len(data["layers"][0]["cores"]) == 8
    for core in data["layers"][0]["cores"]:
        core["tile"] = [0, 0]
    refused(data, r"8 cores on tile \(0, 0\) of chip 0, which has 4")


def test_misfits_are_of_its_layers_and_exceed_something() -> None:
    data = json.loads(
        json.dumps(placement_file.to_json(place(dense_graph(2, 2, delay=64), LOIHI1)))
    )
    assert not placement_file.from_json(data).fits
    (misfit,) = data["misfits"]
    refused({**data, "misfits": [{**misfit, "layer": "other"}]}, "names a layer 'other'")
    refused({**data, "misfits": [{**misfit, "need": 62}]}, "says that 62 exceed 62")
