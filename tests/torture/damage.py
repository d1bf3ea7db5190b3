"""Damage to files: of any bytes, and of what kinds of files are made of."""

import gzip
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

EXTREMES = (0, 1, -1, 2, 127, 128, 255, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**62, -(2**63))
WORDS = ("", "..", "../../x", "a\x1b[2Jb", "\u202e", "x" * 5000, "file", "$\\frac{", "[red]", "%s")
NUMBERS = (-1, 0, 2**62, 10**400, 1e308, float("nan"), float("inf"))
VALUES: tuple[Any, ...] = (None, True, [], {}, "", *NUMBERS)


def damaged(content: bytes, kind: str, random: Random) -> bytes:
    """A damaged copy of a file's content.

    Args:
        content: of a good file.
        kind: of file; one that is not in ``KINDS`` is damaged as any bytes are.
        random: draws where and how.
    """
    if kind in KINDS and random.random() < 0.7:
        try:
            return KINDS[kind](content, random)
        except Exception:  # what damages structure may itself fail on a structure
            pass
    return anywhere(content, random)


def anywhere(content: bytes, random: Random) -> bytes:
    """Bytes flipped, cut, doubled, moved or set to extremes, one to four times."""
    data = bytearray(content)
    for _ in range(random.randint(1, 4)):
        if not data:
            break
        at = random.randrange(len(data))
        size = min(len(data) - at, random.choice((1, 2, 4, 8, 64, 1024)))
        match random.randrange(8):
            case 0:
                data[at] ^= 1 << random.randrange(8)
            case 1:
                data[at : at + size] = random.randbytes(size)
            case 2:
                del data[at:]
            case 3:
                data[at:at] = random.randbytes(size)
            case 4:
                del data[at : at + size]
            case 5:
                data[at:at] = data[at : at + size]
            case 6:
                value = random.choice(EXTREMES) & (2**64 - 1)
                order = random.choice("<>")
                data[at : at + 8] = struct.pack(f"{order}Q", value)[: len(data) - at]
            case _:
                data[at : at + size] = bytes([random.choice((0, 255))]) * size
    return bytes(data)


def of_json(content: bytes, random: Random) -> bytes:
    """A value of a JSON text replaced, taken away, or nested deeply."""
    value = json.loads(content)
    _change(value, random)
    return json.dumps(value).encode()


def _change(value: Any, random: Random) -> None:
    """Change one entry somewhere inside of an object or list."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = random.choice(keys)
        inner = value[key]
        if isinstance(inner, dict | list) and inner and random.random() < 0.75:
            value = inner
            continue
        match random.randrange(5):
            case 0:
                value[key] = random.choice(VALUES)
            case 1:
                value[key] = random.choice(WORDS)
            case 2:
                del value[key]
            case 3:
                value[key] = [inner] * random.choice((2, 300))
            case _:
                for _ in range(random.choice((3, 80, 500))):
                    inner = [inner]
                value[key] = inner
        return


def of_safetensors(content: bytes, random: Random) -> bytes:
    """A header changed: an offset, a shape, a type, or what is in our own metadata."""
    size = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    if random.random() < 0.7 and "__metadata__" in header:
        key = random.choice(list(header["__metadata__"]))
        text = header["__metadata__"][key]
        try:
            text = of_json(text.encode(), random).decode()
        except ValueError:
            text = random.choice(WORDS)
        header["__metadata__"][key] = text
    else:
        _change(header, random)
    made = json.dumps(header).encode()
    return struct.pack("<Q", len(made)) + made + body


def of_quantized(content: bytes, random: Random) -> bytes:
    """A quantized network whose structure is changed and whose hash is put right."""
    from spikeship.deploy.io import network_file

    size = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    text = of_json(header["__metadata__"]["graph"].encode(), random).decode()
    arrays = _arrays(header, body)
    header["__metadata__"] |= {"graph": text, "sha256": network_file._digest(text, arrays)}
    made = json.dumps(header).encode()
    return struct.pack("<Q", len(made)) + made + body


def _arrays(header: dict[str, Any], body: bytes) -> dict[str, Any]:
    import numpy as np

    kinds = {"I8": "i1", "U8": "u1", "I16": "<i2", "I32": "<i4", "I64": "<i8", "F64": "<f8"}
    return {
        name: np.frombuffer(body[slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(
            entry["shape"]
        )
        for name, entry in header.items()
        if name != "__metadata__"
    }


def of_archive(content: bytes, random: Random) -> bytes:
    """A member damaged inside its archive, renamed, doubled or emptied."""
    target = BytesIO()
    with zipfile.ZipFile(BytesIO(content)) as source:
        members = {info.filename: source.read(info) for info in source.infolist()}
    name = random.choice(list(members))
    match random.randrange(4):
        case 0:
            members[name] = anywhere(members[name], random)
        case 1:
            # the header's text, which says type and shape
            cut = min(128, len(members[name]))
            members[name] = anywhere(members[name][:cut], random) + members[name][cut:]
        case 2:
            members[f"{random.choice(WORDS)}.npy"[:60000]] = members.pop(name)
        case _:
            shape = f"({random.choice(EXTREMES)}, {random.choice(EXTREMES)})"
            text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".ljust(118)
            members[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for each, values in members.items():
            made.writestr(each, values)
    return target.getvalue()


def of_gzip(content: bytes, random: Random) -> bytes:
    """What is packed, damaged and packed again."""
    return gzip.compress(anywhere(gzip.decompress(content), random))


def of_png(content: bytes, random: Random) -> bytes:
    """Sides, depth or colours of a PNG's header changed, its checksum put right."""
    data = bytearray(content)
    at = 16 + random.choice((0, 4))
    data[at : at + 4] = struct.pack(">I", random.choice(EXTREMES) & (2**32 - 1))
    if random.random() < 0.3:
        data[24 + random.randrange(5)] = random.randrange(256)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def of_hdf5(content: bytes, random: Random) -> bytes:
    """A dataset replaced, taken away, renamed or linked to elsewhere."""
    import h5py
    import numpy as np

    held = BytesIO(content)
    with h5py.File(held, "a") as file:
        names: list[str] = []
        file.visititems(
            lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
        )
        name = random.choice(names)
        values = file[name][()]
        del file[name]
        match random.randrange(9):
            case 0:
                if isinstance(values, np.ndarray) and values.size and values.dtype.kind in "iuf":
                    values = values.copy()
                    bad = (np.nan, np.inf, 1e30) if values.dtype.kind == "f" else (0, -1, 100)
                    values.reshape(-1)[random.randrange(values.size)] = random.choice(bad)
                file[name] = values
            case 1:
                file[name] = np.asarray(values).reshape(-1)[: random.choice((0, 1, 3))]
            case 2:
                file[name] = random.choice(WORDS).replace("\0", "")
            case 3:
                file[name] = np.int64(random.choice(EXTREMES))
            case 4:
                safe = random.choice(WORDS).replace("/", "_").replace("..", "_") or "new"
                file[f"{name}{safe}"] = values
            case 5:
                file[name] = h5py.ExternalLink("/etc/hostname", "x")
            case 6:
                file.create_dataset(
                    name, (2 ** random.choice((8, 20, 33, 40)),), np.int8, chunks=(256,)
                )
            case 7:
                file[name] = np.zeros((1,) * random.choice((0, 1, 4, 7)), np.complex128)
            case _:
                pass  # it stays away
    return held.getvalue()


