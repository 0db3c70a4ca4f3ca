"""What bench measures is right, what it refuses is untouched, and what it keeps can be read again."""

import asyncio
import csv
import io
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aionvme
from aionvme.cli import main
from aionvme.cli.bench import sweep
from aionvme.emulator import Device

Run = Callable[..., "subprocess.CompletedProcess[str]"]

QUICK = ("--seconds", "0.05")
OPEN = (aionvme.ZoneState.IMPLICITLY_OPENED, aionvme.ZoneState.EXPLICITLY_OPENED, aionvme.ZoneState.CLOSED)


def document_of(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> dict[str, Any]:
    """The document of a short run."""
    assert main(["bench", *QUICK, *arguments, "--json"]) == status
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def with_namespace(target: str, use: Callable[[aionvme.Namespace], Any]) -> Any:
    """What an async function makes of an open namespace."""

    async def opened() -> Any:
        async with aionvme.open(target) as ns:
            return await use(ns)

    return asyncio.run(opened())


@pytest.mark.parametrize("how", [(), ("--await-each",)])
def test_figures_follow_from_the_latency(capsys: pytest.CaptureFixture[str], how: tuple[str, ...]) -> None:
    """2 ms a command: less than 500 a second at depth 1, eight times as many and no more at depth 8, and none faster."""
    document = document_of(capsys, "emu:nvm?latency=2ms", "--depth", "1,8", "--seconds", "0.2", *how)
    one, eight = document["points"]
    assert 150 < one["iops"] < 500
    assert 4 * one["iops"] < eight["iops"] < 4000
    for point in (one, eight):
        assert point["latency_p50_us"] >= 2000
        assert point["latency_mean_us"] >= 2000
        assert (
            point["latency_p50_us"] <= point["latency_p99_us"] <= point["latency_p99_9_us"] <= point["latency_max_us"]
        )
        assert point["latency_mean_us"] <= point["latency_max_us"]
        assert point["seconds"] >= 0.2
        assert point["iops"] == pytest.approx(point["commands"] / point["seconds"])
        assert point["mb_per_s"] == pytest.approx(point["iops"] * 4096 / 1e6)
        assert 0 < point["cpu_s_per_s"] < 1.5
        assert point["cpu_us_per_command"] == pytest.approx(point["cpu_s_per_s"] * 1e6 / point["iops"])
    assert document["parameters"]["await_each"] is bool(how)


@pytest.mark.parametrize(("latency", "seconds", "least"), [("20ms", "0.8", 14), ("0us", "0.1", 2)])
def test_the_queue_is_full_all_the_time(
    capsys: pytest.CaptureFixture[str], latency: str, seconds: str, least: int
) -> None:
    """By Little's law: as many commands are in flight on average as the depth says, the ends of the run aside.

    Where the emulator's own work is all that takes time, its queue is refilled once in a pass of the loop, and emptier.
    """
    arguments = (f"emu:nvm?latency={latency}", "--depth", "16", "--seconds", seconds)
    (point,) = document_of(capsys, *arguments)["points"]
    in_flight = point["iops"] * point["latency_mean_us"] / 1e6
    assert least < in_flight <= 16


def test_document(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that a figure depends on is in it, and every point of the sweep, in its order."""
    arguments = (
        "--pattern",
        "read,randread",
        "--size",
        "512,16KiB",
        "--depth",
        "2,1",
        "--seed",
        "5",
        "--region",
        "1MiB",
    )
    document = document_of(capsys, "emu:nvm?size=4MiB", *arguments)
    assert document["schema"] == {"name": "aionvme-bench", "version": 1}
    assert document["target"] == "emu:nvm?size=4MiB"
    assert document["incomplete"] is None
    namespace = {"mn": "aionvme emulated device", "fr": "1.0", "lba_size": 512, "nsze": 8192, "zoned": False}
    assert document["namespace"] == namespace
    assert document["queue"] == {"kind": "emulated", "why_not": {}, "detour": ""}
    assert document["parameters"] == {
        "patterns": ["read", "randread"],
        "sizes": [512, 16384],
        "depths": [2, 1],
        "seconds": 0.05,
        "queue": "auto",
        "region_bytes": 1 << 20,
        "seed": 5,
        "await_each": False,
    }
    machine = document["machine"]
    assert (machine["kernel"], machine["cpus"]) == (os.uname().release, os.cpu_count())
    assert isinstance(machine["python_enable_optimizations"], bool)
    assert {"cpu", "cpus_allowed", "python", "aionvme", "date"} < set(machine)
    points = [(p["pattern"], p["size_bytes"], p["nlb"], p["depth"], p["queue_depth"]) for p in document["points"]]
    sizes = ((512, 1), (16384, 32))
    assert points == [
        (name, *size, depth, depth) for name in ("read", "randread") for size in sizes for depth in (2, 1)
    ]


def test_csv_has_a_row_for_each_point(capsys: pytest.CaptureFixture[str]) -> None:
    """Its columns are the fields that points have in the document."""
    arguments = ("emu:nvm", "--depth", "1,2")
    points = document_of(capsys, *arguments)["points"]
    assert main(["bench", *QUICK, *arguments, "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [list(row) for row in rows] == [list(point) for point in points]
    assert [row["depth"] for row in rows] == ["1", "2"]
    assert all(float(row["iops"]) > 0 for row in rows)


def test_page(capsys: pytest.CaptureFixture[str]) -> None:
    """A table for each pattern and size, what was measured above it, and that reads of empty zones say little."""
    assert main(["bench", *QUICK, "emu:zns", "--pattern", "randread,read", "--depth", "1,4"]) == 0
    page = capsys.readouterr().out
    for part in ("randread, 4 KiB", "read, 4 KiB", "IOPS", "p99.9", "emulated in this process", "all zones were empty"):
        assert part in page
    assert len([line for line in page.splitlines() if line.split()[:1] in (["1"], ["4"])]) == 4


def test_random_writes_stay_in_the_region(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside of it nothing changes, inside nearly everything does."""
    target = f"emu:nvm?size=1MiB&file={tmp_path / 'image'}"
    with_namespace(target, lambda ns: ns.write(0, b"\xa5" * (1 << 20)))
    arguments = ("--pattern", "randwrite", "--region", "256KiB", "--overwrite", "--depth", "4")
    (point,) = document_of(capsys, target, *arguments)["points"]
    data = with_namespace(target, lambda ns: ns.read(0, ns.nsze)).tobytes()
    assert data[256 << 10 :] == b"\xa5" * (768 << 10)
    blocks = np.frombuffer(data[: 256 << 10], np.uint8).reshape(-1, 4096)
    changed = int((blocks != 0xA5).any(axis=1).sum())
    assert changed == 64 if point["commands"] > 1000 else changed > 0


@pytest.mark.parametrize(
    "how",
    [
        ("append", "--depth", "1,24"),
        ("append", "--depth", "24", "--await-each"),
        ("write", "--depth", "1"),
        ("write", "--depth", "1", "--await-each"),
    ],
)
def test_zones_are_used_up_and_reset(tmp_path: Path, capsys: pytest.CaptureFixture[str], how: tuple[str, ...]) -> None:
    """Few small zones, a size that leaves a rest in each, limits: no command fails, and zones outside are as they were."""
    target = f"emu:zns?zones=8&zone_size=256KiB&zone_capacity=200KiB&lba=4096&mar=4&mor=3&file={tmp_path / 'image'}"
    mine = b"mine" * 2048
    with_namespace(target, lambda ns: ns.zone_append(7 * ns.zsze, mine))
    with_namespace(target, lambda ns: ns.zone_append(0, mine))
    points = document_of(capsys, target, "--overwrite", "--size", "12KiB", "--region", "1536KiB", "--pattern", *how)[
        "points"
    ]
    for point in points:
        assert point["errors"] == 0
        assert point["commands"] > 16 * 3  # more than may be active hold: zones were reset in between
        assert point["zone_resets"] >= 3
    # What the second finds is what the first left: nothing, where its time was up just after zones were reset.
    assert points[0]["written_zones"] == 1

    async def look(ns: aionvme.Namespace) -> tuple[Any, bytes]:
        return await ns.report_zones(), (await ns.read(7 * ns.zsze, 2)).tobytes()

    report, theirs = with_namespace(target, look)
    written = report["wp"] - report["zslba"]
    assert theirs == mine
    assert written.tolist()[6:] == [0, 2]
    assert (written[:6] % 3 == 0).all()  # every append was of three blocks
    assert written[:6].max() <= 48
    assert np.isin(report["zs"], OPEN).sum() <= 4


def test_no_active_zones_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where zones outside of the region take all that may be active, that is said, with nothing written."""
    target = f"emu:zns?zones=4&mar=1&mor=1&file={tmp_path / 'image'}"
    with_namespace(target, lambda ns: ns.zone_append(3 * ns.zsze, bytes(4096)))
    assert main(["bench", target, "--pattern", "append", "--overwrite", "--region", "4MiB", *QUICK]) == 1
    assert "all of the 1 zones that may be active are, outside of the region" in capsys.readouterr().err


@pytest.mark.parametrize("pattern", ["randwrite", "write", "append", "read,write"])
def test_destroying_data_has_to_be_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str], pattern: str) -> None:
    """Without --overwrite a pattern that writes is refused, and the target is not even opened."""
    image = tmp_path / "image"
    assert main(["bench", f"emu:nvm?file={image}", "--pattern", pattern]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert "destroys what the namespace holds: say so with --overwrite" in output.err
    assert not image.exists()


@pytest.mark.parametrize(
    ("target", "arguments", "words"),
    [
        ("emu:nvm?size=1MiB", ("--pattern", "append"), "conventional namespace"),
        ("emu:zns?zones=2", ("--pattern", "randwrite"), "a zone is written in order"),
        ("emu:zns?zones=2", ("--pattern", "write", "--depth", "1,2"), "use append, or --depth 1"),
        ("emu:nvm?size=1MiB", ("--size", "1000"), "not a multiple of the logical block, 512"),
        ("emu:nvm?mdts=64KiB", ("--size", "64KiB,128KiB"), "one command takes at most 64 KiB"),
        ("emu:zns?zones=2&zasl=16KiB", ("--size", "32KiB", "--pattern", "append"), "one append takes at most 16 KiB"),
        ("emu:zns?zone_size=64KiB&zones=2", ("--size", "128KiB"), "larger than the zones' capacity, 64 KiB"),
        ("emu:nvm?size=1MiB", ("--region", "2MiB"), "the namespace has 1 MiB"),
        ("emu:nvm?size=1MiB", ("--region", "1000"), "not a multiple of the logical block"),
        ("emu:zns?zones=2", ("--region", "2MiB"), "not a multiple of the zone"),
        ("emu:nvm?size=1MiB", ("--region", "4KiB", "--size", "8KiB"), "larger than the region, 4 KiB"),
        ("emu:nvm?size=1MiB", ("--size", "512KiB", "--depth", "16384"), "8 GiB in flight"),
        ("emu:nvm?size=1MiB", ("--save", "/nowhere/a.json"), "--save /nowhere/a.json: no file"),
        ("emu:nvm?size=1MiB", ("--save", "/"), "no file"),
        ("emu:nvm?size=1MiB", ("--figure", "a.doc"), "ends in .png"),
    ],
)
def test_what_makes_no_sense_on_the_target(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str, arguments: tuple[str, ...], words: str
) -> None:
    """It is refused in one line, before any point is measured, and data stays as it was."""
    image = tmp_path / "image"
    target += f"{'&' if '?' in target else '?'}file={image}"
    with_namespace(target, lambda ns: ns.write(0, b"\xa5" * 4096))
    with_namespace(target, lambda ns: ns.flush())  # to open it again closes a zone that was left open
    before = image.read_bytes()
    assert main(["bench", target, "--overwrite", *arguments]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert words in line
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--depth", "0"), "'0': a queue holds 1 to"),
        (("--depth", "1,,2"), "'': a queue holds"),
        (("--size", "4kB"), "KiB, MiB"),
        (("--size", "0"), "at least one"),
        (("--seconds", "0"), "a time in seconds"),
        (("--seconds", "inf"), "a time in seconds"),
        (("--pattern", "randread,trim"), "'trim': choose from randread, read"),
        (("--queue", "fast"), "invalid choice"),
        (("--seed", "-1"), "whole number"),
        (("--json", "--csv"), "not allowed with"),
    ],
)
def test_what_makes_no_sense_at_all(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str) -> None:
    """The usage, what is wrong, exit status 2."""
    with pytest.raises(SystemExit, match="2"):
        main(["bench", "emu:nvm", *arguments])
    assert words in capsys.readouterr().err


@pytest.mark.parametrize("how", [(), ("--await-each",)])
def test_errors_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], how: tuple[str, ...]
) -> None:
    """Commands that fail are not part of the rate; the first is told in words, and the exit status is 1."""
    calls = iter(range(10**9))
    execute = Device.execute

    def sometimes(self: Device, command: Any, data: memoryview, *, admin: bool = False) -> Any:
        if not admin and next(calls) % 4 == 3:
            return aionvme.Status(0x281), 0
        return execute(self, command, data, admin=admin)

    monkeypatch.setattr(Device, "execute", sometimes)
    (point,) = document_of(capsys, "emu:nvm", "--depth", "4", *how, status=1)["points"]
    assert point["errors"] == point["commands"] // 4 > 0
    assert point["iops"] == pytest.approx((point["commands"] - point["errors"]) / point["seconds"])
    assert point["first_error"].startswith("READ of 8 blocks at LBA 0x")
    assert "Unrecovered Read Error" in point["first_error"]
    assert main(["bench", "emu:nvm", "--depth", "4", *QUICK, *how]) == 1
    assert "failed; the first: READ of 8 blocks at LBA 0x" in capsys.readouterr().out


def test_fewer_in_flight_than_asked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A queue with room for 4: the figures are those of depth 4, and that is said where 8 were asked for."""
    monkeypatch.setattr(sweep, "open_namespace", shallow)
    arguments = ("emu:nvm?latency=2ms", "--depth", "2,8")
    points = document_of(capsys, *arguments, "--await-each")["points"]
    assert [(point["depth"], point["queue_depth"]) for point in points] == [(2, 2), (8, 4)]
    assert points[1]["iops"] < 2000
    assert main(["bench", *QUICK, *arguments]) == 0
    assert capsys.readouterr().out.count("depth 8: only 4 in flight") == 1


def shallow(target: str, *, depth: int, **options: Any) -> AbstractAsyncContextManager[aionvme.Namespace]:
    """A device whose queue has little room."""
    return aionvme.open(target, depth=min(depth, 4), **options)


def test_a_sweep_that_breaks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The device goes away: the points until then are shown and kept, with the reason, and the exit status is 1."""
    file = tmp_path / "run.json"
    monkeypatch.setattr(sweep, "open_namespace", vanishing)
    assert main(["bench", *QUICK, "emu:nvm", "--depth", "1,2,4", "--save", str(file)]) == 1
    assert "Not all points: /dev/ng7n1: no such device [ENODEV]" in capsys.readouterr().out
    document = json.loads(file.read_text())
    assert [point["depth"] for point in document["points"]] == [1, 2]
    assert document["incomplete"] == "/dev/ng7n1: no such device [ENODEV]"


@asynccontextmanager
async def vanishing(target: str, *, depth: int, **options: Any) -> AsyncIterator[aionvme.Namespace]:
    """A device that is gone when depth 4 is measured."""
    if depth == 4:
        raise OSError(19, "no such device", "/dev/ng7n1")
    async with aionvme.open(target, depth=depth, **options) as ns:
        yield ns


def test_saved_is_what_json_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file holds the same document."""
    file = tmp_path / "run.json"
    document = document_of(capsys, "emu:nvm", "--depth", "1", "--save", str(file))
    assert json.loads(file.read_text()) == document


def test_a_disk_that_is_full(capsys: pytest.CaptureFixture[str]) -> None:
    """What was measured is shown all the same; the exit status tells that it was not kept."""
    assert main(["bench", *QUICK, "emu:nvm", "--depth", "1", "--save", "/dev/full"]) == 1
    output = capsys.readouterr()
    assert "[ENOSPC]" in output.err
    assert "randread, 4 KiB" in output.out


def test_figure(tmp_path: Path, run: Run) -> None:
    """A PNG with a line for each size of each pattern, in as many colours, drawn without a warning."""
    from matplotlib import image

    file = tmp_path / "figure.png"
    arguments = ("--pattern", "read,randread", "--size", "4KiB,64KiB", "--depth", "1,4", "--figure", str(file))
    finished = run("bench", "emu:nvm?latency=1ms", *QUICK, *arguments)
    assert (finished.returncode, finished.stderr) == (0, "")
    assert file.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = (image.imread(file)[:, :, :3] * 255).round().astype(int)
    for colour in (
        (0x1F, 0x77, 0xB4),
        (0xFF, 0x7F, 0x0E),
        (0x2C, 0xA0, 0x2C),
        (0xD6, 0x27, 0x28),
    ):  # matplotlib's first
        columns = np.flatnonzero((pixels == colour).all(axis=2).any(axis=0))
        assert columns.min() < pixels.shape[1] / 2 < columns.max()  # in both panels
    assert (pixels == 255).all(axis=2).mean() > 0.5


def test_without_matplotlib(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is an extra: a line says how to get it, before anything is opened."""
    monkeypatch.setitem(sys.modules, "matplotlib.backend_bases", None)
    image = tmp_path / "image"
    assert main(["bench", f"emu:nvm?file={image}", "--figure", str(tmp_path / "a.png")]) == 2
    assert "pip install 'aionvme[plots]'" in capsys.readouterr().err
    assert not image.exists()


def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C in the second point: progress was shown on the terminal, the first point is shown and kept, 130."""
    file = tmp_path / "run.json"
    master, slave = pty.openpty()
    arguments = ("emu:nvm?latency=5ms", "--depth", "1,2,4", "--seconds", "0.5", "--save", str(file))
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "aionvme", "bench", *arguments],
        stdout=subprocess.PIPE,
        stderr=slave,
        # A shell ignores SIGINT for what it runs in the background, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    os.close(slave)
    shown = b""
    while b"point 2 of 3: randread, 4 KiB, depth 2" not in shown:
        shown += os.read(master, 65536)
    process.send_signal(signal.SIGINT)
    stdout, _ = process.communicate(timeout=30)
    os.close(master)
    assert process.returncode == 130
    assert b"Traceback" not in shown
    page = stdout.decode()
    assert "Not all points: interrupted" in page
    assert "randread, 4 KiB" in page
    document = json.loads(file.read_text())
    assert [point["depth"] for point in document["points"]] == [1]
    assert document["incomplete"] == "interrupted"
