"""``aionvme zones``: a map of the zones, once or kept up to date.

Watching needs a terminal: exit status 2 without one.
"""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple, NoReturn

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from aionvme.cli import CommandLineError
from aionvme.cli.arguments import add_form, add_target, seconds
from aionvme.cli.render import Answer, MapRow, facts, plural, section, sections, size
from aionvme.cli.zone_map import ZoneMap
from aionvme.cli.zone_rows import Change, all_zones, changes, entry, zs_word
from aionvme.namespace import Namespace
from aionvme.opening import open_namespace
from aionvme.zones.display import ZoneRow, state_name
from aionvme.zones.record import ACTIVE_STATES, OPEN_STATES

OTHER_LINES = 8
"""Lines of the page that are not the map, the shell's prompt among them."""

CHANGES_SHOWN = 4

WATCH_LINES = CHANGES_SHOWN + 2
"""Lines that a watched page has more."""


class Look(NamedTuple):
    """What was seen."""

    ns: Namespace
    zones: Sequence[ZoneRow]

    def count(self, states: frozenset[Any]) -> int:
        """How many zones are in one of the states."""
        return sum(zone.zs in states for zone in self.zones)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.usage = "aionvme zones TARGET [--json | --watch [SECONDS]]"
    add_target(parser)
    add_form(parser).add_argument(
        "--watch",
        nargs="?",
        type=seconds,
        const=1.0,
        metavar="SECONDS",
        help="look again and again, until Ctrl-C, and say what has changed; every second unless it says otherwise",
    )


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    if arguments.watch is not None and (sys.stdout is None or not sys.stdout.isatty()):
        raise CommandLineError("--watch needs a terminal to draw on: without it, the zones are shown once")
    return asyncio.run(_answer(arguments.target, arguments.watch))


async def _answer(target: str, every: float | None) -> Answer:
    async with open_namespace(target, readonly=True) as ns:
        if every is not None:
            await watch(ns, Console(highlight=False), every)
        look = Look(ns, await all_zones(ns))
        return Answer(_document(look), _page(look, OTHER_LINES))


async def watch(ns: Namespace, console: Console, every: float) -> NoReturn:
    """Show the zones and what has become of them, until it is cancelled."""
    zones = await all_zones(ns)
    news: list[Change] = []
    with Live(console=console, auto_refresh=False) as live:
        while True:
            page = _page(Look(ns, zones), OTHER_LINES + WATCH_LINES)
            live.update(Group(page, Text(), _news(news, every)), refresh=True)
            await asyncio.sleep(every)
            before, zones = zones, await all_zones(ns)
            news = changes(before, zones)


def _document(look: Look) -> dict[str, Any]:
    ns, states = look.ns, Counter(zs_word(zone.zs) for zone in look.zones)
    return {
        "target": ns.target,
        "lba_size": ns.lba_size,
        "zsze": ns.zsze,
        "nr_zones": ns.nr_zones,
        "mar": ns.mar,
        "mor": ns.mor,
        "active": look.count(ACTIVE_STATES),
        "open": look.count(OPEN_STATES),
        "written": sum(zone.written for zone in look.zones),
        "capacity": sum(zone.zcap for zone in look.zones),
        "states": dict(states),
        "zones": [entry(zone, ns.zsze) for zone in look.zones],
    }


def _page(look: Look, other_lines: int) -> RenderableType:
    rows = [MapRow(zone.zslba, zone.zs, zone.written, zone.zcap) for zone in look.zones]
    return sections(section(f"Zones of {look.ns.target}", ZoneMap(rows, other_lines)), facts(_facts(look)))


def _facts(look: Look) -> list[tuple[str, str]]:
    ns, zones = look.ns, look.zones
    written, capacity = (sum(each) * ns.lba_size for each in zip(*((z.written, z.zcap) for z in zones), strict=True))
    states = Counter(zone.zs for zone in zones)
    return [
        ("zones", f"{len(zones)}, {plural(ns.zsze, 'block')} each ({size(ns.zsze * ns.lba_size)})"),
        ("states", ", ".join(f"{count} {state_name(zs)}" for zs, count in sorted(states.items()))),
        ("open", _of(look.count(OPEN_STATES), ns.mor, "mor")),
        ("active", _of(look.count(ACTIVE_STATES), ns.mar, "mar")),
        ("written", f"{size(written)} of {size(capacity)}"),
    ]


def _of(count: int, most: int | None, name: str) -> str:
    return f"{count}, no limit ({name})" if most is None else f"{count} of at most {most} ({name})"


def _news(news: Sequence[Change], every: float) -> RenderableType:
    lines = [Text(str(change), no_wrap=True, overflow="ellipsis") for change in news[:CHANGES_SHOWN]]
    if len(news) > CHANGES_SHOWN:
        lines[-1] = Text(f"and {len(news) - CHANGES_SHOWN + 1} zones more")
    elif not news:
        lines = [Text("nothing has changed since the last look", "dim")]
    return Group(*lines, Text(f"seen at {datetime.now():%H:%M:%S}, every {every:g} s until Ctrl-C", "dim"))
