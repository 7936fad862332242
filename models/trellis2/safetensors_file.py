"""Reading `.safetensors` files tensor by tensor, including dtypes that some readers refuse (the complex64 of C64)."""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...scene.errors import InputError

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
HEADER_LIMIT = 100_000_000


class SafetensorsFile(Mapping[str, Tensor]):
    """The tensors of a file by name; each is mapped from the file when asked for, nothing is read ahead.

    Raises InputError where the file is not a whole safetensors file. The tensors are views of a private mapping:
    convert or clone what must outlive the file.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        if not self.path.is_file():
            raise InputError(f"There is no file {self.path}.")
        size = self.path.stat().st_size
        with open(self.path, "rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if not 2 <= length <= min(HEADER_LIMIT, size - 8):
                raise InputError(f"{self.path} is not a safetensors file, or is cut short.")
            try:
                header = json.loads(file.read(length))
                self.metadata: dict[str, str] = header.pop("__metadata__", {})
                self.entries = {name: self._entry(name, e, size - 8 - length) for name, e in header.items()}
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise InputError(f"{self.path} has an unreadable safetensors header ({error}).") from None
            self._start = 8 + length
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def _entry(self, name, entry, room) -> tuple[str, list[int], int, int]:
        begin, end = entry["data_offsets"]
        shape, kind = [int(n) for n in entry["shape"]], entry["dtype"]
        if not 0 <= begin <= end <= room:
            raise ValueError(f"{name} lies outside the file, which is cut short")
        count = 1
        for n in shape:
            count *= n
        if kind in DTYPES and count * DTYPES[kind].itemsize != end - begin:
            raise ValueError(f"the bytes of {name} do not fit its shape")
        return kind, shape, begin, end

    def shape(self, name: str) -> list[int]:
        return self.entries[name][1]

    def __getitem__(self, name: str) -> Tensor:
        kind, shape, begin, end = self.entries[name]
        if kind not in DTYPES:
            raise InputError(f"{name} in {self.path} is of the unknown type {kind}.")
        if begin == end:
            return torch.empty(shape, dtype=DTYPES[kind])
        flat = torch.frombuffer(self._map, dtype=torch.uint8, count=end - begin, offset=self._start + begin)
        if (self._start + begin) % DTYPES[kind].itemsize:
            flat = flat.clone()
        return flat.view(DTYPES[kind]).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)
