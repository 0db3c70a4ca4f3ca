"""What comes in on stdin is found again where append says that it is, and what could not be appended is told."""

import asyncio
import json
import os
import pty
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aionvme import open as opened
from aionvme.cli.appending import Appending, Piece
from tests.cli.conftest import Run

BLOCK = 4096
COMMAND = [sys.executable, "-W", "error", "-m", "aionvme"]


@pytest.fixture
def zns(tmp_path: Path) -> str:
    """Six zones of 64 blocks, whose appends complete in an order of their own."""
    return f"emu:zns?zones=6&zone_size=256KiB&zasl=32KiB&mor=2&latency=200us-2ms&file={tmp_path}/image"


def command(*arguments: str, stdin: bytes = b"", status: int = 0) -> tuple[bytes, str]:
    """Run a command that reads a pipe: what it wrote, and what it complained of."""
    done = subprocess.run([*COMMAND, *arguments], input=stdin, capture_output=True, timeout=30)
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr.decode()


def content(len_bytes: int) -> bytes:
    """Bytes no two blocks of which are the same."""
    return random.Random(len_bytes).randbytes(len_bytes)


def read_back(target: str, lines: bytes) -> bytes:
    """The blocks that append's lines name, in their order."""

    async def read() -> bytes:
        async with opened(target) as ns:
            places = [line.split() for line in lines.decode().splitlines()]
            return b"".join([bytes(await ns.read(int(lba, 0), int(nlb))) for lba, nlb in places])

    return asyncio.run(read())


def test_round_trip(zns: str) -> None:
    """Pieces land out of order and are told in the stream's: reading them in the order told gives the stream."""
    data = content(40 * BLOCK)
    out, err = command("append", zns, "--zone", "1", stdin=data)
    assert err == ""
    placed = [(int(lba, 16), int(nlb)) for lba, nlb in (line.split() for line in out.decode().splitlines())]
    assert [nlb for _, nlb in placed] == [8] * 5
    assert sorted(lba for lba, _ in placed) == [64, 72, 80, 88, 96]
    assert placed != sorted(placed)
    assert read_back(zns, out) == data


