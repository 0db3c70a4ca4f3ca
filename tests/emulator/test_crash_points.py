"""A device in a file, stopped at each single write that it makes to the file.

A signal stops a process between two system calls, or within one that crosses a page; here the exception that stands for it
comes from exactly there, at every place there is, so that the order in which things are stored does not depend on luck.
"""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from aionvme.emulator import Device, parse_spec
from aionvme.emulator.media import FileMedia
from aionvme.nvme import zoned
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import ZoneSendAction

from .host import run
from .ledger import SPEC, ZONES, ZSZE, Zone, apply, blocks, stored

Open = Callable[[str], Device]
ACTIONS = {"r": ZoneSendAction.RESET, "f": ZoneSendAction.FINISH, "c": ZoneSendAction.CLOSE}
PAGE = 4096
_write = FileMedia.write


class StoppedError(BaseException):
    """The process is gone; nothing in the library catches this."""


def stop_at(monkeypatch: pytest.MonkeyPatch, count: int, *, within: bool) -> None:
    """Stop before write number ``count``, or within it where it is longer than a page."""
    left = count

    def write(self: FileMedia, offset: int, data: bytes | memoryview) -> None:
        nonlocal left
        if left == 0:
            if within and len(data) > PAGE:
                _write(self, offset, data[: len(data) // 2 // PAGE * PAGE])
            raise StoppedError
        left -= 1
        _write(self, offset, data)

    monkeypatch.setattr(FileMedia, "write", write)


def operations(seed: int) -> list[tuple[str, int, int, int]]:
    """Kind, zone, number of blocks and tag of sixty operations."""
    source = random.Random(seed)
    return [
        (source.choice("aaaaaaaaarfc"), source.randrange(ZONES), source.randrange(1, 25), tag) for tag in range(1, 61)
    ]


def carry_out(spec: str, zones: list[Zone], seed: int) -> tuple[int, Zone] | None:
    """Carry the operations out and note in ``zones`` what was acknowledged; the one under way when it was stopped."""
    under_way: tuple[int, Zone] | None = None
    device = None
    try:
        device = Device(parse_spec(spec))
        for kind, zone, nlb, tag in operations(seed):
            under_way = zone, apply(zones[zone], kind, nlb, tag)
            command: Command = (
                zoned.zone_append(zone * ZSZE, nlb)
                if kind == "a"
                else zoned.zone_management_send(ACTIONS[kind], zone * ZSZE)
            )
            if run(device, command, blocks(nlb, tag) if kind == "a" else b"").status == 0:
                zones[zone] = under_way[1]
            under_way = None
    except StoppedError:
        return under_way
    finally:
        if device is not None:
            device.close()
    raise AssertionError("the operations were all carried out")


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("seed", [1, 2])
def test_stopped_at_each_write(
    open_device: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, within: bool
) -> None:
    """Everything acknowledged is there; the operation under way is there as a whole or not at all."""
    spec = f"{SPEC}{tmp_path}/image"
    for count in range(70):
        (tmp_path / "image").unlink(missing_ok=True)
        zones: list[Zone] = [(False, ())] * ZONES
        with monkeypatch.context() as patch:
            stop_at(patch, count, within=within)
            under_way = carry_out(spec, zones, seed)
        device = open_device(spec)
        found = stored(device)
        device.close()
        perhaps = list(zones)
        if under_way is not None:
            perhaps[under_way[0]] = under_way[1]
        assert found in (zones, perhaps)
