"""How the structures of the specifications become numpy dtypes, and the bytes of a buffer one of them.

Offsets are written out, as the figures of the specifications have them; a byte that no field covers is reserved.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Data = bytes | bytearray | memoryview | NDArray[Any]
"""What the parsers take: the bytes a command transferred, in any contiguous buffer."""

U128 = ("u1", (16,))
"""Format of a field of 16 bytes, which numpy has no integer for; :func:`u128` reads it as one."""


def layout(itemsize: int, fields: Iterable[tuple[str, int, Any]]) -> np.dtype[np.void]:
    """A structure of ``itemsize`` bytes from the (name, offset, format) of its fields."""
    names, offsets, formats = zip(*fields, strict=True)
    return np.dtype({"names": names, "offsets": offsets, "formats": formats, "itemsize": itemsize})


def record(data: Data, dtype: np.dtype[np.void]) -> np.void:
    """The structure at the start of ``data``, copied and read-only: the buffer may be used again at once.

    Raises ValueError where ``data`` is too short for it.
    """
    octets = np.frombuffer(data, np.uint8)
    if octets.size < dtype.itemsize:
        raise ValueError(f"{octets.size} bytes of data, where the structure has {dtype.itemsize}")
    copied: np.void = np.frombuffer(octets[: dtype.itemsize].tobytes(), dtype)[0]
    return copied


def values(structure: np.void, *names: str) -> dict[str, Any]:
    """The fields named, as Python values: integers as int, strings without their padding as str."""
    return {name: _text(value) if isinstance(value := structure[name].item(), bytes) else value for name in names}


def u128(value: NDArray[np.uint8]) -> int:
    """A field of format :data:`U128` as an integer."""
    return int.from_bytes(value.tobytes(), "little")


def _text(value: bytes) -> str:
    return value.split(b"\0")[0].decode("utf-8", "replace").strip()
