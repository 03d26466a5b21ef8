"""What a damaged or foreign file does: FormatError with file, byte and tensor; never more."""

import io
import random
import time
import tracemalloc
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fnckpt.checkpoints.formats import ckpt, ckpt_index
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.errors import FormatError
from fnckpt.proto.checkpoint_pb2 import Checkpoint
from fnckpt.wire import Reader, field, opening, scalar, size, text, varint


def written(leaves, *, crc=False):
    file = io.BytesIO()
    ckpt.write(file, leaves, crc=crc)
    return file.getvalue()


def int8(*items):
    return np.array(items, np.int8)


def value(*fields):
    """The message of one tensor, made of any fields."""
    return b"".join(field(1, [b"".join(fields)]))


def tensor(*fields):
    return b"".join(field(2, [b"".join(fields)]))


def content(data):
    return b"".join(field(3, [data]))


W = value(text(1, "w"), tensor(scalar(1, 2), text(2, "Int8"), content(b"ab")))
V = value(text(1, "v"), tensor(scalar(1, 2), text(2, "Int8"), content(b"ab")))
CRC = written([("w", int8(97, 98))], crc=True)


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


FAULTS = {
    "nothing": (b"", "byte 0: the file is empty"),
    "no tensor": (b"\x78\x00", "byte 2: the file holds no tensor"),
    "a text file": (b"hello, world", "byte 2: no field begins here, found the key 108"),
    "a zip file": (b"PK\x03\x04" + bytes(30), "byte 2: no field begins here, found the key 3"),
    "cut in a content": (W[:-1], "byte 2: a field claims 17 bytes, 16 are left"),
    "cut in a length": (b"\x0a\xff", "byte 1: an integer is cut off"),
    "a huge length": (
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        "byte 10: a field claims 9223372036854775807 bytes, 0 are left",
    ),
    "an endless integer": (b"\x0a" + b"\xff" * 12, "byte 1: an integer is longer than 10 bytes"),
    "65 bits": (b"\x0a" + b"\xff" * 9 + b"\x7f", "byte 1: an integer is larger than 64 bits"),
    "a huge inner length": (
        value(text(1, "w"), opening(2, 1 << 40)),
        "byte 12: tensor 'w': a field claims 1099511627776 bytes, 0 are left",
    ),
    "no name": (
        value(tensor(text(2, "Int8"), content(b"a"))),
        "byte 13: a tensor without a name (field tag)",
    ),
    "no tensor in it": (value(text(1, "w")), "byte 5: tensor 'w': has no content (field tensor)"),
    "no type": (
        value(text(1, "w"), tensor(content(b"a"))),
        "byte 10: tensor 'w': has no type (field tensor_type)",
    ),
    "no content": (
        value(text(1, "w"), tensor(text(2, "Int8"))),
        "byte 13: tensor 'w': has no content (field tensor_content)",
    ),
    "unknown type": (
        value(text(1, "w"), tensor(text(2, "Int9"), content(b"a"))),
        "tensor 'w': the type 'Int9' is unknown; known are Bool, Int8, Int16",
    ),
    "a name that is not UTF-8": (
        value(b"\x0a\x02\xff\xfe"),
        r"byte 4: a text is not UTF-8, found b'\xff\xfe'",
    ),
    "too little content": (
        value(text(1, "w"), tensor(scalar(1, 3), text(2, "Int32"), content(b"abcd"))),
        "byte 18: tensor 'w': Int32 (3,) takes 12 bytes, found 4",
    ),
    "too much content": (
        value(text(1, "w"), tensor(scalar(1, 1), text(2, "Int32"), content(b"abcdefgh"))),
        "byte 18: tensor 'w': Int32 (1,) takes 4 bytes, found 8",
    ),
    "too much in the second part": (
        value(text(1, "w"), tensor(scalar(1, 3), text(2, "Int8"), content(b"ab"))) + W,
        "tensor 'w': its parts differ: expected Int8 (3,), found Int8 (2,)",
    ),
    "a part alone": (
        value(text(1, "w"), tensor(scalar(1, 3), text(2, "Int8"), content(b"ab"))) + V,
        "tensor 'w': Int8 (3,) takes 3 bytes, found 2",
    ),
    "a name twice, in a row": (W + W, "byte 19: tensor 'w': the name is given twice"),
    "a name twice": (W + V + W, "tensor 'w': the name is given twice"),
    "a field twice": (
        value(text(1, "w"), text(1, "w")),
        "byte 6: tensor 'w': the field 1 (wire type 2) is given twice or of a wrong type",
    ),
    "a field of a wrong type": (
        value(scalar(1, 5)),
        "byte 3: the field 1 (wire type 0) is given twice or of a wrong type",
    ),
    "a negative dimension": (
        value(text(1, "w"), tensor(scalar(1, -1), text(2, "Int8"), content(b"a"))),
        "tensor 'w': the shape (-1,) is impossible",
    ),
    "a shape beyond memory": (
        value(
            text(1, "w"),
            tensor(scalar(1, 1 << 62), scalar(1, 4), text(2, "Int8"), content(b"a")),
        ),
        "tensor 'w': the shape (4611686018427387904, 4) is impossible",
    ),
    "an empty shape beyond memory": (
        value(
            text(1, "w"),
            tensor(scalar(1, 0), scalar(1, 1 << 62), scalar(1, 4), text(2, "Int8"), content(b"")),
        ),
        "tensor 'w': the shape (0, 4611686018427387904, 4) is impossible",
    ),
    "70 dimensions": (
        value(text(1, "w"), tensor(scalar(1, 1) * 70, text(2, "Int8"), content(b"a"))),
        "tensor 'w': the shape has 70 dimensions, NumPy has 64 at most",
    ),
    "a half character": (
        value(text(1, "w"), tensor(text(2, "str"), content(b"abc"))),
        "tensor 'w': a text is of 4 bytes a character, found 3 bytes",
    ),
    "no character": (
        value(text(1, "w"), tensor(text(2, "str"), content(b"\xff\xff\xff\xff"))),
        "byte 14: tensor 'w': the text is not UCS-4",
    ),
    "a Bool of 2": (
        value(text(1, "w"), tensor(scalar(1, 2), text(2, "Bool"), content(b"\x01\x02"))),
        "byte 18: tensor 'w': a Bool is 0 or 1",
    ),
    "a hash table": (
        value(text(1, "w"), b"\x1a\x00"),
        "byte 6: tensor 'w': is a MapParameter (a hash table); fnckpt reads plain tensors only",
    ),
    "a flipped bit": (
        flipped(CRC, 8 * 18),
        "byte 19: the CRC-32 of the content is 0x2280763f, expected 0x558746a9; "
        "the file is damaged",
    ),
    "a flipped bit in the CRC": (
        flipped(CRC, 8 * len(CRC) - 1),
        "is 0x558746a9, expected 0x55874629",
    ),
    "a cut CRC": (CRC[:-1], "byte 19: no field begins here, found the key 99"),
}


