"""The demo says what it did, and it is true."""

import json
from typing import Any

import numpy as np
import pytest

from aionvme.cli import main
from aionvme.namespace import Namespace

ZSZE = 256
ZCAP = 192


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """One run's JSON."""
    import contextlib
    import io

    with contextlib.redirect_stdout(io.StringIO()) as stdout:
        assert main(["demo", "--json"]) == 0
    parsed: dict[str, Any] = json.loads(stdout.getvalue())
    return parsed


def test_appended_blocks_are_disjoint_and_in_their_zones(document: dict[str, Any]) -> None:
    """No two records share a block, and each is inside of the capacity of the zone it was appended to."""
    blocks: set[int] = set()
    for append in document["appends"]:
        lbas = set(range(append["lba"], append["lba"] + append["nlb"]))
        assert not lbas & blocks
        assert append["zslba"] <= min(lbas)
        assert max(lbas) < append["zslba"] + ZCAP
        blocks |= lbas
    assert len({append["lba"] for append in document["appends"]}) == len(document["appends"])


def test_fills_add_up(document: dict[str, Any]) -> None:
    """What the zone report shows as written is what was appended, in each zone and altogether."""
    appended = dict.fromkeys((zone["zslba"] for zone in document["zones"]), 0)
    for append in document["appends"]:
        appended[append["zslba"]] += append["nlb"]
    assert {zone["zslba"]: zone["fill"] for zone in document["zones"]} == appended
    assert sum(appended.values()) > 0


def test_tasks_and_orders(document: dict[str, Any]) -> None:
    """64 tasks took part, and every append has its own place in the order of submission."""
    assert {append["task"] for append in document["appends"]} == set(range(64)) == set(range(document["tasks"]))
    assert [append["order"] for append in document["appends"]] == list(range(1, len(document["appends"]) + 1))


def test_appends_overtook_each_other(document: dict[str, Any]) -> None:
    """The device did not keep the order of submission; the count is that of appends with a later one in front of them."""
    appends = document["appends"]
    overtaken = sum(
        any(later["zslba"] == append["zslba"] and later["lba"] < append["lba"] for later in appends[place:])
        for place, append in enumerate(appends, 1)
    )
    assert document["overtaken"] == overtaken > 0


def test_limits_are_at_work(document: dict[str, Any]) -> None:
    """More zones were written than may be open: one is full, the device closed others, and no limit is exceeded."""
    states = [zone["zs"] for zone in document["zones"]]
    is_open = [zs in ("IMPLICITLY_OPENED", "EXPLICITLY_OPENED") for zs in states]
    assert {"FULL", "CLOSED", "EXPLICITLY_OPENED", "EMPTY"} <= set(states)
    assert sum(is_open) <= document["mor"]
    assert sum(is_open) + states.count("CLOSED") <= document["mar"]


def test_the_error_is_the_one_provoked(document: dict[str, Any]) -> None:
    """The refused write is explained by the specification's name and numbers: Zone Invalid Write is 1h/BCh."""
    refusal = document["refusal"]
    assert (refusal["name"], refusal["sct"], refusal["sc"]) == ("Zone Invalid Write", 0x1, 0xBC)
    assert refusal["dnr"] == bool(refusal["status"] >> 14)
    assert "zone_append" in refusal["remedy"]


def test_conventional_transfer(document: dict[str, Any]) -> None:
    """The conventional namespace's write was longer than one command."""
    transfer = document["transfer"]
    assert transfer["commands"] > 1
    assert transfer["nlb"] * 512 == transfer["len_bytes"]


def test_page(capsys: pytest.CaptureFixture[str]) -> None:
    """The page has the map, the sample, the explanation and, last, that all was verified."""
    assert main(["demo"]) == 0
    page = capsys.readouterr().out
    for part in ("LBA returned", "0xb00", "implicitly opened", "ZoneInvalidWriteError", "SC 0xbc", "do not retry"):
        assert part in page
    assert page.splitlines()[-1].startswith("All 384 appends and ")
    assert " verified" in page.splitlines()[-1]


def test_wrong_data_is_noticed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One flipped bit in what is read back fails the verification, and the exit status says so."""
    honest = Namespace.read

    async def read(self: Namespace, slba: int, nlb: int, **options: Any) -> Any:
        data = np.array(await honest(self, slba, nlb, **options))
        if slba == 0:
            data[-1] ^= 1
        return data

    monkeypatch.setattr(Namespace, "read", read)
    assert main(["demo"]) == 1
    page = capsys.readouterr().out
    assert "LBA 0x0 holds something else" in page
    assert page.splitlines()[-1] == "Not verified: 1 problem."


def test_misplaced_records_are_noticed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An append that always returns 0 is not believed."""

    async def zone_append(self: Namespace, zslba: int, data: bytes, **options: Any) -> int:
        await honest(self, zslba, data, **options)
        return 0

    honest = Namespace.zone_append
    monkeypatch.setattr(Namespace, "zone_append", zone_append)
    assert main(["demo", "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["verified"] is False
    assert any("gap or overlap" in problem for problem in document["problems"])
