"""The map and the report say what the zones are; management changes what it is told to, and nothing is lost unasked."""

import asyncio
import csv
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import aionvme
from aionvme.cli import main, manage_command
from aionvme.cli.zone_map import level
from aionvme.cli.zones_command import watch
from aionvme.emulator import Device, parse_spec
from aionvme.emulator.zone_states import Event
from aionvme.guard import Guard
from aionvme.nvme.opcodes import ZoneSendAction
from aionvme.nvme.zoned import zone_management_send
from tests.cli.conftest import Run, on_terminal
from tests.emulator.host import strike

BLOCK = 4096


@pytest.fixture
def zns(tmp_path: Path) -> str:
    """Zones of 16 blocks, 12 of which can be written: 1 has 4, 2 is full, 3 is closed with 1, and has a descriptor extension."""
    target = f"emu:zns?zones=8&zone_size=64KiB&zone_capacity=48KiB&mor=2&mar=4&zdes=64&file={tmp_path}/image"

    async def fill() -> None:
        async with aionvme.open(target) as ns:
            await ns.zone_append(16, bytes(4 * BLOCK))
            await ns.finish_zone(32)
            command = zone_management_send(ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION, 48)
            assert not (await ns.submit(command, bytes(range(64)))).status
            await ns.zone_append(48, bytes(BLOCK))

    asyncio.run(fill())
    return target


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> Any:
    """The document a command prints."""
    assert main([*arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def states(capsys: pytest.CaptureFixture[str], target: str) -> list[str]:
    """The state of each zone."""
    return [zone["zs"] for zone in json_of(capsys, "report", target)]


# After a power cycle, which the end of each command is for an emulated namespace.
AT_FIRST = ["EMPTY", "CLOSED", "FULL", "CLOSED", "EMPTY", "EMPTY", "EMPTY", "EMPTY"]


def test_zones_document(zns: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts and totals are those of the zones."""
    document = json_of(capsys, "zones", zns)
    assert document["states"] == {"EMPTY": 5, "CLOSED": 2, "FULL": 1}
    assert (document["open"], document["mor"], document["active"], document["mar"]) == (0, 2, 2, 4)
    assert (document["written"], document["capacity"]) == (4 + 12 + 1, 8 * 12)
    assert [zone["zs"] for zone in document["zones"]] == AT_FIRST
    assert document["zones"][1] == {
        "zone": 1,
        "zslba": 16,
        "zs": "CLOSED",
        "wp": 20,
        "written": 4,
        "zcap": 12,
        "za": [],
    }


def test_zones_page(zns: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each zone has a line with its number, state and fill, and the limits stand below."""
    assert main(["zones", zns]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"  1  0x10  \S+  closed   4 of 12 blocks", lines[2])
    assert "open     0 of at most 2 (mor)" in lines
    assert "active   2 of at most 4 (mar)" in lines
    assert "written  68 KiB of 384 KiB" in lines


def test_a_pipe_gets_a_cell_for_each_of_many_zones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A hundred zones: a letter for the state of each in its place, and the letters are explained."""
    target = f"emu:zns?zones=100&zone_size=64KiB&file={tmp_path}/image"
    assert main(["finish", target, "--zone", "0", "30", "99", "--yes"]) == 0
    capsys.readouterr()
    assert main(["zones", target]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [re.fullmatch(r"  +(\d+) (.*)", line) for line in lines[1 : lines.index("")]]
    zones = {int(row[1]) + at // 3: row[2][at] for row in rows if row for at in range(0, len(row[2]), 3)}
    assert zones == {zone: "F" if zone in (0, 30, 99) else "." for zone in range(100)}
    assert "  F full   . empty" in lines
    assert not [line for line in lines[1:] if len(line) > 80]


def test_thousands_of_zones_fit_a_terminal(tmp_path: Path) -> None:
    """Zones are grouped into cells, which is said; a cell shows the rarest of its states."""
    target = f"emu:zns?zones=5000&zone_size=16KiB&file={tmp_path}/image"
    assert main(["finish", target, "--zone", "1234", "--yes"]) == 0
    status, output = on_terminal("zones", target, LINES="24", NO_COLOR="1")
    assert status == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    (group,) = re.findall(r"each cell is (\d+) zones", output)
    row = next(line.split() for line in lines if "F" in line)
    cell = row[1:].index("F\N{LOWER ONE EIGHTH BLOCK}")
    assert (int(row[0]) + cell * int(group)) == 1234 // int(group) * int(group)


def test_sixteen_zones_have_lines_on_a_small_terminal() -> None:
    """A page of 24 lines shows each zone of an ordinary emulated namespace by itself, and leaves a line for the prompt."""
    status, output = on_terminal("zones", "emu:zns", LINES="24", NO_COLOR="1")
    assert status == 0
    assert output.count("0 of 1024 blocks") == 16
    assert len(output.splitlines()) == 23


@pytest.mark.parametrize(("part", "eighths"), [(0, 0), (1, 1), (100, 1), (250, 2), (500, 4), (999, 7), (1000, 8)])
def test_fill_of_a_cell(part: int, eighths: int) -> None:
    """Something is never drawn as nothing, and not quite all never as all."""
    assert level(part, 1000) == eighths


def test_watch_needs_a_terminal(run: Run) -> None:
    """In a pipe there is nothing to keep up to date: exit status 2."""
    finished = run("zones", "emu:zns", "--watch")
    assert (finished.returncode, finished.stdout) == (2, "")
    assert "--watch needs a terminal" in finished.stderr


def test_watch_until_interrupted() -> None:
    """It goes on until Ctrl-C, and leaves the last state on the terminal: exit status 130."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "aionvme", "zones", "emu:zns", "--watch", "0.1"],
        stdout=slave,
        stderr=slave,
        stdin=slave,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "80", "LINES": "40"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(slave)
    shown = b""
    while shown.count(b"until Ctrl-C") < 3:
        assert select.select([master], [], [], 30)[0]
        shown += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:
        pass  # EIO: so Linux says that the other side is closed
    os.close(master)
    assert process.wait(timeout=30) == 130
    assert b"Traceback" not in shown
    assert b"16 empty" in shown


def test_watch_says_what_has_changed() -> None:
    """What is done to zones between two looks is named, and how many more there are."""
    screen = io.StringIO()
    console = Console(file=screen, width=80, height=40, force_terminal=True, color_system=None, highlight=False)

    async def use() -> None:
        async with aionvme.open("emu:zns?zones=8") as ns:
            watching = asyncio.create_task(watch(ns, console, 0.05))
            await shown("nothing has changed")
            await ns.zone_append(1024, bytes(3 * BLOCK))
            await ns.finish_zone(0)
            await shown("zone 0: empty -> full, 1024 blocks more")
            await shown("zone 1: empty -> implicitly opened, 3 blocks more")
            await ns.finish_zone(select_all=True)
            await ns.reset_zone(select_all=True)
            await shown("zone 1: implicitly opened -> empty, 3 blocks less")
            for zone in range(6):
                await ns.open_zone(zone * 1024)
            await shown("and 3 zones more")
            watching.cancel()
            await asyncio.wait([watching])
            assert watching.cancelled()

    async def shown(words: str) -> None:
        async with asyncio.timeout(10):
            while words not in screen.getvalue():
                await asyncio.sleep(0.01)

    asyncio.run(use())


def test_report_as_json(zns: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One object for each zone; a full zone has no write pointer."""
    report = json_of(capsys, "report", zns)
    assert [zone["zs"] for zone in report] == AT_FIRST
    assert [zone["wp"] for zone in report] == [0, 20, None, 49, 64, 80, 96, 112]
    assert {zone["zt"] for zone in report} == {2}
    assert report[3]["za"] == ["DESCRIPTOR_EXTENSION_VALID"]


@pytest.mark.parametrize(
    ("arguments", "zones"),
    [
        (["--zone", "3"], [3]),
        (["--from", "5"], [5, 6, 7]),
        (["--from", "2", "--count", "2"], [2, 3]),
        (["--count", "1"], [0]),
        (["--state", "closed"], [1, 3]),
        (["--state", "empty", "--from", "1", "--count", "2"], [4, 5]),
        (["--state", "read-only"], []),
    ],
)
def test_part_of_a_report(zns: str, capsys: pytest.CaptureFixture[str], arguments: list[str], zones: list[int]) -> None:
    """Zones by number and by state."""
    assert [zone["zone"] for zone in json_of(capsys, "report", zns, *arguments)] == zones


def test_report_as_csv(zns: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A header and a row for each zone, with the descriptor extension where there is one."""
    assert main(["report", zns, "--csv", "--extended", "--from", "2", "--count", "2"]) == 0
    full, closed = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (full["zone"], full["zs"], full["wp"], full["written"], full["extension"]) == ("2", "FULL", "", "12", "")
    assert (closed["wp"], closed["za"]) == ("49", "DESCRIPTOR_EXTENSION_VALID")
    assert closed["extension"] == bytes(range(64)).hex()


def test_report_page(zns: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each zone, addresses as hexadecimal numbers."""
    assert main(["report", zns]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].split() == ["1", "0x10", "closed", "0x14", "4", "12"]
    assert lines[-1] == "8 zones"
    assert main(["report", zns, "--state", "offline"]) == 0
    assert capsys.readouterr().out == "no zone is in that state\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("report", "emu:zns", "--extended"), "no descriptor extensions"),
        (("report", "emu:zns", "--zone", "1", "--count", "2"), "leave out --from, --count and --state"),
        (("report", "emu:zns?zones=4", "--zone", "4"), "has 4, counted from 0"),
        (("reset", "emu:zns?zones=4", "--zone", "0", "4"), "zone 4: "),
        (("append", "emu:zns?zones=4", "--zone", "4"), "zone 4: "),
        (("append", "emu:zns", "--zone", "0", "--size", "1000"), "whole blocks of 4096 bytes, 128 KiB at most"),
        (("append", "emu:zns", "--zone", "0", "--size", "256KiB"), "128 KiB at most"),
        (("read", "emu:nvm?size=1MiB", "--lba", "2047", "--blocks", "2"), "counted from 0"),
    ],
)
def test_what_only_the_target_can_tell(
    capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    """A command line that does not fit the namespace is refused with exit status 2, before anything is done."""
    assert main(arguments) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    assert words in shown.err


@pytest.mark.parametrize("command", ["zones", "report", "open"])
def test_a_conventional_namespace(capsys: pytest.CaptureFixture[str], command: str) -> None:
    """It has no zones, and that is said."""
    assert main([command, "emu:nvm", *(("--all",) if command == "open" else ())]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "it has no zones" in shown.err


@pytest.mark.parametrize(
    ("arguments", "lost"),
    [
        (("reset", "--all"), "17 blocks (68 KiB) written in 3 zones would be lost"),
        (("reset", "--zone", "0", "1"), "4 blocks (16 KiB) written in 1 zone would be lost"),
        (("finish", "--all"), "19 blocks (76 KiB) still free in 2 zones could not be written"),
        (("finish", "--zone", "0", "2"), "12 blocks (48 KiB) still free in 1 zone could not be written"),
    ],
)
def test_what_would_be_lost_is_asked_for(
    zns: str, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], lost: str
) -> None:
    """Without --yes nothing is done, exit status 2, and the message says how much is at stake."""
    assert main([arguments[0], zns, *arguments[1:]]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert lost in shown.err
    assert "--yes" in shown.err
    assert states(capsys, zns) == AT_FIRST


def test_a_terminal_is_asked(zns: str, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal the question is put there, and anything but yes is a no."""
    for answer, status, state in ((b"\n", 1, "CLOSED"), (b"y\n", 0, "EMPTY")):
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "aionvme", "reset", zns, "--zone", "1"],
            stdin=slave,
            stderr=slave,
            stdout=subprocess.DEVNULL,
        )
        os.close(slave)
        asked = b""
        while b"[y/N]" not in asked:
            assert select.select([master], [], [], 30)[0]
            asked += os.read(master, 4096)
        assert b"4 blocks (16 KiB) written in 1 zone would be lost" in asked
        os.write(master, answer)
        assert process.wait(timeout=30) == status
        os.close(master)
        assert states(capsys, zns)[1] == state


@pytest.mark.parametrize("action", ["reset", "finish"])
def test_use_that_begins_before_the_answer(
    zns: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    """Somebody mounts the namespace while the question waits for its answer: the zone is left as it is."""
    users: list[str] = []

    async def answer(name: str, loss: str) -> None:
        users.append("/dev/nvme0n1 is mounted at /mnt")

    monkeypatch.setattr(manage_command, "_confirm", answer)
    monkeypatch.setattr(Guard, "_in_use", lambda guard: "; ".join(users) or None)
    assert main([action, zns, "--zone", "1"]) == 1
    assert "is mounted at /mnt" in capsys.readouterr().err
    users.clear()
    assert states(capsys, zns) == AT_FIRST


def test_management(zns: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What changed is told, what did not is not."""
    document = json_of(capsys, "reset", zns, "--zone", "1", "0", "1", "--yes")
    assert (document["action"], document["zones"], document["error"]) == ("reset", [1, 0], None)
    assert document["changed"] == [
        {
            "zone": 1,
            "zslba": 16,
            "zs": {"before": "CLOSED", "after": "EMPTY"},
            "written": {"before": 4, "after": 0},
        }
    ]
    opened = json_of(capsys, "open", zns, "--all")
    assert opened["zones"] is None
    assert [(change["zone"], change["zs"]["after"]) for change in opened["changed"]] == [(3, "EXPLICITLY_OPENED")]
    assert main(["finish", zns, "--zone", "3", "--yes"]) == 0
    page = capsys.readouterr().out.splitlines()
    assert page[2].split() == ["3", "0x30", "closed", "1", "full", "12"]
    assert main(["close", zns, "--all"]) == 0
    assert capsys.readouterr().out == "no zone has changed\n"
    assert states(capsys, zns) == ["EMPTY", "EMPTY", "FULL", "FULL", "EMPTY", "EMPTY", "EMPTY", "EMPTY"]


def test_what_the_device_refuses(zns: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Zones up to the refusal are changed and told, those after it are named and left alone: exit status 1."""
    finished = run("open", zns, "--zone", "4", "5", "6", "7", "--json")
    assert finished.returncode == 1
    document = json.loads(finished.stdout)
    assert [change["zone"] for change in document["changed"]] == [4, 5]
    assert "Too Many Active Zones" in document["error"]
    assert document["error"].endswith("not tried: zone 7")
    assert document["error"] in finished.stderr
    assert json_of(capsys, "offline", zns, "--zone", "0", status=1)["changed"] == []


def test_offline_is_for_good(tmp_path: Path, run: Run) -> None:
    """A zone that can only be read yet is taken offline when that is confirmed."""
    target = f"emu:zns?zones=3&zone_size=64KiB&file={tmp_path}/image"
    assert run("offline", target, "--all").stdout == "no zone has changed\n"
    device = Device(parse_spec(target))
    strike(device, 1, Event.WEAR_OUT)
    device.close()
    for which in (("--all",), ("--zone", "1")):
        finished = run("offline", target, *which)
        assert (finished.returncode, finished.stdout) == (2, "")
        assert "16 blocks (64 KiB) of 1 zone could not be read any more, for good" in finished.stderr
    (change,) = json.loads(run("offline", target, "--all", "--yes", "--json").stdout)["changed"]
    assert (change["zone"], change["zs"]) == (1, {"before": "READ_ONLY", "after": "OFFLINE"})
