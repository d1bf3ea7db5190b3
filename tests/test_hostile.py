"""Files made to do harm: refused in one line, before memory is asked for or a link followed."""

import gzip
import json
import struct
import subprocess
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import save_file

import cases
from net_files import dense, write_net
from spikeship.deploy.importers.netx import NetxError, read_netx
from spikeship.deploy.io import network_file, record_file
from spikeship.deploy.io.own_inputs import read_own
from spikeship.hw_models import memory
from spikeship.hw_models.atomic import OutputError
from spikeship.hw_models.errors import SpikeshipError, one_line
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Readout
from spikeship.hw_models.json_text import DEEPEST, JsonError, parse
from spikeship.hw_models.lava import runner
from spikeship.hw_models.memory import MemoryClaimError, check_claim
from spikeship.hw_models.simulator.simulator import simulate
from spikeship.training.data.data_set import DataError
from spikeship.training.data.load import load
from spikeship.training.data.readers import npz
from spikeship.training.data.readers.files import content
from spikeship.training.data.readers.pictures import open_picture
from spikeship.training.nir_io.checksum import CHECKSUM
from spikeship.training.nir_io.from_nir import FromNirError, read_nir
from spikeship.training.nir_io.to_nir import write_nir

SECRET = b"SECRET of another file, which no network may hold. " * 20


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


def external_link(file: h5py.File, group: str, secret: Path) -> None:
    other = secret.with_name("other.h5")
    with h5py.File(other, "w") as made:
        made["data"] = np.arange(4.0)
    file[f"{group}/stolen"] = h5py.ExternalLink(str(other), "data")


def soft_link(file: h5py.File, group: str, secret: Path) -> None:
    file[f"{group}/stolen"] = h5py.SoftLink(f"/{group}")


def external_data(file: h5py.File, group: str, secret: Path) -> None:
    file.create_dataset(
        f"{group}/stolen", (8,), np.int8, external=[(str(secret), 0, h5py.h5f.UNLIMITED)]
    )


def virtual(file: h5py.File, group: str, secret: Path) -> None:
    other = secret.with_name("other.h5")
    with h5py.File(other, "w") as made:
        made["data"] = np.arange(4.0)
    layout = h5py.VirtualLayout((4,), np.float64)
    layout[:] = h5py.VirtualSource(str(other), "data", (4,))
    file.create_virtual_dataset(f"{group}/stolen", layout)


def circle(file: h5py.File, group: str, secret: Path) -> None:
    file[f"{group}/stolen"] = file[group]


def claim(file: h5py.File, group: str, secret: Path) -> None:
    file.create_dataset(f"{group}/stolen", (2**28, 11), np.int8, chunks=(2**20, 1))


def deep(file: h5py.File, group: str, secret: Path) -> None:
    inner = file[group]
    for _ in range(70):
        inner = inner.create_group("g")


TRICKS: dict[Callable[[h5py.File, str, Path], None], str] = {
    external_link: "is a link",
    soft_link: "is a link",
    external_data: "keeps its data in another file",
    virtual: "is put together from others",
    circle: "by two names",
    claim: "claims 2.75 GiB and holds",
    deep: "nested more than 64",
}


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_a_net_file_that_reaches_out_is_refused(
    tmp_path: Path, secret: Path, trick: Callable[[h5py.File, str, Path], None]
) -> None:
    path = write_net(tmp_path / "a.net", [dense([[100, -60], [30, 90]])])
    read_netx(path)
    with h5py.File(path, "a") as file:
        trick(file, "layer/0", secret)
    with pytest.raises(NetxError, match=rf"a\.net: .*{TRICKS[trick]}"):
        read_netx(path)


def test_a_full_place_for_temporary_files_is_not_the_networks_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_net(tmp_path / "a.net", [dense([[100, -60], [30, 90]])])
    full = subprocess.CompletedProcess([], 3, b"", b"28\n")
    monkeypatch.setattr("subprocess.run", lambda *_, **__: full)
    with pytest.raises(OutputError, match="no room left for temporary files; .*TMPDIR"):
        read_netx(path)


