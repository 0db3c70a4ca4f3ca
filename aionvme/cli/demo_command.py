"""``aionvme demo``: many tasks append to an emulated zoned namespace at once, and everything is verified.

Exit status 1 where the verification fails.
"""

import argparse
import asyncio
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.text import Text

from aionvme.cli.arguments import add_form
from aionvme.cli.demonstration import Append, Demonstration, Refusal, demonstrate
from aionvme.cli.render import Answer, MapRow, columns, facts, plural, section, sections, size, zone_map
from aionvme.nvme.opcodes import ZoneState

SAMPLE = 10
"""Appends of the sample: the first ones to one zone."""

SAMPLE_ZONE = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_form(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    result = asyncio.run(demonstrate())
    document = asdict(result) | {"verified": not result.problems}
    page = sections(
        _opening(result),
        section("Where the device put them", _sample(result)),
        section("Zones", zone_map([MapRow(z.zslba, ZoneState[z.zs], z.fill, z.zcap) for z in result.zones])),
        section("A conventional namespace", _transfer(result)),
        *([section("An error, explained", _refusal(result.refusal))] if result.refusal else []),
        _conclusion(result),
    )
    return Answer(document, page, exit_status=1 if result.problems else 0)


def _opening(result: Demonstration) -> RenderableType:
    what = f"{result.tasks} tasks, {len(result.appends)} appends, {size(_appended(result))}"
    return Group(
        Text(what, "bold"),
        Text("in an emulated zoned namespace: no device, no rights and no io_uring are needed", "dim"),
        Text(f"at most {result.mar} zones active and {result.mor} open, latency from 60 to 600 us", "dim"),
    )


def _sample(result: Demonstration) -> RenderableType:
    zslba = result.zones[SAMPLE_ZONE].zslba
    there = [append for append in result.appends if append.zslba == zslba]
    sample = there[:SAMPLE]
    landed = {append: place for place, append in enumerate(sorted(sample, key=lambda append: append.lba), 1)}
    table = columns(
        (">submitted", ">task", ">record", ">blocks", ">LBA returned", ">landed"),
        (_sample_row(place, append, landed[append]) for place, append in enumerate(sample, 1)),
    )
    return Group(
        Text(f"the first {len(sample)} of {len(there)} appends to the zone at LBA {zslba:#x}", "dim"),
        table,
        Text(f"{result.overtaken} of all {len(result.appends)} landed behind one that was submitted later", "dim"),
    )


def _sample_row(place: int, append: Append, landed: int) -> tuple[str | Text, ...]:
    style = "" if landed == place else "yellow"
    return (
        _ordinal(place),
        str(append.task),
        str(append.record),
        str(append.nlb),
        Text(f"{append.lba:#x}", "cyan"),
        Text(_ordinal(landed), style),
    )


def _transfer(result: Demonstration) -> Text:
    transfer = result.transfer
    return Text(
        f"{size(transfer.len_bytes)} written and read back at LBA {transfer.slba:#x}: {plural(transfer.nlb, 'block')}, "
        f"each way in {plural(transfer.commands, 'command')} at once"
    )


def _refusal(refusal: Refusal) -> RenderableType:
    generic = refusal.sct_name.replace("_", " ").lower()
    return facts(
        [
            ("tried", refusal.attempt),
            ("raised", Text(f"{refusal.raised}: {refusal.name}", "yellow")),
            ("status", f"SCT {refusal.sct:#x} ({generic}), SC {refusal.sc:#04x}"),
            ("DNR", "1, do not retry: it would fail again" if refusal.dnr else "0, it may be retried"),
            ("instead", refusal.remedy),
        ]
    )


def _conclusion(result: Demonstration) -> RenderableType:
    if result.problems:
        return Group(
            *(Text(problem, "red") for problem in result.problems),
            Text(f"Not verified: {plural(len(result.problems), 'problem')}.", "bold red"),
        )
    return Text(
        f"All {len(result.appends)} appends and {size(_appended(result) + result.transfer.len_bytes)} verified, "
        f"in {result.seconds:.2f} s.",
        "bold green",
    )


def _appended(result: Demonstration) -> int:
    return sum(append.nlb for append in result.appends) * result.lba_size


def _ordinal(number: int) -> str:
    suffix = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