def test_rolling_on(zns: str, tmp_path: Path) -> None:
    """A stream longer than its zone goes on in the next empty ones, over those that are not, and is padded at its end."""
    assert command("append", zns, "--zone", "3", stdin=bytes(BLOCK))[0] == b"0xc0 1\n"
    data = content(140 * BLOCK + 5)
    out, _ = command("append", zns, "--zone", "1", "--roll", "--pad", "--size", "28KiB", "--json", stdin=data)
    document = json.loads(out)
    pieces = document["appends"]
    # 64 blocks are nine pieces of 7 and one of 1, in zones 1 and 2; the last 13 of 141 go to zone 4.
    assert [piece["nlb"] for piece in pieces] == [7] * 9 + [1] + [7] * 9 + [1] + [7, 6]
    assert [piece["lba"] // 64 for piece in pieces] == [1] * 10 + [2] * 10 + [4] * 2
    assert [piece["offset"] for piece in pieces] == [
        sum(piece["nlb"] for piece in pieces[:k]) * BLOCK for k in range(len(pieces))
    ]
    assert (document["bytes"], document["padding_bytes"]) == (141 * BLOCK, BLOCK - 5)
    lines = "".join(f"{piece['lba']} {piece['nlb']}\n" for piece in pieces)
    assert read_back(zns, lines.encode()) == data + bytes(BLOCK - 5)


def test_a_full_zone_ends_it(zns: str) -> None:
    """What fits is appended and told, the rest is not, and how much that was is said: exit status 1."""
    data = content(70 * BLOCK)
    out, err = command("append", zns, "--zone", "5", "--roll", stdin=data, status=1)
    assert read_back(zns, out) == data[: 64 * BLOCK]
    assert "appended 262144 bytes of stdin in 8 commands and no more: zone 5 has no room left" in err
    out, err = command("append", zns, "--zone", "5", stdin=data, status=1)
    assert (out, "appended 0 bytes" in err) == (b"", True)
    assert command("append", zns, "--zone", "5")[0] == b""  # nothing to append needs no room


def test_the_last_block_is_whole_or_padded(zns: str) -> None:
    """Of a pipe the whole blocks are appended, and the rest is refused: exit status 1."""
    data = content(3 * BLOCK + 100)
    out, err = command("append", zns, "--zone", "0", stdin=data, status=1)
    assert read_back(zns, out) == data[: 3 * BLOCK]
    assert "appended 12288 bytes of stdin in 1 command and no more: the last 100 bytes are no whole block" in err
    assert "--pad" in err


@pytest.mark.parametrize(
    ("len_bytes", "arguments", "words"),
    [
        (BLOCK + 1, (), "4097 bytes are no whole blocks of 4096: --pad"),
        (65 * BLOCK, (), "65 blocks to append: zone 4 (empty) has room for 64"),
        (129 * BLOCK, ("--roll",), "zone 4 (empty) and 1 empty one after it have room for 128"),
    ],
)
def test_a_file_is_judged_before(
    zns: str, run: Run, tmp_path: Path, len_bytes: int, arguments: tuple[str, ...], words: str
) -> None:
    """The length of a file is known: nothing of it is appended where not all of it could be. Exit status 2."""
    file = tmp_path / "data"
    file.write_bytes(bytes(len_bytes))
    with file.open("rb") as stdin:
        done = subprocess.run([*COMMAND, "append", zns, "--zone", "4", *arguments], stdin=stdin, capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode()
    assert json.loads(run("zones", zns, "--json").stdout)["written"] == 0


def test_files_and_devices_as_stdin(zns: str, tmp_path: Path) -> None:
    """stdin may be a file, read from where it stands, or a device."""
    file = tmp_path / "data"
    file.write_bytes(content(5 * BLOCK))
    with file.open("rb") as stdin:
        stdin.seek(2 * BLOCK)
        done = subprocess.run([*COMMAND, "append", zns, "--zone", "0"], stdin=stdin, capture_output=True, check=True)
    assert read_back(zns, done.stdout) == file.read_bytes()[2 * BLOCK :]
    done = subprocess.run([*COMMAND, "append", zns, "--zone", "1"], stdin=subprocess.DEVNULL, capture_output=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_slow_stream_is_told_as_it_lands(zns: str) -> None:
    """A piece is told as soon as it has landed, while more is waited for; Ctrl-C ends the waiting, and says what was appended."""
    process = subprocess.Popen(
        [*COMMAND, "append", zns, "--zone", "2", "--size", "4KiB"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell ignores SIGINT for what it runs in the background, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for block in range(3):
        process.stdin.write(bytes(BLOCK))
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 30)[0]
        assert process.stdout.readline() == f"{128 + block:#x} 1\n".encode()
    process.stdin.write(bytes(BLOCK - 1))
    process.stdin.flush()
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, b"")
    assert err == b"aionvme: appended 12288 bytes of stdin in 3 commands and no more: interrupted\n"


def test_no_zone_is_to_be_had(tmp_path: Path) -> None:
    """All zones that may be active were left so by another command: nothing is appended, and that is said. Exit status 1."""
    target = f"emu:zns?zones=4&zone_size=256KiB&mor=1&mar=1&zasl=32KiB&file={tmp_path}/image"
    assert command("append", target, "--zone", "0", stdin=content(BLOCK))[0] == b"0x0 1\n"
    out, err = command("append", target, "--zone", "1", "--json", stdin=content(20 * BLOCK), status=1)
    document = json.loads(out)
    assert (document["bytes"], document["appends"], document["stranded"]) == (0, [], [])
    assert "1 zones may be active at a time" in document["error"]
    assert document["error"] in err


def test_a_failure_half_way(tmp_path: Path) -> None:
    """Somebody else takes four blocks of a zone that the stream would have filled: the piece that does not fit fails, whichever
    it is, what is told is the stream before it, and what landed behind it is named."""
    data = content(64 * BLOCK)
    (tmp_path / "data").write_bytes(data)
    told: list[Piece] = []

    async def append() -> None:
        async with opened("emu:zns?zones=1&zone_size=256KiB&latency=1ms-9ms&seed=3") as ns:
            await ns.zones[0].refresh()
            appending = Appending(ns, [ns.zones[0]], 8 * BLOCK, told.append, pad=False)
            await ns.zone_append(0, bytes(4 * BLOCK))
            with (tmp_path / "data").open("rb") as stdin:
                await appending.run(stdin.fileno())
            assert "Zone Boundary Error" in str(appending.error)
            assert appending.told_bytes == len(told) * 8 * BLOCK
            assert appending.stranded
            landed = [*told, *appending.stranded]
            offsets = [piece.offset // (8 * BLOCK) for piece in landed]
            assert offsets == [piece for piece in range(8) if piece != len(told)]
            assert sorted(piece.lba for piece in landed) == list(range(4, 60, 8))
            for piece in landed:
                assert bytes(await ns.read(piece.lba, 8)) == data[piece.offset : piece.offset + 8 * BLOCK]

    asyncio.run(append())


def test_read(tmp_path: Path) -> None:
    """The bytes of the blocks that are named, by a decimal or hexadecimal LBA, across zones, and nothing else."""
    image = f"emu:zns?zones=4&zone_size=64KiB&file={tmp_path}/image"
    data = content(32 * BLOCK)
    command("append", image, "--zone", "0", "--size", "4KiB", "--roll", stdin=data)
    for lba, nlb in (("0", 1), ("0x1f", 1), ("15", 2), ("0x0", 32)):
        first = int(lba, 0) * BLOCK
        out, err = command("read", image, "--lba", lba, "--blocks", str(nlb))
        assert (out, err) == (data[first : first + nlb * BLOCK], "")


def test_read_is_not_for_terminals() -> None:
    """Data would garble it: exit status 2, and nothing is read."""
    master, slave = pty.openpty()
    process = subprocess.run(
        [*COMMAND, "read", "emu:zns", "--lba", "0", "--blocks", "1"], stdout=slave, stderr=subprocess.PIPE, timeout=30
    )
    os.close(slave)
    os.close(master)
    assert process.returncode == 2
    assert b"no terminal" in process.stderr


def test_read_to_somebody_who_leaves() -> None:
    """Nobody reads on: no traceback, the exit status of a SIGPIPE."""
    process = subprocess.Popen(
        [*COMMAND, "read", "emu:nvm", "--lba", "0", "--blocks", "131072"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (128 + signal.SIGPIPE, b"")