@pytest.mark.parametrize(
    ("said", "fix"),
    [
        ("OSError: [Errno 28] No space left on device: '/psm_1'", "/dev/shm"),
        ("OSError: [Errno 24] Too many open files", "ulimit -n"),
        ("nothing of the kind", ""),
    ],
)
def test_limits_of_the_system_name_a_fix(said: str, fix: str) -> None:
    found = runner._fix(said)
    assert (fix in found) if fix else not found


@pytest.mark.parametrize("trick", TRICKS, ids=lambda trick: trick.__name__)
def test_a_nir_file_that_reaches_out_is_refused(
    tmp_path: Path, secret: Path, trick: Callable[[h5py.File, str, Path], None]
) -> None:
    path = tmp_path / "a.nir"
    with h5py.File(path, "w") as file:
        file.create_group("node/nodes/a")
        trick(file, "node/nodes/a", secret)
    with pytest.raises(FromNirError, match=rf"a\.nir: .*{TRICKS[trick]}"):
        read_nir(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 500 + "]" * 500, "nested more than 64"),
        ("[" * 200_000, "nested more than 64"),
        ('{"a":' * (DEEPEST + 2) + "1" + "}" * (DEEPEST + 2), "nested more than 64"),
        ('{"a": NaN}', "holds NaN"),
        ('{"a": -Infinity}', "holds -Infinity"),
        ('{"a": 1e999}', "holds 1e999"),
        ('{"a": ' + "9" * 5000 + "}", "whole number of 5000 digits"),
        ('{"name": "\\u001b[2J"}', r"name holds '\\x1b\[2J'"),
        ('{"\\u001b[2J": 1}', r"holds '\\x1b\[2J'"),
        ('{"a": ["\\u202eevil"]}', "cannot all be printed"),
        ("{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (7, "is int, no text"),
    ],
)
def test_json_is_bounded_finite_and_printable(text: Any, reason: str) -> None:
    with pytest.raises(JsonError, match=reason) as caught:
        parse(text)
    assert str(caught.value).isprintable()


def test_plain_json_is_read() -> None:
    value = {"a": [1, -2.5, True, None, "ö\n\tß"], "b": {"c": {}}}
    assert parse(json.dumps(value)) == value


def test_errors_are_one_printable_line() -> None:
    error = SpikeshipError("node 'a\x1b[2Jb\r\n\u202e': bad")
    assert str(error) == r"node 'a\x1b[2Jb \u202e': bad"
    assert len(one_line("a" * 10_000)) == 2_000


def test_claims_are_held_to_what_is_free_and_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(memory.SETTING, raising=False)
    check_claim("x", memory.ANY_FILE, 1)
    with pytest.raises(MemoryClaimError, match="x: claims .* and holds 1 bytes"):
        check_claim("x", memory.ANY_FILE + 1, 1)
    monkeypatch.setattr(memory, "free", lambda: 2 * memory.GIB)
    check_claim("x", memory.GIB)
    with pytest.raises(MemoryClaimError, match="1 GiB may be used"):
        check_claim("x", memory.GIB + 1)
    monkeypatch.setenv(memory.SETTING, "1.5")
    check_claim("x", memory.GIB + 1)
    monkeypatch.setenv(memory.SETTING, "much")
    with pytest.raises(SpikeshipError, match="'much' is no number"):
        check_claim("x", 1)


