"""``aionvme reset``, ``open``, ``close``, ``finish`` and ``offline``: zone management (Zone Management Send).

What would lose data, or capacity until the next reset, has to be confirmed, with ``--yes`` or on a terminal: exit status 2 where
it is not. Zones are changed one after the other, up to the first that the device refuses; exit status 1 then, and what was
changed is shown all the same.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from rich.console import RenderableType
from rich.text import Text

from aionvme.cli import CommandLineError
from aionvme.cli.arguments import add_force, add_form, add_target, zone_number
from aionvme.cli.render import Answer, columns, plural, size, state_style
from aionvme.cli.streams import readable
from aionvme.cli.zone_rows import Change, all_zones, changes, check_numbers
from aionvme.doctor import one_line
from aionvme.errors import NvmeError, UsageError
from aionvme.namespace import Namespace
from aionvme.nvme.opcodes import ZoneState
from aionvme.opening import open_namespace
from aionvme.zones.display import ZoneRow, state_name
from aionvme.zones.record import ACTIVE_STATES


class Loss(NamedTuple):
    """What an action takes: of zones in which states (and of all zones, with Select All, in which), how many blocks of one."""

    states: frozenset[ZoneState]
    of_all: frozenset[ZoneState]
    blocks: Callable[[ZoneRow], int]
    words: str


HOLDING = ACTIVE_STATES | {ZoneState.FULL}
READ_ONLY = frozenset({ZoneState.READ_ONLY})

LOSSES = {
    "reset": Loss(HOLDING, HOLDING, lambda zone: zone.written, "written in {} would be lost"),
    "finish": Loss(
        ACTIVE_STATES | {ZoneState.EMPTY},
        ACTIVE_STATES,
        lambda zone: zone.zcap - zone.written,
        "still free in {} could not be written until they are reset",
    ),
    "offline": Loss(READ_ONLY, READ_ONLY, lambda zone: zone.zcap, "of {} could not be read any more, for good"),
}
"""By the action; sections 2.1.1.4 (transitions) and 3.4.3.1 (Select All)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What each of them takes."""
    parser.usage = f"{parser.prog} TARGET (--zone N [N ...] | --all) [--yes] [--force] [--json]"
    add_target(parser)
    add_form(parser)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--zone", nargs="+", action="extend", type=zone_number, metavar="N", help="these zones, by their numbers"
    )
    which.add_argument("--all", action="store_true", help="every zone in a state for it, by one command")
    parser.add_argument("--yes", action="store_true", help="whatever is lost by it")
    add_force(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    return asyncio.run(_manage(arguments))


async def _manage(arguments: argparse.Namespace) -> Answer:
    name: str = arguments.command
    zones: list[int] | None = None if arguments.all else list(dict.fromkeys(arguments.zone))
    async with open_namespace(arguments.target, force=arguments.force) as ns:
        ns.check_writable()
        check_numbers(ns, zones or [])
        before = await all_zones(ns)
        loss = _loss(ns, name, before, zones)
        if loss and not arguments.yes:
            await _confirm(name, loss)
            ns.check_writable()  # again: the answer may have been long in coming
        error = await _carry_out(ns, name, zones)
        changed = changes(before, await all_zones(ns))
    document = {
        "target": arguments.target,
        "action": name,
        "zones": zones,
        "changed": [change.document() for change in changed],
        "error": error,
    }
    if error:
        print(f"aionvme: {error}", file=sys.stderr)
    return Answer(document, _page(changed), exit_status=1 if error else 0)


def _loss(ns: Namespace, name: str, rows: Sequence[ZoneRow], zones: Sequence[int] | None) -> str:
    """What would be lost, in words; none where nothing would."""
    if name not in LOSSES:
        return ""
    loss = LOSSES[name]
    chosen, states = (rows, loss.of_all) if zones is None else ([rows[zone] for zone in zones], loss.states)
    blocks = [loss.blocks(row) for row in chosen if row.zs in states and loss.blocks(row)]
    lost = sum(blocks)
    what = f"{plural(lost, 'block')} ({size(lost * ns.lba_size)}) "
    return what + loss.words.format(plural(len(blocks), "zone")) if lost else ""


async def _confirm(name: str, loss: str) -> None:
    """Ask on a terminal; raises UsageError unless the answer is yes, CommandLineError where there is nobody to ask."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        raise CommandLineError(f"{name}: {loss}: say so with --yes")
    print(f"{name}: {loss}. Go on? [y/N] ", end="", file=sys.stderr, flush=True)
    await readable(sys.stdin.fileno())
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise UsageError(f"{name}: nothing was done")


async def _carry_out(ns: Namespace, name: str, zones: Sequence[int] | None) -> str | None:
    """Do it, and give what the device refused, None where it did not."""
    command: Callable[..., Awaitable[None]] = getattr(ns, f"{name}_zone")
    left = list(zones or [])
    try:
        if zones is None:
            await command(select_all=True)
        while left:
            await command(left.pop(0) * ns.zsze)
    except NvmeError as error:
        return one_line(error) + (f"; not tried: zone {', '.join(map(str, left))}" if left else "")
    return None


def _page(changed: Sequence[Change]) -> RenderableType:
    if not changed:
        return Text("no zone has changed")
    return columns((">zone", ">zslba", "was", ">written", "is", ">written"), map(_cells, changed))


def _cells(change: Change) -> tuple[Any, ...]:
    return (str(change.zone), f"{change.after.zslba:#x}", *_side(change.before), *_side(change.after))


def _side(row: ZoneRow) -> tuple[Text, str]:
    return Text(state_name(row.zs), state_style(row.zs)), str(row.written)
