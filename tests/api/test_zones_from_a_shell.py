"""The command line's way to zones, on whatever device there is: what one command leaves, the next one finds."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Place

BLOCK = 4096
ZONE = 1024  # blocks: 4 MiB
CAPACITY = 768  # blocks: 3 MiB


@pytest.fixture
def target(place: Place, tmp_path: Path) -> str:
    """The zoned namespace, kept between commands, with every zone empty."""
    target = f"{place.zns}&file={tmp_path}/image" if place.queue == "emulated" else place.zns
    command("reset", target, "--all", "--yes")
    return target


def command(*arguments: str, stdin: bytes = b"", status: int = 0) -> bytes:
    """What a command puts out."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "aionvme", *arguments], input=stdin, capture_output=True, timeout=60
    )
    assert done.returncode == status, done.stderr
    return done.stdout


def document(*arguments: str, **options: Any) -> Any:
    """The same as JSON."""
    return json.loads(command(*arguments, "--json", **options))


def test_append_and_read(target: str) -> None:
    """A stream that fills one zone and begins the next comes back from where the device says that it is."""
    data = random.Random(1).randbytes((CAPACITY + 40) * BLOCK)
    appended = document("append", target, "--zone", "3", "--roll", stdin=data)
    assert appended["error"] is None
    blocks = sorted(lba + k for lba, nlb in _places(appended) for k in range(nlb))
    assert blocks == [*range(3 * ZONE, 3 * ZONE + CAPACITY), *range(4 * ZONE, 4 * ZONE + 40)]
    stored: dict[int, bytes] = {}
    for zone, nlb in ((3, CAPACITY), (4, 40)):
        read = command("read", target, "--lba", hex(zone * ZONE), "--blocks", str(nlb))
        stored |= {zone * ZONE + k: read[k * BLOCK : (k + 1) * BLOCK] for k in range(nlb)}
    assert b"".join(stored[lba + k] for lba, nlb in _places(appended) for k in range(nlb)) == data
    zones = document("report", target, "--from", "2", "--count", "3")
    assert [(zone["zs"] == "FULL", zone["written"]) for zone in zones] == [(False, 0), (True, CAPACITY), (False, 40)]


def test_management(target: str) -> None:
    """Zones are opened, finished and made empty again, the last with --yes only; the report and the map agree with that."""
    (change,) = document("open", target, "--zone", "7")["changed"]
    assert (change["zslba"], change["zs"]) == (7 * ZONE, {"before": "EMPTY", "after": "EXPLICITLY_OPENED"})
    command("finish", target, "--zone", "7", status=2)
    assert [change["zone"] for change in document("finish", target, "--zone", "7", "9", "--yes")["changed"]] == [7, 9]
    full = document("report", target, "--state", "full")
    assert [(zone["zone"], zone["wp"], zone["written"]) for zone in full] == [
        (7, None, CAPACITY),
        (9, None, CAPACITY),
    ]
    zones = document("zones", target)
    assert (zones["states"], zones["mor"], zones["mar"], zones["active"]) == ({"EMPTY": 30, "FULL": 2}, 6, 8, 0)
    command("reset", target, "--all", status=2)
    assert len(document("reset", target, "--all", "--yes")["changed"]) == 2
    assert document("close", target, "--zone", "7", status=1)["changed"] == []


def test_extensions(place: Place) -> None:
    """Where the zones have descriptor extensions, an extended report can be asked for; a zone without one has none to show."""
    zones = document("report", place.zns_zrwa, "--extended", "--count", "1")
    assert len(zones) == 1
    assert "extension" in zones[0]


def _places(appended: dict[str, Any]) -> list[tuple[int, int]]:
    return [(piece["lba"], piece["nlb"]) for piece in appended["appends"]]