def of_onnx(content: bytes, random: Random) -> bytes:
    """A node, attribute, tensor or shape of an ONNX network changed."""
    import onnx

    model = onnx.load_from_string(content)
    graph = model.graph
    node = random.choice(graph.node)
    match random.randrange(11):
        case 0:
            node.op_type = random.choice(("Loop", "If", "Scan", "Resize", "Einsum", *WORDS))
        case 1 if node.attribute:
            entry = random.choice(node.attribute)
            entry.ints[:] = [random.choice(EXTREMES) for _ in entry.ints]
            entry.i = random.choice(EXTREMES)
        case 2 if node.input:
            node.input[random.randrange(len(node.input))] = random.choice(
                [random.choice(WORDS), node.output[0], graph.node[-1].output[0]]
            )
        case 3:
            tensor = random.choice(graph.initializer)
            tensor.dims[:] = [random.choice(EXTREMES) for _ in tensor.dims]
        case 4:
            random.choice(graph.initializer).data_type = random.randrange(25)
        case 5:
            tensor = random.choice(graph.initializer)
            tensor.raw_data = anywhere(tensor.raw_data or b"x", random)
        case 6:
            del graph.node[random.randrange(len(graph.node))]
        case 7:
            graph.node.add().CopyFrom(node)
        case 8:
            node.name = random.choice(WORDS)
        case 9:
            tensor = random.choice(graph.initializer)
            tensor.ClearField("raw_data")
            tensor.data_location = 1
            where = tensor.external_data.add()
            where.key, where.value = "location", random.choice(("../x", "/etc/hostname", "x"))
        case _:
            made = onnx.helper.make_node("ConstantOfShape", ["huge"], ["made"])
            huge = onnx.helper.make_tensor("huge", 7, [2], [2**20, 2 ** random.choice((1, 20))])
            graph.initializer.append(huge)
            graph.node.insert(0, made)
            graph.node.insert(
                1, onnx.helper.make_node("Add", [graph.input[0].name, "made"], ["sum"])
            )
            node.input[0] = "sum"
    made_content: bytes = model.SerializeToString()
    return made_content


KINDS: dict[str, Callable[[bytes, Random], bytes]] = {
    "net": of_hdf5,
    "nir": of_hdf5,
    "onnx": of_onnx,
    "classifier": of_safetensors,
    "state": of_safetensors,
    "integers": of_quantized,
    "set": of_archive,
    "own": of_archive,
    "events": of_archive,
    "weights": of_archive,
    "png": of_png,
    "gzip": of_gzip,
    "rows": of_json,
    "gpu": of_json,
}


def damage_file(source: Path, kind: str, target: Path, seed: int) -> None:
    """Write a damaged copy of a file; the same seed damages it the same way."""
    random = Random(f"{kind} {seed}")
    target.write_bytes(damaged(source.read_bytes(), kind, random))
