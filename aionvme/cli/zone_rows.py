"""Zones of a namespace as commands show them: the rows of a report, as documents have them, and what became of them."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from aionvme.cli import CommandLineError
from aionvme.cli.render import plural
from aionvme.namespace import Namespace
from aionvme.zones.display import ZoneRow, attribute_names, state_name
from aionvme.zones.report import zone_rows


class Change(NamedTuple):
    """A zone that is not what it was."""

    zone: int
    before: ZoneRow
    after: ZoneRow

    def __str__(self) -> str:
        states = [state_name(row.zs) for row in (self.before, self.after)]
        more = self.after.written - self.before.written
        blocks = f", {plural(abs(more), 'block')} {'more' if more > 0 else 'less'}" if more else ""
        return f"zone {self.zone}: {' -> '.join(dict.fromkeys(states))}{blocks}"

    def document(self) -> dict[str, Any]:
        """It in JSON."""
        return {
            "zone": self.zone,
            "zslba": self.after.zslba,
            "zs": {"before": zs_word(self.before.zs), "after": zs_word(self.after.zs)},
            "written": {"before": self.before.written, "after": self.after.written},
        }


async def all_zones(ns: Namespace) -> list[ZoneRow]:
    """A report of them."""
    return zone_rows(await ns.report_zones())


def changes(before: Sequence[ZoneRow], after: Sequence[ZoneRow]) -> list[Change]:
    """The zones that differ between two reports of all of them."""
    return [
        Change(zone, was, now)
        for zone, (was, now) in enumerate(zip(before, after, strict=True))
        if (was.zs, was.written) != (now.zs, now.written)
    ]


def check_numbers(ns: Namespace, zones: Iterable[int]) -> None:
    """Refuse numbers of zones that there are not."""
    for zone in zones:
        if zone >= ns.nr_zones:
            raise CommandLineError(f"zone {zone}: {ns.target} has {ns.nr_zones}, counted from 0")


def entry(row: ZoneRow, zsze: int) -> dict[str, Any]:
    """A zone in JSON; ``wp`` is null where the state has no write pointer."""
    return {
        "zone": row.zslba // zsze,
        "zslba": row.zslba,
        "zs": zs_word(row.zs),
        "wp": row.wp,
        "written": row.written,
        "zcap": row.zcap,
        "za": attribute_names(row.za),
    }


def zs_word(zs: int) -> str:
    """A state as documents have it."""
    return state_name(zs).replace(" ", "_").upper()
