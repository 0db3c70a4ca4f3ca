"""What a trace is: an array with a row for each I/O command, and the ``.npy`` file that it is kept in."""

import os
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aionvme.errors import UsageError

TRACE = np.dtype(
    [
        ("submit_ns", "<u8"),
        ("complete_ns", "<u8"),
        ("slba", "<u8"),
        ("result", "<u8"),
        ("zsze", "<u8"),
        ("nsid", "<u4"),
        ("nlb", "<u4"),
        ("len_bytes", "<u4"),
        ("block_bytes", "<u4"),
        ("cdw12", "<u4"),
        ("cdw13", "<u4"),
        ("in_flight", "<u4"),
        ("status", "<u2"),
        ("errno", "<u2"),
        ("opcode", "u1"),
        ("action", "u1"),
        ("select_all", "?"),
    ]
)
"""A command of a trace. Rows are in the order of submission.

- ``submit_ns``, ``complete_ns``: when it was submitted to the queue, and when its completion was reaped, in nanoseconds of the
  monotonic clock from the opening. ``complete_ns`` is 0 where it never completed: the device was gone.
- ``opcode``, ``nsid``, ``cdw12``, ``cdw13``: as they were sent.
- ``slba``: its first logical block (of a copy the first destination, of an append its zone's start), 0 where it has none.
- ``nlb``: how many logical blocks it addresses, 1-based, 0 where it says so in its data or not at all.
- ``len_bytes``: bytes of data it moves.
- ``action``, ``select_all``: of zone management send and receive, in dword 13 (select_all of send alone), 0 and False of others.
- ``status``: the completion's, 0 for success, as :class:`~aionvme.Status` takes it. ``errno``: where the operating system ended
  it, else 0. ``result``: the completion's 64 bits; of an append the LBA of its first block.
- ``in_flight``: how many commands were in flight when it was submitted, itself counted, arrays' and other tasks' included.
- ``block_bytes``, ``zsze``: the namespace's, the same in every row: bytes of a logical block in a buffer, and logical blocks of a
  zone, 0 on a conventional namespace.
"""

Trace = NDArray[np.void]
"""An array of :data:`TRACE`."""

PathName = str | os.PathLike[str]


def load_trace(path: PathName) -> Trace:
    """The array that a trace's file holds. Raises UsageError where it holds something else, OSError where it cannot be read."""
    with open(path, "rb") as file:
        try:
            rows: Trace = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise UsageError(f"{os.fspath(path)} holds no trace: {error}") from None
    return check_trace(rows, os.fspath(path))


def check_trace(rows: object, name: str = "the trace") -> Trace:
    """The same array, where it is one of commands. Raises UsageError where it is something else."""
    if not isinstance(rows, np.ndarray) or rows.dtype != TRACE or rows.ndim != 1:
        kind = f"{rows.ndim} dimensions of {rows.dtype}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise UsageError(f"{name} is not a list of commands of dtype aionvme.TRACE: {kind}")
    return rows


def trace_file(path: PathName) -> Path:
    """Where a trace will be kept, whatever the process changes to meanwhile: links are followed, and a file can be made there.

    Raises UsageError where none can.
    """
    try:
        file = Path(os.path.realpath(path))
        if file.exists() and not file.is_file():
            raise UsageError(f"trace={path!r}: there is something that is not a file")
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except (OSError, TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise UsageError(f"trace={path!r}: no file can be written there: {reason}") from None
    return file


def save_trace(rows: Trace, file: Path) -> None:
    """Write a trace's file, whole or not at all: beside it first. Raises OSError where that fails."""
    beside = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as stream:
            np.save(stream, rows, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        beside.replace(file)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
