"""Reading OpenEXR pictures: one part, in scanlines, uncompressed or with RLE, ZIPS or ZIP (what renderers write).

Source: OpenEXR file layout, "Technical Introduction to OpenEXR".
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

from .errors import InputError

MAGIC = 20000630
KINDS = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}
LINES = {0: 1, 1: 1, 2: 1, 3: 16}  # compression -> scanlines of a block
NAMES = ("none", "RLE", "ZIPS", "ZIP", "PIZ", "PXR24", "B44", "B44A", "DWAA", "DWAB")
MOST_PIXELS = 1 << 28


def read_exr(data: bytes) -> dict[str, np.ndarray]:
    """Channels float32 [H, W] by name, the layer's name taken off (of equal names the first counts).

    Raises InputError for anything but the files described above.
    """
    try:
        return _read(data)
    except InputError:
        raise
    except (struct.error, zlib.error, IndexError, ValueError, KeyError, UnicodeDecodeError) as error:
        raise InputError(f"The EXR file is damaged or cut short ({error}).") from None


def _read(data: bytes) -> dict[str, np.ndarray]:
    magic, version = struct.unpack_from("<iI", data)
    if magic != MAGIC:
        raise InputError("This is no EXR file.")
    if version & 0xA00:  # tiles and deep data: 0x200 and 0x800
        raise InputError("The EXR file has tiles or deep data; save it in scanlines.")
    if version & 0x1000:
        raise InputError("The EXR file has several parts; save one part alone.")
    header, at = {}, 8
    while data[at]:
        name, at = _word(data, at)
        _, at = _word(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        header[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    at += 1
    channels = _channels(header["channels"])
    left, top, right, bottom = struct.unpack("<4i", header["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    compression = header["compression"][0]
    if compression not in LINES:
        name = NAMES[compression] if compression < len(NAMES) else str(compression)
        raise InputError(f"The EXR file is compressed with {name}; save it with ZIP or without compression.")
    if width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise InputError(f"The EXR file says it is {width} x {height} pixels, which cannot be read.")
    lines = LINES[compression]
    row = sum(kind.itemsize for _, kind in channels) * width
    blocks = -(-height // lines)
    if len(data) < at + 8 * blocks:
        raise InputError("The EXR file is cut short.")
    found = {name: np.full((height, width), np.nan, np.float32) for name, _ in channels}
    for offset in struct.unpack_from(f"<{blocks}Q", data, at):
        y, size = struct.unpack_from("<ii", data, offset)
        first = y - top
        count = min(lines, height - first)
        if not 0 <= first < height:
            raise ValueError(f"a block begins at line {y}")
        raw = _unpacked(data[offset + 8 : offset + 8 + size], compression, row * count)
        place = 0
        for line in range(first, first + count):
            written = set()
            for name, kind in channels:
                values = np.frombuffer(raw, kind, width, place)
                place += kind.itemsize * width
                if name not in written:
                    found[name][line] = values
                    written.add(name)
    return found


def _word(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode("ascii"), end + 1


def _channels(data: bytes) -> list[tuple[str, np.dtype]]:
    found, at = [], 0
    while data[at]:
        name, at = _word(data, at)
        kind, _, x, y = struct.unpack_from("<iB3xii", data, at)
        if (x, y) != (1, 1):
            raise InputError(f"The EXR file has fewer pixels for its channel {name}; save it at full resolution.")
        found.append((name.split(".")[-1], KINDS[kind]))
        at += 16
    return found


def _unpacked(packed: bytes, compression: int, size: int) -> bytes:
    """The bytes of a block. One that compression would not shrink is stored as it is."""
    if compression == 0 or len(packed) == size:
        raw = packed
    else:
        flat = _run_lengths(packed, size) if compression == 1 else zlib.decompressobj().decompress(packed, size)
        steps = np.frombuffer(flat, np.uint8).astype(np.int64)
        steps[1:] -= 128  # differences, then the two halves of the block are its even and odd bytes
        plain = (np.cumsum(steps) & 255).astype(np.uint8)
        raw = np.empty_like(plain)
        half = (len(plain) + 1) // 2
        raw[0::2], raw[1::2] = plain[:half], plain[half:]
        raw = raw.tobytes()
    if len(raw) != size:
        raise ValueError(f"a block of {len(raw)} instead of {size} bytes")
    return raw


def _run_lengths(packed: bytes, size: int) -> bytes:
    out, at = bytearray(), 0
    while at < len(packed) and len(out) < size:
        count = struct.unpack_from("b", packed, at)[0]
        if count < 0:
            out += packed[at + 1 : at + 1 - count]
            at += 1 - count
        else:
            out += packed[at + 1 : at + 2] * (count + 1)
            at += 2
    return bytes(out)
