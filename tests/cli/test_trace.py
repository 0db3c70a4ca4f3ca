"""What trace and replay say is what happened, and what they refuse is untouched."""

import asyncio
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

import aionvme
from aionvme.cli import main
from aionvme.cli.trace.zones import write_pointers

ZNS = "emu:zns?zones=8&zone_size=1MiB&latency=20us-300us"
READ, WRITE, SEND, APPEND = 0x02, 0x01, 0x79, 0x7D

Use = Callable[[aionvme.Namespace], Any]


async def zones(ns: aionvme.Namespace) -> None:
    """20 appends of 1 to 4 blocks to two zones, 40 reads, a write that fails, and a zone finished and reset."""
    await asyncio.gather(*(ns.zone_append(i % 2 * ns.zsze, bytes((1 + i % 4) * ns.lba_size)) for i in range(20)))
    for lba in range(40):
        await ns.read(lba % 9, 1)
    await ns.finish_zone(3 * ns.zsze)
    await ns.reset_zone(3 * ns.zsze)
    with pytest.raises(aionvme.ZoneInvalidWriteError):
        await ns.write(5 * ns.zsze + 1, bytes(ns.lba_size))


async def blocks(ns: aionvme.Namespace) -> None:
    """Reads of a conventional namespace."""
    await ns.read_many(np.arange(50), 1, bytearray(50 * ns.lba_size))


def traced(folder: Path, target: str, use: Use) -> Path:
    """The file of the trace of a use."""
    file = folder / "run.npy"

    async def run() -> None:
        async with aionvme.open(target, trace=file) as ns:
            await use(ns)

    asyncio.run(run())
    return file


def document_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path, status: int = 0) -> dict[str, Any]:
    """The document of a command."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == status
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Commands, failures and bytes by kind as they were sent, and percentiles as a sort of the latencies gives them."""
    file = traced(tmp_path, ZNS, zones)
    document = document_of(capsys, "trace", file)
    assert document["schema"] == {"name": "aionvme-trace", "version": 1}
    assert (document["commands"], document["errors"]) == (63, 1)
    assert (document["block_bytes"], document["zsze"], document["zones_touched"]) == (4096, 256, 4)
    assert document["in_flight_max"] == 20
    assert document["len_bytes"] == (50 + 40) * 4096
    kinds = {kind["kind"]: kind for kind in document["kinds"]}
    assert {
        name: (kind["opcode"], kind["action"], kind["commands"], kind["errors"]) for name, kind in kinds.items()
    } == {
        "write": (1, 0, 1, 1),
        "read": (2, 0, 40, 0),
        "finish zone": (0x79, 2, 1, 0),
        "reset zone": (0x79, 4, 1, 0),
        "zone append": (0x7D, 0, 20, 0),
    }
    assert kinds["zone append"]["len_bytes"] == 50 * 4096
    assert kinds["write"]["latency_p50_us"] is None
    trace = aionvme.load_trace(file)
    reads = trace[trace["opcode"] == READ]
    sorted_us = sorted(((reads["complete_ns"] - reads["submit_ns"]) / 1000).tolist())
    for name, percent in (("p50", 50), ("p90", 90), ("p99", 99), ("p99_9", 99.9), ("max", 100)):
        assert kinds["read"][f"latency_{name}_us"] == sorted_us[math.ceil(40 * percent / 100) - 1]
    (failure,) = document["failures"]
    assert failure == {"kind": "write", "status": 0x41BC, "errno": 0, "name": "Zone Invalid Write", "commands": 1}
    assert document["seconds"] == pytest.approx((trace["complete_ns"].max() - trace["submit_ns"].min()) / 1e9)


def test_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people the same, a line for each kind and for each way to fail."""
    file = traced(tmp_path, ZNS, zones)
    assert main(["trace", str(file)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["zones", "4", "touched,", "of", "256", "blocks", "each"] in lines
    assert any(line[:3] == ["zone", "append", "20"] for line in lines)
    assert ["write", "Zone", "Invalid", "Write", "1"] in lines


def test_a_trace_without_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing, in numbers; and nothing to draw, which is refused; replayed, it does nothing."""
    file = tmp_path / "empty.npy"
    np.save(file, np.zeros(0, aionvme.TRACE))
    document = document_of(capsys, "trace", file)
    assert (document["commands"], document["seconds"], document["kinds"]) == (0, 0, [])
    assert main(["trace", str(file), "--figure", str(tmp_path / "no.png")]) == 2
    assert not (tmp_path / "no.png").exists()
    assert document_of(capsys, "replay", file, "emu:nvm")["commands"] == 0


