"""``aionvme report``: the zone report as a table, JSON or CSV, with the zones' descriptor extensions where they are asked for."""

import argparse
import asyncio
import csv
import io
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.text import Text

from aionvme.cli import CommandLineError
from aionvme.cli.arguments import add_form, add_target, count, zone_number
from aionvme.cli.render import Answer, columns, plural, state_style
from aionvme.cli.zone_rows import check_numbers, entry
from aionvme.errors import nvme_error
from aionvme.namespace import Namespace
from aionvme.nvme.opcodes import ReportingOptions, ZoneAttributes, ZoneReceiveAction
from aionvme.nvme.zoned import zone_management_receive
from aionvme.nvme.zones import REPORT_HEADER_LEN_BYTES, ZONE_DESCRIPTOR_LEN_BYTES, parse_extended_report
from aionvme.opening import open_namespace
from aionvme.zones.display import ZoneRow, state_name
from aionvme.zones.report import zone_rows

STATES = {
    option.name.lower().replace("_", "-"): option for option in ReportingOptions if option is not ReportingOptions.ALL
}

FIELDS = ("zone", "zslba", "zs", "wp", "written", "zcap", "za", "zt", "zai")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_target(parser)
    add_form(parser, csv="print a row for each zone, separated by commas")
    parser.add_argument("--zone", type=zone_number, metavar="N", help="only this zone")
    parser.add_argument("--from", dest="first", type=zone_number, metavar="N", help="the zones from this one on")
    parser.add_argument("--count", type=count, metavar="N", help="at most so many")
    parser.add_argument("--state", choices=STATES, help="only those in this state")
    parser.add_argument("--extended", action="store_true", help="with the zones' descriptor extensions")


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    if arguments.zone is not None and (arguments.first, arguments.count, arguments.state) != (None, None, None):
        raise CommandLineError("--zone names one zone: leave out --from, --count and --state")
    return asyncio.run(_report(arguments))


async def _report(arguments: argparse.Namespace) -> Answer:
    first, most = (arguments.first or 0, arguments.count) if arguments.zone is None else (arguments.zone, 1)
    async with open_namespace(arguments.target, readonly=True) as ns:
        check_numbers(ns, [first])
        if arguments.extended and not _extension_bytes(ns):
            raise CommandLineError(f"--extended: the zones of {ns.target} have no descriptor extensions (zdes is 0)")
        options = STATES.get(arguments.state, ReportingOptions.ALL)
        report = await ns.report_zones(first * ns.zsze, nr_zones=most, options=options)
        rows = zone_rows(report)
        document = [
            entry(row, ns.zsze) | {"zt": zt, "zai": zai}
            for row, zt, zai in zip(rows, report["zt"].tolist(), report["zai"].tolist(), strict=True)
        ]
        if arguments.extended:
            for described, row in zip(document, rows, strict=True):
                described["extension"] = await _extension(ns, row)
    return Answer(document, _page(document, rows), plain=_csv(document, arguments) if arguments.csv else None)


def _extension_bytes(ns: Namespace) -> int:
    return ns.identify_zoned.zdes_bytes if ns.identify_zoned else 0


async def _extension(ns: Namespace, row: ZoneRow) -> str | None:
    """A zone's descriptor extension in hexadecimal, None where it has none that is valid (section 3.4.2.2.3)."""
    if not row.za & ZoneAttributes.DESCRIPTOR_EXTENSION_VALID:
        return None
    zdes_bytes = _extension_bytes(ns)
    buffer = np.zeros(REPORT_HEADER_LEN_BYTES + ZONE_DESCRIPTOR_LEN_BYTES + zdes_bytes, np.uint8)
    action = ZoneReceiveAction.EXTENDED_REPORT_ZONES
    done = await ns.submit(zone_management_receive(action, row.zslba, buffer.size, partial=True), into=buffer)
    if done.status:
        raise nvme_error(done.status, f"extended report of the zone at LBA {row.zslba:#x} on {ns.target}")
    _, _, extensions = parse_extended_report(buffer, zdes_bytes)
    return bytes(extensions[0]).hex()


def _csv(document: list[dict[str, Any]], arguments: argparse.Namespace) -> str:
    text = io.StringIO()
    fields = [*FIELDS, "extension"] if arguments.extended else FIELDS
    writer = csv.DictWriter(text, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(each | {"za": " ".join(each["za"])} for each in document)
    return text.getvalue()


def _page(document: list[dict[str, Any]], rows: list[ZoneRow]) -> RenderableType:
    extended = any(each.get("extension") for each in document)
    headings = (
        ">zone",
        ">zslba",
        "state",
        ">wp",
        ">written",
        ">zcap",
        "attributes",
        *(["extension"] if extended else []),
    )
    table = columns(headings, (_cells(each, row)[: len(headings)] for each, row in zip(document, rows, strict=True)))
    return Group(table, Text(plural(len(rows), "zone"), "dim")) if rows else Text("no zone is in that state")


def _cells(each: dict[str, Any], row: ZoneRow) -> tuple[str | Text, ...]:
    return (
        str(each["zone"]),
        f"{row.zslba:#x}",
        Text(state_name(row.zs), state_style(row.zs)),
        "-" if row.wp is None else f"{row.wp:#x}",
        str(row.written),
        str(row.zcap),
        ", ".join(each["za"]).replace("_", " ").lower(),
        each.get("extension") or "",
    )
