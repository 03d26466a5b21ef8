"""Accidents and attacks that know a file's structure: of protobuf messages, JSON and archives."""

import io
import json
import random
import warnings
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress

from fnckpt.errors import FormatError
from fnckpt.wire import FIXED64, LENGTH, VARINT, Reader, opening, varint

Mutation = Callable[[bytes, random.Random], bytes]

NUMBERS = (0, 1, 2, 7, 63, 64, 127, 128, 1 << 16, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, -1, -2)
TEXTS = (
    b"", b"\xff\xfe", b"a/b", b"/", b"../../etc/passwd", b"\x1b[31mred\x1b]0;title\x07",
    "\u009b31m\n".encode(), b"\0", b"x" * 300, b".".join([b"p"] * 60), b"0" * 40, b"-1", b"w",
)  # fmt: skip
Field = tuple[int, int, bytes]


def fields(data: bytes) -> list[Field] | None:
    """(number, wire type, bytes of the value) of a message; None where it is none."""
    reader, found = Reader(memoryview(data), "x"), list[Field]()
    try:
        for number, wire in reader.fields():
            start = reader.at
            if wire == LENGTH:
                found.append((number, wire, bytes(reader.chunk().data)))
            else:
                reader.skip(wire)
                found.append((number, wire, data[start : reader.at]))
    except FormatError:
        return None
    return found


def joined(parts: list[Field]) -> bytes:
    """The message of these fields."""
    return b"".join(
        opening(number, len(value)) + value
        if wire == LENGTH
        else varint(number << 3 | wire) + value
        for number, wire, value in parts
    )


def message(data: bytes, pick: random.Random) -> bytes:
    """A protobuf message after one accident somewhere in its tree; lengths around it stay right."""
    parts = fields(data)
    if not parts:
        return anything(data, pick)
    at = pick.randrange(len(parts))
    number, wire, value = parts[at]
    if wire == LENGTH and value and pick.random() < 0.85 and fields(value):
        parts[at] = number, wire, message(value, pick)
        return joined(parts)
    match pick.randrange(8):
        case 0:
            del parts[at]
        case 1:
            parts.insert(pick.randrange(len(parts) + 1), parts[at])
        case 2:
            pick.shuffle(parts)
        case 3:
            parts[at] = pick.randrange(1, 30), wire, value
        case 4:
            parts += [parts[at]] * pick.randrange(2, 20)
        case _:
            parts[at] = number, wire, _value(wire, value, pick)
    return joined(parts)


def _value(wire: int, value: bytes, pick: random.Random) -> bytes:
    if wire == VARINT:
        return varint(pick.choice(NUMBERS))
    if wire == LENGTH:
        return pick.choice((pick.choice(TEXTS), value[: len(value) // 2], anything(value, pick)))
    return pick.randbytes(8 if wire == FIXED64 else 4)


def anything(data: bytes, pick: random.Random) -> bytes:
    """Any bytes after one accident."""
    a, b = sorted(pick.choices(range(len(data) + 1), k=2))
    match pick.randrange(4):
        case 0:
            return data[:a] + bytes([pick.randrange(256)]) + data[a + 1 :]
        case 1:
            return data[:a] + data[b:]
        case 2:
            return data[:a] + varint(pick.choice(NUMBERS)) + data[a:]
        case _:
            return data[:b] + data[a:]


def safetensors(data: bytes, pick: random.Random) -> bytes:
    """A safetensors file with an accident in its header, whose length is right, or anywhere."""
    if pick.random() < 0.2:
        return anything(data, pick)
    length = int.from_bytes(data[:8], "little")
    header = data[8 : 8 + length]
    with suppress(ValueError):
        header = json.dumps(_json(json.loads(header), pick)).encode()
    if pick.random() < 0.1:
        header = anything(header, pick)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _json(tree: object, pick: random.Random) -> object:
    """A tree of JSON after one accident."""
    other: object = pick.choice(
        (None, True, -1, 1 << 62, 10**400, "F8_E5M2", "\ud800", [], {}, 1.5)
    )
    if isinstance(tree, dict) and tree and pick.random() < 0.9:
        key = pick.choice(list(tree))
        match pick.randrange(6):
            case 0:
                return {each: value for each, value in tree.items() if each != key}
            case 1:
                return tree | {str(pick.choice(TEXTS)): tree[key]}
            case _:
                return tree | {key: _json(tree[key], pick)}
    if isinstance(tree, list) and tree and pick.random() < 0.8:
        at = pick.randrange(len(tree))
        return [*tree[:at], _json(tree[at], pick), *tree[at + pick.randrange(2) :]]
    return pick.choice(NUMBERS) if isinstance(tree, int) and pick.random() < 0.6 else other


def archive(data: bytes, pick: random.Random) -> bytes:
    """A zip file with an accident in a member, that is whole as an archive, or anywhere."""
    with suppress(*NOT_WHOLE), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there twice is part of the attack
        if pick.random() < 0.7:
            return _rewritten(data, pick)
    return anything(data, pick)


NOT_WHOLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


def _rewritten(data: bytes, pick: random.Random) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(target, "w") as made:
        chosen = pick.choice(source.namelist())
        for name in source.namelist():
            content = source.read(name)
            if name == chosen:
                content = _member(content, pick)
                name = pick.choice((name, name, name, "", "a\x1b[31m", "no suffix", "a/../b.npy"))
            how = pick.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            made.writestr(zipfile.ZipInfo(name), content, how)
    return target.getvalue()


def _member(content: bytes, pick: random.Random) -> bytes:
    kinds = (
        b"'<f4'",
        b"'|O'",
        b"'<M8[s]'",
        b"'<U3'",
        b"'S4'",
        b"'<f16'",
        b"[('a', '<i4')]",
        b"'V8'",
    )
    shapes = (
        b"(2, 3)",
        b"()",
        b"(-1,)",
        b"(1099511627776,)",
        b"(0, 4611686018427387904)",
        b"(2.5,)",
    )
    for old in (b"'<f4'", b"'<i8'", b"(2, 3)", b"(3,)"):
        if old in content and pick.random() < 0.5:
            new = pick.choice(kinds if old.startswith(b"'") else shapes)
            room = content.find(b"\n") if b"\n" in content else len(content)
            head = content[:room].replace(old, new).rstrip()
            return (head + b" " * room)[: max(room, len(head))] + content[room:]
    return anything(content, pick)