def colours_of(file: Path) -> set[int]:
    """The colours of a picture, as 0xRRGGBB."""
    red, green, blue = (imread(file)[:, :, :3] * 255).round().astype(int).transpose(2, 0, 1)
    return set(np.unique(red << 16 | green << 8 | blue).tolist())


@pytest.mark.parametrize(("target", "use"), [(ZNS, zones), ("emu:nvm", blocks)])
def test_figure(tmp_path: Path, target: str, use: Use) -> None:
    """A picture in which reads are blue; appends are green, where there are some."""
    file = traced(tmp_path, target, use)
    assert main(["trace", str(file), "--figure", str(tmp_path / "run.png")]) == 0
    blue, green = 0x1F77B4, 0x2CA02C  # of matplotlib's tab10
    seen = colours_of(tmp_path / "run.png")
    assert blue in seen
    assert (green in seen) == (use is zones)


def row(opcode: int, slba: int, nlb: int = 0, **fields: int) -> Any:
    """A command of a hand-made trace, the next millisecond's."""
    made = np.zeros(1, aionvme.TRACE)
    for name, value in {"opcode": opcode, "slba": slba, "nlb": nlb, "zsze": 100, "block_bytes": 512, **fields}.items():
        made[name] = value
    return made


def made(*rows: Any) -> Any:
    """A hand-made trace: commands a millisecond apart, of half a millisecond each."""
    trace = np.concatenate(rows)
    trace["submit_ns"] = np.arange(len(trace)) * 1_000_000 + 1
    trace["complete_ns"] = trace["submit_ns"] + 500_000
    return trace


STORY = made(
    row(WRITE, 210, 5),  # zone 2 was written before
    row(APPEND, 300, 7, result=300),
    row(APPEND, 300, 2, result=307),
    row(WRITE, 250, 9, status=0x41BC),
    row(SEND, 300, action=2),
    row(SEND, 300, action=4),
    row(WRITE, 215, 1),
    row(READ, 400, 3),
    row(SEND, 0, action=4, select_all=1),
    row(SEND, 500, action=2),
)


def test_write_pointers() -> None:
    """As the specification has them: writes and appends move them, finish fills, reset empties, and failures do nothing."""
    at = (STORY["complete_ns"]).tolist()
    assert write_pointers(STORY) == {
        2: ([at[0], at[0], at[6], at[8]], [10, 15, 16, 0]),
        3: ([at[1], at[1], at[2], at[4], at[5]], [0, 7, 9, 100, 0]),
        5: ([at[9], at[9]], [0, 100]),
    }


@pytest.mark.parametrize(
    "trace",
    [
        STORY,
        STORY[:1],
        STORY[3:4],
        STORY[7:8],
        np.concatenate([row(WRITE, 100 * i, 1, complete_ns=i + 1) for i in range(400)]),
    ],
    ids=["story", "one write", "one failure", "one read", "many zones"],
)
def test_figures_of_unusual_traces(tmp_path: Path, trace: Any) -> None:
    """Whatever the trace, there is a picture, without a warning."""
    np.save(tmp_path / "run.npy", trace)
    assert main(["trace", str(tmp_path / "run.npy"), "--figure", str(tmp_path / "run.png")]) == 0
    assert imread(tmp_path / "run.png").shape[0] > 500


