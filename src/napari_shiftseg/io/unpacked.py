"""How much a chunk unpacks to, before it is unpacked: some kilobytes can say gigabytes."""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Collection

__all__ = ["unpacked_size"]


def unpacked_size(data: bytes, codecs: Collection[str], most: int) -> int:
    """Bytes that a chunk, or the first one of a shard, says it unpacks to; 0 where it does not say.

    `codecs`: those of its array; of them its first bytes name the one. Formats that do not say are unpacked, up to one byte
    more than `most`, and so is gzip that says more, since its last bytes may be of something else. Of deflate no more than
    1032 times its size comes.

    >>> unpacked_size(bz2.compress(bytes(10**6)), {"bz2"}, 1000), unpacked_size(b"no such format", {"bz2"}, 1000)
    (1001, 0)
    """
    if data[:4] == b"\x28\xb5\x2f\xfd" and "zstd" in codecs:
        return _of_zstd(data)
    if "blosc" in codecs and len(data) >= 16 and data[0] in (1, 2) and _number(data[12:16]) == len(data):
        return _number(data[4:8])
    try:
        if data[:3] == b"\x1f\x8b\x08" and "gzip" in codecs and _number(data[-4:]) > most:
            return len(zlib.decompressobj(wbits=31).decompress(data, most + 1))
        if data[:3] == b"BZh" and "bz2" in codecs:
            return len(bz2.BZ2Decompressor().decompress(data, most + 1))
        if data[:6] == b"\xfd7zXZ\x00" and "lzma" in codecs:
            return len(lzma.LZMADecompressor().decompress(data, most + 1))
    except (OSError, EOFError, lzma.LZMAError, zlib.error):  # who reads it says so
        pass
    return 0


def _of_zstd(data: bytes) -> int:
    """The size in the header of a frame (RFC 8878, section 3.1.1.1)."""
    flags = data[4] if len(data) > 4 else 0
    single, kind = flags >> 5 & 1, flags >> 6
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    length = (single, 2, 4, 8)[kind]
    return _number(data[start : start + length]) + 256 * (kind == 1)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
