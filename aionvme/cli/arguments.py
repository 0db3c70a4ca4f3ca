"""What commands take on the command line, where several take the same."""

import argparse
import math
from typing import Any

from aionvme.errors import UsageError
from aionvme.sizes import parse_size

TARGET_HELP = "a namespace's character device (/dev/ng0n1), or an emulated one ('emu:zns', 'emu:nvm?size=1GiB')"


def add_target(parser: argparse.ArgumentParser, **options: Any) -> None:
    """The namespace; ``options`` are argparse's."""
    parser.add_argument("target", metavar="TARGET", **{"help": TARGET_HELP} | options)


def add_form(parser: argparse.ArgumentParser, *, csv: str | None = None) -> "argparse._MutuallyExclusiveGroup":
    """``--json``, and ``--csv`` where there is help for it: the group, for what excludes them."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document")
    if csv is not None:
        form.add_argument("--csv", action="store_true", help=csv)
    return form


def add_force(parser: argparse.ArgumentParser) -> None:
    """``--force``, of what writes."""
    parser.add_argument(
        "--force", action="store_true", help="even while the namespace is in use: mounted, swap, part of another device"
    )


def size_in_bytes(text: str) -> int:
    """A size that is not 0."""
    try:
        len_bytes = parse_size(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if not len_bytes:
        raise argparse.ArgumentTypeError(f"{text!r}: it takes at least one logical block")
    return len_bytes


def seconds(text: str) -> float:
    """A time."""
    try:
        time = float(text)
    except ValueError:
        time = math.nan
    if not 0 < time < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: it takes a time in seconds, such as 0.5")
    return time


def zone_number(text: str) -> int:
    """A zone by its number."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}: zones have numbers, counted from 0")
    return int(text)


def block_address(text: str) -> int:
    """An LBA, decimal or as hexadecimal 0x..."""
    try:
        lba = int(text, 0)
    except ValueError:
        lba = -1
    if lba < 0:
        raise argparse.ArgumentTypeError(f"{text!r}: it takes an LBA, such as 1024 or 0x400")
    return lba


def count(text: str) -> int:
    """How many, at least one."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r}: it takes a whole number from 1 on")
    return int(text)
