"""How zones look in a notebook: one table, which needs nothing but HTML."""

from collections.abc import Iterable
from html import escape
from itertools import islice
from typing import NamedTuple

from aionvme.nvme.opcodes import ZoneAttributes, ZoneState
from aionvme.zones.record import Record

ROWS = 64
"""Most zones that a table shows."""

HEADINGS = ("zslba", "state", "wp", "written", "zcap", "attributes")


class ZoneRow(NamedTuple):
    """A zone as a table has it; ``wp`` is None where the state has no write pointer."""

    zslba: int
    zs: int
    wp: int | None
    written: int
    zcap: int
    za: int


def state_name(zs: int) -> str:
    """A zone state as the specification writes it, but for the capitals; one that it does not know as a number."""
    try:
        return ZoneState(zs).name.replace("_", " ").lower()
    except ValueError:
        return f"{zs:#x}"


def attribute_names(za: int) -> list[str]:
    """The zone attributes that are set."""
    return [str(flag.name) for flag in ZoneAttributes(za)]


def zone_table(caption: str, rows: Iterable[ZoneRow | Record], left_out: str = "") -> str:
    """A table of at most ROWS zones; ``left_out`` says which are not in it."""
    head = "".join(f"<th>{heading}</th>" for heading in HEADINGS)
    body = "".join(f"<tr>{_cells(row)}</tr>" for row in islice(rows, ROWS))
    note = f"<p>{escape(left_out)}</p>" if left_out else ""
    return (
        f"<table><caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"
    )


def _cells(row: ZoneRow | Record) -> str:
    if isinstance(row, Record) and not row.known:
        return f'<td>{row.zslba:#x}</td><td colspan="{len(HEADINGS) - 1}">in doubt</td>'
    cells = (
        f"{row.zslba:#x}",
        escape(state_name(row.zs)),
        "" if row.wp is None else f"{row.wp:#x}",
        f'<meter max="{row.zcap}" value="{row.written}"></meter> {row.written}',
        f"{row.zcap}",
        escape(", ".join(attribute_names(row.za)).replace("_", " ").lower()),
    )
    return "".join(f"<td>{cell}</td>" for cell in cells)
