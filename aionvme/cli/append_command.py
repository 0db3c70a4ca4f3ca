"""``aionvme append``: stdin to a zone, and where each piece of it was put.

The pieces are in flight together and land in any order; they are told in that of the stream, each as soon as those before it have
been. Exit status 1 where not all of stdin was appended: stderr says how much was, and what of it landed behind a piece that
was not.
"""

import argparse
import asyncio
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict

from rich.text import Text

from aionvme.cli import CommandLineError
from aionvme.cli.appending import Appending, Piece
from aionvme.cli.arguments import add_force, add_form, add_target, size_in_bytes, zone_number
from aionvme.cli.render import Answer, plural, size
from aionvme.cli.streams import write_text
from aionvme.cli.zone_rows import check_numbers
from aionvme.namespace import Namespace
from aionvme.nvme.opcodes import ZoneState
from aionvme.opening import open_namespace
from aionvme.zones.display import state_name
from aionvme.zones.zone import Zone


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_target(parser)
    add_form(parser)
    parser.add_argument("--zone", type=zone_number, required=True, metavar="N", help="where to append")
    parser.add_argument(
        "--roll", action="store_true", help="when the zone is full, go on in the next ones that are empty"
    )
    parser.add_argument(
        "--size", type=size_in_bytes, metavar="SIZE", help="most data of one command; default, the most that one takes"
    )
    parser.add_argument("--pad", action="store_true", help="fill the last block with zeroes")
    add_force(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    if sys.stdin is None:
        raise CommandLineError("stdin is closed, and what is to be appended comes from there")
    return asyncio.run(_append(arguments))


async def _append(arguments: argparse.Namespace) -> Answer:
    placed: list[Piece] = []
    tell = placed.append if arguments.json else _print
    async with open_namespace(arguments.target, force=arguments.force) as ns:
        ns.check_writable()
        check_numbers(ns, [arguments.zone])
        len_bytes = arguments.size or ns.max_append_bytes
        if len_bytes % ns.lba_size or len_bytes > ns.max_append_bytes:
            most = size(ns.max_append_bytes)
            raise CommandLineError(f"--size {len_bytes}: whole blocks of {ns.lba_size} bytes, {most} at most")
        zones = list(_zones(ns, arguments.zone, roll=arguments.roll))
        _check_length(ns, zones, sys.stdin.fileno(), pad=arguments.pad)
        appending = Appending(ns, zones, len_bytes, tell, pad=arguments.pad)
        await appending.run(sys.stdin.fileno())
    document = {
        "target": arguments.target,
        "bytes": appending.told_bytes,
        "padding_bytes": appending.padding_bytes,
        "appends": [asdict(piece) for piece in placed],
        "stranded": [asdict(piece) for piece in appending.stranded],
        "error": appending.error,
    }
    if appending.error:
        told = f"{plural(appending.told_bytes, 'byte')} of stdin in {plural(appending.told, 'command')} and no more"
        stranded = ", ".join(map(str, appending.stranded))
        print(
            f"aionvme: appended {told}: {appending.error}" + (f"; behind that landed {stranded}" if stranded else ""),
            file=sys.stderr,
        )
    exit_status = 130 if appending.interrupted else 1 if appending.error else 0
    return Answer(document, Text(), exit_status, plain=None if arguments.json else "")


def _print(piece: Piece) -> None:
    write_text(str(piece))


def _zones(ns: Namespace, first: int, *, roll: bool) -> Iterator[Zone]:
    yield ns.zones[first]
    if roll:
        yield from (zone for zone in ns.zones[first + 1 :] if zone.zs is ZoneState.EMPTY)


def _check_length(ns: Namespace, zones: list[Zone], fd: int, *, pad: bool) -> None:
    """Refuse what cannot be appended whole, as far as that is known before it was read: of a file."""
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        return
    len_bytes = max(os.fstat(fd).st_size - os.lseek(fd, 0, os.SEEK_CUR), 0)
    if len_bytes % ns.lba_size and not pad:
        raise CommandLineError(
            f"{len_bytes} bytes are no whole blocks of {ns.lba_size}: --pad fills the last with zeroes"
        )
    nlb, room = -(-len_bytes // ns.lba_size), sum(zone.room for zone in zones)
    if nlb > room:
        zone = zones[0]
        others = f" and {plural(len(zones) - 1, 'empty one')} after it have" if zones[1:] else " has"
        raise CommandLineError(
            f"{nlb} blocks to append: zone {zone.index} ({state_name(zone.zs)}){others} room for {room}"
        )