@pytest.mark.parametrize("mmap", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_with_its_place(fault, mmap, tmp_path):
    data, message = FAULTS[fault]
    path = tmp_path / "a.ckpt"
    path.write_bytes(data)
    with pytest.raises(FormatError) as raised:
        load_checkpoint(path, mmap=mmap)
    assert str(raised.value).startswith(f"{path}: byte ")
    assert message in str(raised.value)


def test_every_flipped_bit_is_found_by_the_crc():
    leaves = [("w", np.arange(20.0)), ("note", np.array("text")), ("flag", np.array(True))]
    data = written(leaves, crc=True)
    for bit in range(8 * len(data)):
        with pytest.raises(FormatError):
            read_all(flipped(data, bit))


def test_every_truncation_is_found_but_one_between_two_tensors():
    first, second = written([("w", np.arange(20.0))]), written([("v", int8(1))])
    data = written([("w", np.arange(20.0)), ("v", int8(1))], crc=True)
    for length in set(range(1, len(data))) - {len(first), len(first + second)}:
        with pytest.raises(FormatError):
            read_all(data[:length])
    assert list(read_all(data[: len(first)])) == ["w"]  # a valid file; `like` finds what is missing


def test_verify_false_reads_past_a_wrong_crc(tmp_path):
    path = tmp_path / "a.ckpt"
    path.write_bytes(flipped(CRC, 8 * 18))
    assert load_checkpoint(path, verify=False)["w"].tolist() == [97, 99]


def test_the_crc_is_zlibs_over_all_before_it():
    assert CRC[-17:] == b"crc_num" + zlib.crc32(CRC[:-17]).to_bytes(10, "big")


def test_unknown_fields_and_packed_dims_are_read_as_protobuf_reads_them(tmp_path):
    message = Checkpoint()
    item = message.value.add(tag="w")
    item.tensor.tensor_type, item.tensor.tensor_content = "Int8", b"abcdef"
    packed = tensor(b"".join(field(1, [varint(2), varint(3)])), text(2, "Int8"), content(b"abcdef"))
    extra = b"\x39" + bytes(8) + b"\x3d" + bytes(4) + scalar(9, 300) + text(10, "later")
    data = extra + value(extra, text(1, "w"), extra, packed) + extra
    message.value[0].tensor.dims.extend([2, 3])
    parsed = Checkpoint.FromString(data)
    assert [parsed.value[0].tag, *parsed.value[0].tensor.dims] == ["w", 2, 3]
    assert read_all(data)["w"].tolist() == [[97, 98, 99], [100, 101, 102]]
    assert read_all(message.SerializeToString())["w"].shape == (2, 3)


def test_a_scalar_of_shape_0_as_old_mindspore_wrote_it_is_a_scalar():
    data = value(text(1, "w"), tensor(scalar(1, 0), text(2, "Int32"), content(bytes([7, 0, 0, 0]))))
    assert read_all(data)["w"].shape == ()


@pytest.mark.parametrize("shape", [(1000,), (7, 13), (3, 5, 17), (1, 900)])
@pytest.mark.parametrize("dtype", ["f8", ">i2", "i1"])
@pytest.mark.parametrize("order", ["C", "F", "strided"])
def test_a_tensor_in_parts_is_the_same_tensor(monkeypatch, shape, dtype, order):
    monkeypatch.setattr(ckpt, "PART", 112)  # instead of 512 MiB
    monkeypatch.setattr(ckpt, "_BLOCK", 80)
    monkeypatch.setattr(ckpt, "SMALL", 0)
    array = np.arange(np.prod(shape) * 2).reshape(*shape[:-1], -1).astype(dtype)
    array = np.asarray(
        array[..., ::2] if order == "strided" else array, order="F" if order == "F" else "K"
    )
    data = written([("before", int8(1)), ("w", array), ("after", int8(2))])
    merged = Checkpoint.FromString(data)
    assert {v.tag for v in merged.value} == {"before", "w", "after"}
    assert all(len(v.tensor.tensor_content) <= 112 for v in merged.value)
    assert all(list(v.tensor.dims) == list(array.shape) for v in merged.value if v.tag == "w")
    found = read_all(data)["w"]
    assert found.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(found, array)


def read_all(data):
    found = ckpt.contents(memoryview(data), "a.ckpt")
    return {name: found.array(entry) for name, entry in found.entries.items()}


# ------------------------------------------------------------------------------------------- fuzz

HUGE = [varint(n) for n in (0, 1, 127, 128, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1, -1)]
SEEDS = [
    written([("w", np.arange(6, dtype=np.float32).reshape(2, 3)), ("b", np.zeros(3))]),
    written([("w", np.arange(6, dtype=np.int16)), ("s", np.array("text"))], crc=True),
    written([("flag", np.array([True, False])), ("none", np.zeros((0, 3))), ("n", np.int64(1))]),
    W + V,
    value(text(1, "w"), tensor(scalar(1, 4), text(2, "Int8"), content(b"ab"))) * 2,
    written(
        [(f"{n}{n}"[-2:], np.arange(6, dtype=np.int8).reshape(n % 2 + 2, -1)) for n in range(8)]
    ),
]


def mutated(data, pick):
    """``data`` after one random accident."""
    a, b = sorted(pick.choices(range(len(data) + 1), k=2))
    match pick.randrange(7):
        case 0:
            return flipped(data, pick.randrange(8 * len(data))) if data else b"\x00"
        case 1:
            return data[:a] + bytes([pick.randrange(256)]) + data[a + 1 :]
        case 2:
            return data[:a] + data[b:]
        case 3:
            return data[:b] + data[a:]
        case 4:
            return data[:a] + pick.choice(HUGE) + data[a + pick.randrange(3) :]
        case 5:
            return data[:a] + pick.randbytes(b - a) + data[b:]
        case _:
            return data[:a] + pick.choice(SEEDS)[-pick.randrange(1, 40) :] + data[a:]


def refusal(data):
    """The message with which ``data`` is refused; None if it is read, into no more bytes."""
    try:
        arrays = read_all(data)
    except FormatError as error:
        return str(error)
    except BaseException as error:
        raise AssertionError(f"{type(error).__name__} from {data.hex()}") from error
    assert sum(array.nbytes for array in arrays.values()) <= len(data), data.hex()
    return None


@pytest.mark.parametrize("seed", range(10))
def test_of_5000_mutated_files_none_does_more_than_be_refused(seed):
    pick = random.Random(seed)
    refused = 0
    tracemalloc.start()
    for _ in range(5000):
        data = pick.choice(SEEDS)
        for _ in range(pick.randrange(1, 4)):
            data = mutated(data, pick)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        message = refusal(data)
        if message is not None:
            assert message.startswith("a.ckpt: byte "), data.hex()
            refused += 1
        grown = tracemalloc.get_traced_memory()[1] - before
        assert grown < 50 * len(data) + 100_000, data.hex()  # a cache may grow
    tracemalloc.stop()
    assert 2500 < refused < 5000  # the mutations are neither futile nor all fatal


@pytest.mark.parametrize("seed", range(2))
def test_the_quick_way_through_a_file_and_the_long_one_agree(seed, monkeypatch):
    pick = random.Random(100 + seed)
    files = [mutated(pick.choice(SEEDS), pick) for _ in range(3000)]

    def outcomes():
        found = []
        for data in files:
            try:
                arrays = read_all(data).items()
                found.append([(name, a.dtype, a.shape, a.tobytes()) for name, a in arrays])
            except FormatError as error:
                found.append(str(error))
        return found

    quick = outcomes()
    monkeypatch.setattr(ckpt_index, "_frame", lambda data, at: None)
    assert outcomes() == quick


def test_a_tensor_in_a_hundred_thousand_parts_takes_no_time():
    part = value(text(1, "w"), tensor(scalar(1, 100_000), text(2, "Int8"), content(b"a")))
    started = time.process_time()
    assert read_all(part * 100_000)["w"].shape == (100_000,)
    assert time.process_time() - started < 20


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=200))
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f")
def test_any_bytes_are_read_or_refused(data):
    with suppress(FormatError):
        list(Reader(memoryview(data), "a.ckpt").fields())
    with suppress(FormatError):
        read_all(data)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_is_written_is_what_protobuf_parses_and_what_we_read(data):
    names = data.draw(st.lists(st.text(max_size=20).filter(encodes), min_size=1, unique=True))
    kinds = st.sampled_from(sorted(ckpt_index.TYPE_OF, key=str))
    shapes = st.lists(st.integers(0, 4), max_size=4)
    leaves = []
    for name in names:
        dtype, shape = data.draw(kinds), data.draw(shapes)
        raw = np.random.default_rng(len(name)).integers(0, 2, (*shape, dtype.itemsize), np.uint8)
        leaves.append((name, raw.view(dtype).reshape(shape)))
    stored = written(leaves, crc=data.draw(st.booleans()))
    found = read_all(stored)
    assert list(found) == names
    for name, array in leaves:
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()
    body = stored[:-17] if stored[-17:-10] == b"crc_num" else stored
    assert [value.tag for value in Checkpoint.FromString(body).value] == names


