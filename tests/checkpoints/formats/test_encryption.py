"""Encrypted checkpoints, both ways with the real MindSpore."""

import json

import numpy as np
import pytest

from fnckpt.checkpoints.formats import encryption
from fnckpt.checkpoints.pytree import load_checkpoint, save_checkpoint
from fnckpt.errors import FormatError

KEY = b"0123456789abcdef"
TREE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "v": np.arange(5), "text": "wörd"}

LOAD = """
import json, sys
import mindspore
loaded = mindspore.load_checkpoint(sys.argv[1], dec_key=bytes.fromhex(sys.argv[2]))
print(json.dumps({k: v if isinstance(v, str) else v.asnumpy().tolist() for k, v in loaded.items()}))
"""


def same(found, expected):
    return set(found) == set(expected) and all(
        np.array_equal(found[name], expected[name]) for name in expected
    )


@pytest.mark.parametrize("length", [16, 24, 32])
def test_mindspore_decrypts_what_we_encrypt(tmp_path, run_python, monkeypatch, length):
    monkeypatch.setattr(encryption, "_BLOCK", 50)
    key = bytes(range(length))
    path = save_checkpoint(TREE, tmp_path / "a.ckpt", enc_key=key)
    found = json.loads(run_python(LOAD, path, key.hex()))
    assert same(found, TREE)
    assert same(load_checkpoint(path, dec_key=key), TREE)


def test_we_decrypt_what_mindspore_encrypts(tmp_path, mindspore_save):
    tensors = {
        name: (str(TREE[name].dtype), list(TREE[name].shape), TREE[name].tobytes().hex())
        for name in ("w", "v")
    }
    mindspore_save(tmp_path, {"a.ckpt": (tensors, {"enc_key": KEY.hex()})})
    path = tmp_path / "a.ckpt"
    for mmap in (False, True):
        found = load_checkpoint(path, dec_key=KEY, mmap=mmap)
        assert same(found, {name: TREE[name] for name in tensors})
    assert load_checkpoint(path, {"w": np.zeros((2, 3), "f4"), "v": np.zeros(5, int)}, dec_key=KEY)


def test_large_contents_span_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(encryption, "_BLOCK", 1000)
    tree = {"w": np.arange(10_000), "v": np.arange(3)}
    path = save_checkpoint(tree, tmp_path / "a.ckpt", enc_key=KEY)
    assert same(load_checkpoint(path, dec_key=KEY), tree)
    assert b"\x01\x00\x00\x00\x00\x00\x00\x00\x02" not in path.read_bytes()


def test_two_saves_with_one_key_share_no_nonce(tmp_path):
    first = save_checkpoint(TREE, tmp_path / "a.ckpt", enc_key=KEY).read_bytes()
    second = save_checkpoint(TREE, tmp_path / "a.ckpt", enc_key=KEY).read_bytes()
    assert first[28:44] != second[28:44]
    assert first[48:] != second[48:]


def changed(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("damage", "key", "message"),
    [
        (lambda data: data, None, "byte 0: the file is encrypted; give its key, dec_key="),
        (lambda data: data, KEY[::-1], "byte 0: the block does not authenticate; the key is"),
        (lambda data: changed(data, 60), KEY, "byte 0: the block does not authenticate"),
        (lambda data: changed(data, 5), KEY, "byte 0: the block does not authenticate"),
        (lambda data: changed(data, 1), KEY, "no block in mode AES-GCM begins here, found 0x7f"),
        (lambda data: changed(data, 0), KEY, "AES-GCM begins here, found AES-CBC"),
        (lambda data: changed(data, 20), KEY, "the lengths of an encrypted block disagree"),
        (lambda data: data[:-1], KEY, "a block claims 139 bytes, 138 are left"),
        (lambda data: data + b"x", KEY, "byte 187: an encrypted block is cut off"),
    ],
)
def test_a_fault_of_an_encrypted_file_is_told_with_its_place(tmp_path, damage, key, message):
    path = save_checkpoint(TREE, tmp_path / "a.ckpt", enc_key=KEY)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(FormatError) as raised:
        load_checkpoint(path, dec_key=key)
    assert message in str(raised.value)


def test_a_plain_file_with_a_key_is_refused(tmp_path):
    path = save_checkpoint(TREE, tmp_path / "a.ckpt")
    with pytest.raises(FormatError, match="no block in mode AES-GCM"):
        load_checkpoint(path, dec_key=KEY)


def test_bad_arguments_are_refused_before_a_file_is_there(tmp_path):
    with pytest.raises(ValueError, match="must have 16, 24 or 32 bytes, found 3"):
        save_checkpoint(TREE, tmp_path / "a.ckpt", enc_key=b"abc")
    with pytest.raises(ValueError, match="leave out crc"):
        save_checkpoint(TREE, tmp_path / "a.ckpt", enc_key=KEY, crc=True)
    assert list(tmp_path.iterdir()) == []