def test_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both runs side by side, the outcomes the same; the new trace is kept, and has the same commands."""
    file, new = traced(tmp_path, ZNS, zones), tmp_path / "new.npy"
    arguments = ("replay", file, f"{ZNS}&seed=4", "--overwrite", "--save", new)
    document = document_of(capsys, *arguments)
    assert document["schema"] == {"name": "aionvme-replay", "version": 1}
    assert (document["commands"], document["differing"], document["outcomes"]) == (63, 0, [])
    assert (document["speed"], document["queue"]) == (1.0, "emulated, depth 64")
    kinds = {kind["kind"]: kind for kind in document["kinds"]}
    assert kinds["write"]["errors"] == [1, 1]
    assert all(0 < us < 1e6 for us in kinds["zone append"]["latency_p50_us"])
    trace, replayed = aionvme.load_trace(file), aionvme.load_trace(new)
    assert (replayed["opcode"] == trace["opcode"]).all()
    assert document["late_max_us"] >= document["late_p50_us"] >= 0
    assert main([*map(str, arguments)]) == 0
    assert "63, 0 of them with another outcome" in capsys.readouterr().out


def test_replay_at_other_speeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three reads in 400 ms: ten times as fast they take 40 ms at least and not 300; as fast as possible less than 40."""

    async def slowly(ns: aionvme.Namespace) -> None:
        for lba in range(3):
            await ns.read(lba, 1)
            await asyncio.sleep(0.2)

    file = traced(tmp_path, "emu:nvm", slowly)
    was, now = document_of(capsys, "replay", file, "emu:nvm", "--speed", "10")["seconds"]
    assert was > 0.4
    assert 0.039 < now < 0.3
    document = document_of(capsys, "replay", file, "emu:nvm", "--fast")
    assert document["seconds"][1] < 0.039
    assert (document["speed"], document["late_p50_us"]) == (None, None)


def test_other_outcomes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """On a zone that has been written to, writes fail: exit status 1, and what was and what is are told."""

    async def writes(ns: aionvme.Namespace) -> None:
        for lba in range(3):
            await ns.write(lba, bytes(ns.lba_size))

    target = f"{ZNS}&file={tmp_path}/image"
    file = traced(tmp_path, target, writes)
    document = document_of(capsys, "replay", file, target, "--overwrite", "--fast", status=1)
    assert document["differing"] == 3
    assert document["outcomes"] == [{"kind": "write", "status": [0, 0x41BC], "errno": [0, 0], "commands": 3}]
    assert main(["replay", str(file), target, "--overwrite"]) == 1
    assert ["write", "success", "Zone", "Invalid", "Write", "3"] in [
        line.split() for line in capsys.readouterr().out.splitlines()
    ]


REFUSED = {
    "no leave to write": (("replay", "{trace}", "{target}"), "--overwrite"),
    "another block size": (("replay", "{trace}", "{target}&lba=512", "--overwrite"), "512"),
    "other zones": (("replay", "{trace}", "emu:zns?file={folder}/image", "--overwrite"), "zones of 256 blocks"),
    "no trace": (("replay", "{folder}/text", "{target}"), "holds no trace"),
    "nothing there": (("trace", "{folder}/nothing.npy"), "No such file"),
    "a folder": (("trace", "{folder}"), "directory"),
    "no folder to save in": (
        ("replay", "{trace}", "{target}", "--overwrite", "--save", "{folder}/no/new.npy"),
        "--save",
    ),
    "no such picture": (("trace", "{trace}", "--figure", "{folder}/run.doc"), ".png"),
    "no folder to draw in": (("trace", "{trace}", "--figure", "{folder}/no/run.png"), "--figure"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path: Path, capsys: pytest.CaptureFixture[str], case: str) -> None:
    """Exit status 2 with the reason, and the namespace has no block written."""
    names = {
        "trace": str(traced(tmp_path, ZNS, zones)),
        "target": f"emu:zns?zones=8&zone_size=1MiB&file={tmp_path}/image",
        "folder": str(tmp_path),
    }
    (tmp_path / "text").write_text("hello")
    arguments, reason = REFUSED[case]
    arguments = tuple(argument.format(**names) for argument in arguments)
    assert main([*arguments]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1

    async def states(target: str) -> set[int]:
        async with aionvme.open(target) as ns:
            return set((await ns.report_zones())["zs"].tolist())

    for target in arguments:
        if target.startswith("emu:"):
            assert asyncio.run(states(target)) == {aionvme.ZoneState.EMPTY}


@pytest.mark.parametrize("speed", [("--speed", "0"), ("--speed", "nan"), ("--speed", "x"), ("--speed", "2", "--fast")])
def test_speeds_that_make_no_sense(capsys: pytest.CaptureFixture[str], speed: tuple[str, ...]) -> None:
    """Exit status 2, before the files are looked at."""
    with pytest.raises(SystemExit) as ended:
        main(["replay", "nothing.npy", "emu:nvm", *speed])
    assert ended.value.code == 2
    assert speed[0] in capsys.readouterr().err