def encodes(name):
    return not any("\ud800" <= character <= "\udfff" for character in name)


@given(st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_varint_is_read_as_it_was_written(n):
    assert Reader(memoryview(varint(n)), "a").signed() == n


def test_parts_are_not_copied(tmp_path):
    array = np.arange(1000, dtype=np.uint8)
    parts = field(1, field(2, [text(1, "w"), array.data]))
    assert parts[-1] is not None
    assert np.shares_memory(np.frombuffer(parts[-1], np.uint8), array)
    assert size(parts) == len(b"".join(parts))


def test_an_unreadable_path_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.ckpt")
    with pytest.raises(IsADirectoryError):
        load_checkpoint(tmp_path)
    save_checkpoint({"a": 1}, tmp_path / "a.ckpt")


HARMLESS = """
import pickle, subprocess, sys
from pathlib import Path
import numpy as np
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.errors import FormatError

class Bomb:
    def __reduce__(self):
        return print, ("boom",)

path, bomb = Path(sys.argv[1], "a.ckpt"), pickle.dumps(Bomb())
code = "__import__('os').system('echo boom')"
tree = {code: code, "pickled": np.frombuffer(bomb, np.uint8), "flag": True}
save_checkpoint(tree, path, crc=True)
whole, recorded = path.read_bytes(), []
sys.addaudithook(lambda event, _: recorded.append(event))

def load():
    recorded.clear()
    for mmap in (False, True):
        try:
            load_checkpoint(path, mmap=mmap)
        except FormatError:
            pass
    return set(recorded)

events = load() and load()  # modules that are imported late are there now
for length in range(1, len(whole), 3):
    path.write_bytes(whole[:length])
    events |= load()
path.write_bytes(bomb)
print(sorted(events | load()))
"""


def test_loading_opens_and_maps_the_file_and_does_nothing_else(tmp_path, run_python):
    """As Python's audit hooks tell it: no import, no pickle, no compiled code, no process."""
    told = run_python(HARMLESS, tmp_path)
    assert told.splitlines() == ["['mmap.__new__', 'open']"]
