"""``aionvme smart``: the health of a controller, its firmware, and the errors that it remembers."""

import argparse
import asyncio
from typing import Any

from aionvme.cli.arguments import add_form, add_target
from aionvme.cli.health import KELVIN, health, health_rows
from aionvme.cli.render import Answer, columns, facts, section, sections
from aionvme.controller import Controller
from aionvme.nvme.logs import ErrorInformation
from aionvme.opening import open_controller

TARGET_HELP = "a controller's character device (/dev/nvme0), that of a namespace of it, or an emulated one ('emu:nvm')"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_form(parser)
    add_target(parser, help=TARGET_HELP)


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    document = asyncio.run(_ask(arguments.target))
    errors = document["errors"]
    page = sections(
        section("Controller", facts([("model (mn)", document["mn"]), ("serial (sn)", document["sn"])])),
        section("Health", facts([*health_rows(document["smart"]), *_sensor_rows(document["smart"])])),
        section("Firmware", facts(_firmware_rows(document["firmware"]))),
        *([section("Errors, newest first", columns(tuple(errors[0]), map(_cells, errors)))] if errors else []),
    )
    return Answer(document, page)


async def _ask(target: str) -> dict[str, Any]:
    async with open_controller(target) as controller:
        return {
            "target": controller.target,
            "mn": controller.identify.mn,
            "sn": controller.identify.sn,
            "smart": health(await controller.smart_log()),
            "firmware": await _firmware(controller),
            "errors": [_error(entry) for entry in await controller.error_information()],
        }


async def _firmware(controller: Controller) -> dict[str, Any]:
    slots = await controller.firmware_slots()
    revisions = {str(slot): revision for slot, revision in enumerate(slots.revisions, start=1) if revision}
    return {"active": slots.active, "next": slots.next, "revisions": revisions}


def _error(entry: ErrorInformation) -> dict[str, Any]:
    return {
        "error_count": entry.error_count,
        "status": entry.status.name,
        "nsid": entry.nsid,
        "lba": entry.lba,
        "sqid": entry.sqid,
        "cid": entry.cid,
    }


def _cells(error: dict[str, Any]) -> list[str]:
    return [str(value) for value in error.values()]


def _sensor_rows(smart: dict[str, Any]) -> list[tuple[str, Any]]:
    sensors = enumerate(smart["temperature_sensors"], start=1)
    return [(f"sensor {number}", f"{kelvin - KELVIN} C") for number, kelvin in sensors if kelvin]


def _firmware_rows(firmware: dict[str, Any]) -> list[tuple[str, Any]]:
    marks = {firmware["next"]: ", runs after the next reset", firmware["active"]: ", runs"}
    return [(f"slot {slot}", revision + marks.get(int(slot), "")) for slot, revision in firmware["revisions"].items()]
