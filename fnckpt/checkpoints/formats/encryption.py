"""MindSpore's container for encrypted files, mode AES-GCM; needs ``pip install 'fnckpt[crypto]'``.

A file is a run of blocks, each encrypted for itself. Integers are of 4 bytes, little-endian:

| bytes | what |
|---|---|
| 4 | 0x7F3A5ED8: AES-GCM (0x7F3A5ED9 is AES-CBC, 0x7F3A5EDA SM4-CBC) |
| 16 | the tag that authenticates the block |
| 4 | the bytes of all that follows |
| 4, then 16 | 16, and random bytes; the first 12 are the nonce |
| 4, then n | n, the ciphertext |

Source: files written by MindSpore 2.10 (mindspore/core/utils/crypto.cc).
"""

import os
import struct
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fnckpt.errors import FormatError
from fnckpt.wire import Part

_GCM = 0x7F3A5ED8
_MODES = {_GCM: "AES-GCM", 0x7F3A5ED9: "AES-CBC", 0x7F3A5EDA: "SM4-CBC"}
_TAG, _NONCE, _USED = 16, 16, 12
_HEAD = struct.Struct(f"<I{_TAG}sII{_NONCE}sI")
_BLOCK = 16 << 20  # plain bytes in a block; MindSpore writes 64 MiB and reads any


def check_key(key: bytes) -> None:
    """Refuse what is no AES key.

    Raises:
      TypeError, ValueError: it is not 16, 24 or 32 bytes.
    """
    if not isinstance(key, bytes):
        raise TypeError(f"key: must be bytes, found {type(key).__name__}")
    if len(key) not in (16, 24, 32):
        raise ValueError(f"key: must have 16, 24 or 32 bytes, found {len(key)}")


class Encrypting:
    """A file to write to, whose bytes reach ``file`` encrypted; ``close`` writes the last block.

    Holds one block in memory, plain, and one encrypted.
    """

    def __init__(self, file: BinaryIO, key: bytes) -> None:
        check_key(key)
        self._file, self._cipher, self._plain = file, AESGCM(key), bytearray()

    def write(self, data: Part) -> None:
        """Encrypt ``data`` after all that was written before."""
        rest = memoryview(data)
        while rest:
            room = _BLOCK - len(self._plain)
            self._plain += rest[:room]
            rest = rest[room:]
            if len(self._plain) == _BLOCK:
                self.close()

    def close(self) -> None:
        """Write what is still held as a block of its own."""
        if not self._plain:
            return
        nonce = os.urandom(_NONCE)
        sealed = self._cipher.encrypt(nonce[:_USED], self._plain, None)
        length = len(self._plain)
        following = 4 + _NONCE + 4 + length
        self._file.write(_HEAD.pack(_GCM, sealed[-_TAG:], following, _NONCE, nonce, length))
        self._file.write(memoryview(sealed)[:-_TAG])
        self._plain.clear()


def decrypted(data: memoryview, key: bytes, source: str) -> memoryview:
    """The plain bytes of the encrypted file ``data``.

    Raises:
      FormatError: ``data`` is not encrypted in mode AES-GCM, is cut off, was changed, or has
        another key; names ``source`` and the byte.
      TypeError, ValueError: ``key`` is no AES key.
    """
    check_key(key)
    cipher, plain, at = AESGCM(key), bytearray(), 0
    while at < len(data):
        nonce, start, stop, tag = _block(data, at, source)
        try:
            plain += cipher.decrypt(nonce[:_USED], bytes(data[start:stop]) + tag, None)
        except InvalidTag:
            raise FormatError(
                f"{source}: byte {at}: the block does not authenticate; the key is wrong or "
                "the file is damaged"
            ) from None
        at = stop
    return memoryview(plain)


def _block(data: memoryview, at: int, source: str) -> tuple[bytes, int, int, bytes]:
    """Nonce, first byte of the ciphertext, byte after its last, and tag of the block at ``at``."""
    place = f"{source}: byte {at}"
    if len(data) - at < _HEAD.size:
        raise FormatError(f"{place}: an encrypted block is cut off")
    mark, tag, following, nonce_length, nonce, length = _HEAD.unpack_from(data, at)
    if mark != _GCM:
        found = _MODES.get(mark, f"{mark:#010x}")
        raise FormatError(f"{place}: no block in mode AES-GCM begins here, found {found}")
    start = at + _HEAD.size
    if (nonce_length, following) != (_NONCE, 4 + _NONCE + 4 + length):
        raise FormatError(f"{place}: the lengths of an encrypted block disagree")
    if length > len(data) - start:
        raise FormatError(f"{place}: a block claims {length} bytes, {len(data) - start} are left")
    return nonce, start, start + length, tag