def member(values: bytes, shape: str, descr: str = "|u1") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + values


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for name, values in members.items():
            made.writestr(name, values)
    return path


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"../x.npy": member(b"a", "(1,)")}, "lead nowhere else"),
        ({"/x.npy": member(b"a", "(1,)")}, "lead nowhere else"),
        ({"a/../../x.npy": member(b"a", "(1,)")}, "lead nowhere else"),
        ({"x\x1b[2J.npy": member(b"a", "(1,)")}, "lead nowhere else"),
        ({"x.npy": member(b"a", "(4000000000,)")}, r"a\.npz: x: claims 3.73 GiB and holds"),
        ({"x.npy": member(b"a", f"({'9' * 30},)")}, "claims"),
        ({"x.npy": member(b"a", "(-1,)")}, "of shape"),
        ({"x.npy": member(b"a", "(2,)")}, "ends after 1 of 2 bytes"),
        ({"x.npy": member(b"abc", "(2,)")}, "more than its shape says"),
        ({"x.npy": member(b"a" * 8, "(1,)", "|O")}, "give plain numbers"),
        ({"x.npy": b"no array"}, "not a readable .npz"),
    ],
)
def test_hostile_archives_are_refused(
    tmp_path: Path, members: dict[str, bytes], reason: str
) -> None:
    path = archive(tmp_path / "a.npz", members)
    with pytest.raises(SpikeshipError, match=reason) as caught:
        npz.read(path, "x")
    assert str(path) in str(caught.value) and str(caught.value).isprintable()


def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as made, pytest.warns(UserWarning, match="Duplicate"):
        made.writestr("x.npy", member(b"a", "(1,)"))
        made.writestr("x.npy", member(b"b", "(1,)"))
    with pytest.raises(SpikeshipError, match="names of their own"):
        npz.headers(path)


def test_only_the_rows_asked_for_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(6000, dtype=np.float32).reshape(1000, 3, 2)
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=values, y=np.asfortranarray(values), z=np.float64(3.5))
    monkeypatch.setattr(memory, "ANY_FILE", 24)
    monkeypatch.setattr(memory, "free", lambda: 1)
    np.testing.assert_array_equal(npz.read(path, "x", 1), values[:1])
    assert npz.read(path, "z") == 3.5
    with pytest.raises(MemoryClaimError, match="y: claims"):
        npz.read(path, "y", 1)  # its first axis runs fastest
    monkeypatch.undo()
    np.testing.assert_array_equal(npz.read(path, "y", 2), values[:2])
    np.testing.assert_array_equal(npz.read(path, "x"), values)
    with pytest.raises(SpikeshipError, match="there is no such array"):
        npz.read(path, "w")


def test_a_packed_recording_says_when_its_checksum_does_not_hold(tmp_path: Path) -> None:
    graph = cases.graph("dense")
    found = simulate(graph, cases.messages(graph, 2), record=True).recording
    assert found is not None
    path = tmp_path / "a.npz"
    with record_file.writing(path) as record:
        record(found)
    np.testing.assert_array_equal(npz.read(path, "input"), found.input)
    with zipfile.ZipFile(path, "a") as file:
        comment = file.comment
        file.writestr("more.npy", member(b"a", "(1,)"))
        file.comment = comment
    with pytest.raises(SpikeshipError, match="do not match their checksum"):
        npz.headers(path)


def test_a_packed_file_of_a_set_stops_at_its_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spikeship.training.data.readers.files.MOST_BYTES", 1000)
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1000)))
    assert content("x", tmp_path / "a") == bytes(1000)
    for name, values in (("b.gz", gzip.compress(bytes(1001))), ("c", bytes(1001))):
        (tmp_path / name).write_bytes(values)
        with pytest.raises(DataError, match="more than 1,000 bytes"):
            content("x", tmp_path / name.removesuffix(".gz"))


def test_a_packed_file_takes_the_memory_of_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1000)))
    tracemalloc.start()
    try:
        assert len(content("x", tmp_path / "a")) == 1000
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_packed_file_larger_than_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(10_000_000)))
    monkeypatch.setattr(memory, "ANY_FILE", 1_000_000)
    monkeypatch.setattr(memory, "free", lambda: 2_000_000)
    with pytest.raises(MemoryClaimError, match=r"a\.gz: claims"):
        content("x", tmp_path / "a")


def picture(path: Path, size: tuple[int, int], kind: str = "PNG") -> Path:
    Image.new("L", size).save(path, kind)
    return path


