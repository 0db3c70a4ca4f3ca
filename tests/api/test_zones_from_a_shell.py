"""The command line's way to zones, on whatever device there is: what one command leaves, the next one finds."""

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import pytest

import aionvme
from aionvme.cli import main
from aionvme.nvme.opcodes import ZoneSendAction
from aionvme.nvme.zoned import zone_management_send
from tests.conftest import Place

BLOCK = 4096
ZONE = 1024  # blocks: 4 MiB
CAPACITY = 768  # blocks: 3 MiB


class Shell:
    """Commands one after the other, in this process: a guest takes seconds to start one."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, output: pytest.CaptureFixture[bytes]) -> None:
        self._stdin = folder / "stdin"
        self._monkeypatch = monkeypatch
        self._output = output

    def command(self, *arguments: str, stdin: bytes = b"", status: int = 0) -> bytes:
        """What a command puts out."""
        self._stdin.write_bytes(stdin)
        with self._stdin.open() as file:
            self._monkeypatch.setattr("sys.stdin", file)
            found = main(arguments)
        shown = self._output.readouterr()
        assert found == status, shown.err
        return shown.out

    def document(self, *arguments: str, stdin: bytes = b"", status: int = 0) -> Any:
        """The same as JSON."""
        return json.loads(self.command(*arguments, "--json", stdin=stdin, status=status))


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]) -> Shell:
    """Somewhere to type."""
    return Shell(tmp_path, monkeypatch, capsysbinary)


@pytest.fixture
def target(place: Place, tmp_path: Path, shell: Shell) -> str:
    """The zoned namespace, kept between commands, with every zone empty."""
    target = f"{place.zns}&file={tmp_path}/image" if place.queue == "emulated" else place.zns
    shell.command("reset", target, "--all", "--yes")
    return target


def test_append_and_read(target: str, shell: Shell) -> None:
    """A stream that fills one zone and begins the next comes back from where the device says that it is."""
    data = random.Random(1).randbytes((CAPACITY + 40) * BLOCK)
    appended = shell.document("append", target, "--zone", "3", "--roll", stdin=data)
    assert appended["error"] is None
    blocks = sorted(lba + k for lba, nlb in _places(appended) for k in range(nlb))
    assert blocks == [*range(3 * ZONE, 3 * ZONE + CAPACITY), *range(4 * ZONE, 4 * ZONE + 40)]
    stored: dict[int, bytes] = {}
    for zone, nlb in ((3, CAPACITY), (4, 40)):
        read = shell.command("read", target, "--lba", hex(zone * ZONE), "--blocks", str(nlb))
        stored |= {zone * ZONE + k: read[k * BLOCK : (k + 1) * BLOCK] for k in range(nlb)}
    assert b"".join(stored[lba + k] for lba, nlb in _places(appended) for k in range(nlb)) == data
    zones = shell.document("report", target, "--from", "2", "--count", "3")
    assert [(zone["zs"] == "FULL", zone["written"]) for zone in zones] == [(False, 0), (True, CAPACITY), (False, 40)]


def test_management(target: str, shell: Shell) -> None:
    """Zones are opened, finished and made empty again, the last with --yes only; the report and the map agree with that."""
    (change,) = shell.document("open", target, "--zone", "7")["changed"]
    assert (change["zslba"], change["zs"]) == (7 * ZONE, {"before": "EMPTY", "after": "EXPLICITLY_OPENED"})
    shell.command("finish", target, "--zone", "7", status=2)
    finished = shell.document("finish", target, "--zone", "7", "9", "--yes")
    assert [change["zone"] for change in finished["changed"]] == [7, 9]
    full = shell.document("report", target, "--state", "full")
    assert [(zone["zone"], zone["wp"], zone["written"]) for zone in full] == [
        (7, None, CAPACITY),
        (9, None, CAPACITY),
    ]
    zones = shell.document("zones", target)
    assert (zones["states"], zones["mor"], zones["mar"], zones["active"]) == ({"EMPTY": 30, "FULL": 2}, 6, 8, 0)
    shell.command("reset", target, "--all", status=2)
    assert len(shell.document("reset", target, "--all", "--yes")["changed"]) == 2
    assert shell.document("close", target, "--zone", "7", status=1)["changed"] == []


def test_extensions(place: Place, shell: Shell, tmp_path: Path) -> None:
    """An extended report shows the descriptor extension of the zone that has one, and of no other."""
    target = f"{place.zns_zrwa}&file={tmp_path}/image" if place.queue == "emulated" else place.zns_zrwa
    extension = bytes(range(100, 228))

    async def extend() -> None:
        async with aionvme.open(target) as ns:
            await ns.reset_zone(select_all=True)
            command = zone_management_send(ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION, ns.zsze)
            assert not (await ns.submit(command, extension)).status

    asyncio.run(extend())
    report = shell.document("report", target, "--extended", "--count", "3")
    assert [zone["extension"] for zone in report] == [None, extension.hex(), None]
    assert [zone["zs"] for zone in report] == ["EMPTY", "CLOSED", "EMPTY"]


def _places(appended: dict[str, Any]) -> list[tuple[int, int]]:
    return [(piece["lba"], piece["nlb"]) for piece in appended["appends"]]
