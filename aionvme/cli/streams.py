"""Stdin, waited for in a way that can be cancelled, and stdout, whatever became of it."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import anyio


def write_text(text: str) -> None:
    """Print lines, in the characters that stdout has. A stdout that was closed (``>&-``) is nowhere to write to."""
    if sys.stdout is not None:
        encoding = sys.stdout.encoding or "utf-8"
        with _until_it_breaks(sys.stdout):
            print(text.rstrip("\n").encode(encoding, "replace").decode(encoding), flush=True)


def write_data(data: bytes | memoryview) -> None:
    """Write bytes as they are."""
    with _until_it_breaks(sys.stdout):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@contextmanager
def _until_it_breaks(stream: TextIO) -> Iterator[None]:
    try:
        yield
    except OSError:
        # The reader is gone, or the disk is full. Python flushes once more at exit: let what is left go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        raise


async def readable(fd: int) -> None:
    """Wait until a pipe or terminal has something to read, or its end; a file always has. The wait can be cancelled."""
    if os.isatty(fd) or stat.S_ISFIFO(mode := os.fstat(fd).st_mode) or stat.S_ISSOCK(mode):
        await anyio.wait_readable(fd)