def one_channel() -> FixedGraph:
    readout = Readout("readout", (2,))
    weights = np.ones((2, 64), np.int16)
    return FixedGraph(
        Input("input", (1, 8, 8)),
        (readout,),
        (Dense(name="fc", source="input", target="readout", weight=weights),),
    )


@pytest.mark.parametrize("kind", ["EPS", "GIF", "BMP", "TIFF", "PPM", "ICO"])
def test_only_png_and_jpeg_are_opened(tmp_path: Path, kind: str) -> None:
    path = picture(tmp_path / "a.png", (32, 32), kind)
    with pytest.raises(OSError, match="cannot identify"):
        open_picture(path)
    with pytest.raises(SpikeshipError, match="give a PNG or JPEG"):
        read_own(path, one_channel())


@pytest.mark.parametrize("size", [(1, 60_000), (60_000, 1), (8200, 8200)])
def test_pictures_larger_than_pictures_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    path = picture(tmp_path / "a.png", size)
    with pytest.raises(SpikeshipError, match=f"{size[0]} x {size[1]} pixels"):
        open_picture(path)
    for part in ("train", "val"):
        (tmp_path / part / "cat").mkdir(parents=True)
        picture(tmp_path / part / "cat" / "a.png", size)
    images = load("imagefolder", tmp_path).split("test").images
    with pytest.raises(DataError, match=r"cat/a\.png is not a picture"):
        images[:1]


def headed(path: Path, metadata: str) -> Path:
    """A quantized network with this metadata, its hash put right."""
    graph = cases.graph("dense")
    network_file.save(graph, path)
    with safe_open(path, framework="numpy") as file:
        header = dict(file.metadata())
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    structure = json.loads(header["graph"])
    text = json.dumps({**structure, "metadata": None}).replace('"metadata": null', metadata)
    header |= {"graph": text, "sha256": network_file._digest(text, arrays)}
    save_file(arrays, path, metadata=header)
    return path


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ('"metadata": ' + "[" * 300 + "]" * 300, "nested more than 64"),
        ('"metadata": {"data": {"mean": [NaN]}}', "holds NaN"),
        ('"metadata": {"data": {"std": [0.0]}}', "data: std is .0.0.; give positive"),
        ('"metadata": {"data": {"mean": "much"}}', "data: mean is much"),
        ('"metadata": ["data"]', "its metadata is no object"),
        ('"metadata": {"data": "much"}', "data: is much, not an object"),
        ('"metadata": {"notes": ["\\u001b[2J"]}', "cannot all be printed"),
    ],
)
def test_headers_of_networks_are_checked(tmp_path: Path, metadata: str, reason: str) -> None:
    path = headed(tmp_path / "net.safetensors", metadata)
    with pytest.raises(network_file.FileError, match=rf"net\.safetensors: .*{reason}"):
        network_file.load(path)


def test_a_nir_file_says_when_its_checksum_does_not_hold(tmp_path: Path) -> None:
    path = tmp_path / "a.nir"
    weight = np.arange(6, dtype=np.float32).reshape(2, 3)
    nodes = {
        "input": nir.Input(input_type={"input": np.array([3])}),
        "fc": nir.Affine(weight, np.zeros(2, np.float32)),
        "output": nir.Output(output_type={"output": np.array([2])}),
    }
    graph = nir.NIRGraph(nodes, [("input", "fc"), ("fc", "output")], metadata={"by": "us"})
    write_nir(path, graph)
    assert CHECKSUM not in graph.metadata
    assert read_nir(path).metadata["by"] == "us"
    with h5py.File(path, "a") as file:
        file["node/nodes/fc/weight"][1, 2] = 5.5
    with pytest.raises(FromNirError, match=r"a\.nir: .*do not match their checksum"):
        read_nir(path)
    with h5py.File(path, "a") as file:
        del file[f"node/metadata/{CHECKSUM}"]
    assert read_nir(path).nodes["fc"].weight[1, 2] == 5.5
