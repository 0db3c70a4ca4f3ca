"""Many commands as one: what they have in common once, and a column of values for each field in which they differ."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

COMPLETION = np.dtype(
    {
        "names": ["status", "errno", "result", "latency_ns"],
        "formats": ["<u2", "<u2", "<u8", "<u8"],
        "offsets": [0, 2, 8, 16],
        "itemsize": 24,
    }
)
"""How a command of a batch ended, as ``struct aionvme_completion`` in _native/core.h has it."""


class Column(NamedTuple):
    """A field of ``struct nvme_uring_cmd`` by its place, and its unsigned value in each command, at any stride."""

    offset: int
    values: NDArray[Any]


class Batch:
    """Commands to be submitted together, and where their completions go.

    ``template`` is the ``nvme_uring_cmd`` of all of them but for the columns. ``buf_index`` is the registered buffer of
    all of them, or has that of each, or is -1. ``keep`` has to stay alive until the last of them has completed.
    """

    def __init__(
        self,
        n: int,
        template: bytes,
        columns: Sequence[Column],
        *,
        buf_index: NDArray[np.uint16] | int = -1,
        keep: object = None,
    ) -> None:
        self.n = n
        self.template = template
        self.columns = tuple(columns)
        self.buf_index = buf_index
        self.keep = keep
        self.completions = np.zeros(n, COMPLETION)
        self.stopped_at = n
        """How many of them were submitted: all, unless the batch was stopped. The others have no completion."""

    def entry(self, i: int) -> bytes:
        """The ``nvme_uring_cmd`` of one of them."""
        entry = bytearray(self.template)
        for offset, values in self.columns:
            value = values[i].tobytes()
            entry[offset : offset + len(value)] = value
        return bytes(entry)

    def buf_index_of(self, i: int) -> int:
        """The registered buffer of one of them, or -1."""
        return self.buf_index if isinstance(self.buf_index, int) else int(self.buf_index[i])

    def field(self, offset: int, width: int) -> NDArray[Any]:
        """The values of a field in all of them, as a column, or as one value where all have the same."""
        for column in self.columns:
            if column.offset == offset:
                return column.values
        return np.frombuffer(self.template, f"<u{width}", 1, offset)
