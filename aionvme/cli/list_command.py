"""``aionvme list``: the NVMe namespaces of this machine, from sysfs alone; nothing is opened."""

import argparse
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.text import Text

from aionvme import devices
from aionvme.cli.arguments import add_form
from aionvme.cli.render import Answer, columns, sections, size
from aionvme.devices import GenericDevice, attribute_text

SECTOR_BYTES = 512
"""The unit of ``size`` in sysfs, whatever the logical block is."""


@dataclass(frozen=True)
class Listed:
    """A namespace; None stands for what sysfs does not show, and ``notes`` say why, and who may not open it."""

    path: str
    controller: str
    model: str | None
    serial: str | None
    size_bytes: int | None
    lba_size: int | None
    zoned: bool | None
    notes: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_form(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    found = [_look(device) for device in devices.generic_devices()]
    document = {"namespaces": [asdict(listed) for listed in found]}
    if not found:
        return Answer(
            document,
            Text(
                "This machine has no NVMe namespace (no /dev/ngXnY).\n"
                "An emulated one needs no device: aionvme info emu:zns\n"
                "If there should be one: aionvme doctor"
            ),
        )
    table = columns(
        ("namespace", "controller", "model", "serial", ">size", ">block", "kind"),
        ((listed.path, listed.controller, *_cells(listed)) for listed in found),
    )
    notes = [Text(f"{listed.path}: {note}", "yellow") for listed in found for note in listed.notes]
    return Answer(document, sections(table, Text("\n").join(notes)) if notes else table)


def _look(device: GenericDevice) -> Listed:
    controller = devices.SYSFS / "class/nvme" / device.controller.name
    block = devices.SYSFS / "class/block" / device.block_name
    sectors = attribute_text(block / "size")
    zoned = attribute_text(block / "queue/zoned")
    model, serial = attribute_text(controller / "model"), attribute_text(controller / "serial")
    notes = [*_access(device.path), *_access(device.controller)]
    if sectors is None:
        notes.append(f"no block device {device.block_name} beside it: size and blocks are not to be seen in sysfs")
    if model is None or serial is None:
        notes.append(f"{controller} shows no model or serial number")
    return Listed(
        path=str(device.path),
        controller=str(device.controller),
        model=model,
        serial=serial,
        size_bytes=None if sectors is None else int(sectors) * SECTOR_BYTES,
        lba_size=device.queue_limit("logical_block_size"),
        zoned=None if zoned is None else zoned != "none",
        notes=notes,
    )


def _access(path: Path) -> list[str]:
    if not path.exists():
        return [f"there is no device node {path}"]
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        return [f"this user may not open {path} for reading and writing"]
    return []


def _cells(listed: Listed) -> tuple[str, ...]:
    unknown = "?"
    return (
        listed.model or unknown,
        listed.serial or unknown,
        unknown if listed.size_bytes is None else size(listed.size_bytes),
        unknown if listed.lba_size is None else str(listed.lba_size),
        unknown if listed.zoned is None else "zoned" if listed.zoned else "conventional",
    )
