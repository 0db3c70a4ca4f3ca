"""A trace has each I/O command that the test has sent, as it was sent and as it ended, and is a whole file or none."""

import os
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import numpy as np
import pytest

import aionvme
from aionvme.nvme import nvm as builders
from aionvme.queues import tracing
from tests.conftest import Place

pytestmark = [pytest.mark.anyio, pytest.mark.once, pytest.mark.feature("traces")]


def rows(trace: Any, *names: str) -> list[Any]:
    """The values of some fields, command by command."""
    return [tuple(row) for row in trace[list(names)].tolist()]


async def test_a_known_sequence(place: Place, tmp_path: Path) -> None:
    """One command after the other: a row for each, in this order, with the opcodes and dwords of the specification."""
    file = tmp_path / "run.npy"
    async with place.open(place.zns, trace=file) as ns:
        size, zsze = ns.lba_size, ns.zsze
        await ns.reset_zone(select_all=True)
        await ns.open_zone(zsze)
        lbas = [await ns.zone_append(zsze, bytes(n * size)) for n in (1, 3, 2)]
        await ns.write(2 * zsze, bytes(2 * size), fua=True)
        await ns.read(zsze + 1, 3)
        await ns.flush()
        await ns.report_zones(5 * zsze, nr_zones=2)
        await ns.finish_zone(zsze)
        with pytest.raises(aionvme.ZoneInvalidWriteError):
            await ns.write(3 * zsze + 9, bytes(size))
    trace = aionvme.load_trace(file)
    assert trace.dtype == aionvme.TRACE
    assert lbas == [zsze, zsze + 1, zsze + 4]
    assert rows(trace, "opcode", "slba", "nlb", "len_bytes", "action", "select_all", "status", "result") == [
        (0x79, 0, 0, 0, 4, True, 0, 0),
        (0x79, zsze, 0, 0, 3, False, 0, 0),
        (0x7D, zsze, 1, size, 0, False, 0, zsze),
        (0x7D, zsze, 3, 3 * size, 0, False, 0, zsze + 1),
        (0x7D, zsze, 2, 2 * size, 0, False, 0, zsze + 4),
        (0x01, 2 * zsze, 2, 2 * size, 0, False, 0, 0),
        (0x02, zsze + 1, 3, 3 * size, 0, False, 0, 0),
        (0x00, 0, 0, 0, 0, False, 0, 0),
        (0x7A, 5 * zsze, 0, 64 + 2 * 64, 0, False, 0, 0),
        (0x79, zsze, 0, 0, 2, False, 0, 0),
        (0x01, 3 * zsze + 9, 1, size, 0, False, 0x41BC, 0),
    ]
    assert set(trace["nsid"]) == {ns.nsid}
    assert set(trace["block_bytes"]) == {size}
    assert set(trace["zsze"]) == {zsze}
    assert set(trace["in_flight"]) == {1}
    assert not trace["errno"].any()
    assert trace["cdw12"].tolist()[5] == 1 << 30 | 1
    assert trace["cdw13"].tolist()[8] == 1 << 16  # a partial report of all zones
    assert (trace["submit_ns"] < trace["complete_ns"]).all()
    assert (trace["complete_ns"][:-1] <= trace["submit_ns"][1:]).all()


async def test_times_are_of_the_commands(nvm: aionvme.Namespace, place: Place, tmp_path: Path) -> None:
    """Two reads, 50 ms between them: that is their distance, counted from the opening."""
    start = time.monotonic_ns()
    async with place.open(nvm.target, trace=tmp_path / "run.npy") as ns:
        await ns.read(0, 1)
        await anyio.sleep(0.05)
        await ns.read(8, 1)
    spent = time.monotonic_ns() - start
    first, second = aionvme.load_trace(tmp_path / "run.npy")
    assert first["complete_ns"] + 49_000_000 < second["submit_ns"]
    assert first["submit_ns"] < first["complete_ns"]
    assert second["complete_ns"] < spent


async def test_times_begin_when_the_namespace_is_open(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before what opening submits: by a clock that each look moves on by 1, the first command is submitted 1 after it."""
    clock = SimpleNamespace(monotonic_ns=count(1000).__next__)
    monkeypatch.setattr(tracing, "time", clock)
    async with place.open(place.zns, trace=tmp_path / "run.npy") as ns:
        await ns.read(0, 1)
    (read,) = aionvme.load_trace(tmp_path / "run.npy")
    assert (read["opcode"], read["submit_ns"], read["complete_ns"]) == (0x02, 1, 2)


@pytest.mark.parametrize("limited", [False, True], ids=["whole", "limited"])
async def test_arrays_are_traced_command_by_command(
    nvm: aionvme.Namespace, place: Place, tmp_path: Path, limited: bool
) -> None:
    """3000 reads as an array, more than there is room for at first: a row for each in its order, never more in flight than
    allowed, and that many at times; what was read is right, and latencies are counted beside."""
    n, depth = 3000, 5
    slba = np.random.default_rng(3).integers(0, 64, n)
    async with place.open(nvm.target, trace=tmp_path / "run.npy", depth=8 if limited else depth) as ns:
        await ns.write(0, np.arange(64, dtype=np.uint8).repeat(ns.lba_size))
        reader = ns.limited(aionvme.Limiter(depth=depth)) if limited else ns
        into = ns.alloc(n * ns.lba_size)
        with ns.latencies() as seen:
            done = await reader.read_many(slba, 1, into)
    trace = aionvme.load_trace(tmp_path / "run.npy")[-n:]
    assert trace["slba"].tolist() == slba.tolist()
    assert not done["status"].any()
    assert (into.reshape(n, -1) == slba.astype(np.uint8)[:, None]).all()
    assert (trace["in_flight"].max(), trace["in_flight"].min()) == (depth, 1)
    assert len(np.unique(trace["submit_ns"])) > n / depth / 2
    assert (trace["submit_ns"] < trace["complete_ns"]).all()
    assert seen.n == n


async def test_concurrent_appends_have_the_results_that_they_got(place: Place, tmp_path: Path) -> None:
    """Appends of different lengths from many tasks: for each length, the trace has the LBA that its task was told."""
    told: dict[int, int] = {}
    async with place.open(place.zns, trace=tmp_path / "run.npy") as ns:
        await ns.reset_zone(0)

        async def append(nlb: int) -> None:
            told[nlb] = await ns.zone_append(0, bytes(nlb * ns.lba_size))

        async with anyio.create_task_group() as group:
            for nlb in range(1, 21):
                group.start_soon(append, nlb)
    trace = aionvme.load_trace(tmp_path / "run.npy")[1:]
    assert dict(rows(trace, "nlb", "result")) == told
    assert trace["in_flight"].tolist() == list(range(1, 21))


async def test_what_failed_is_in_it(nvm: aionvme.Namespace, place: Place, tmp_path: Path) -> None:
    """A command to a namespace that is not there ends with a status or an errno: the trace has the same one."""
    expected = (0, 0)
    async with place.open(nvm.target, trace=tmp_path / "run.npy") as ns:
        try:
            done = await ns.submit(builders.read(0, 1)._replace(nsid=77), into=bytearray(ns.lba_size))
            expected = (int(done.status), 0)
        except OSError as error:
            expected = (0, error.errno or 0)
    assert any(expected)
    assert rows(aionvme.load_trace(tmp_path / "run.npy"), "nsid", "status", "errno") == [(77, *expected)]


async def test_it_is_kept_when_an_exception_leaves(nvm: aionvme.Namespace, place: Place, tmp_path: Path) -> None:
    """Left by an exception, with other commands cancelled: what was sent is in the file, beside which there is nothing."""
    file = tmp_path / "run.npy"
    file.write_text("what was there before")
    with pytest.raises(KeyError):
        async with place.open(nvm.target, trace=str(file)) as ns:
            await ns.read(3, 1)
            assert file.read_text() == "what was there before"
            raise KeyError("boom")
    assert rows(aionvme.load_trace(file), "slba") == [(3,)]
    assert os.listdir(tmp_path) == ["run.npy"]


async def test_a_forked_child_leaves_the_file_to_its_parent(place: Place, tmp_path: Path) -> None:
    """A child that leaves the namespace, too, writes nothing: the trace is the parent's, and has what that sent afterwards."""
    file = tmp_path / "run.npy"
    opening = place.open(place.nvm_512, trace=file)
    ns = await opening.__aenter__()
    await ns.read(1, 1)
    child = os.fork()
    if child == 0:
        leaving = opening.__aexit__(None, None, None)
        try:
            leaving.send(None)
        finally:
            os._exit(file.exists())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    await ns.read(2, 1)
    await opening.__aexit__(None, None, None)
    assert rows(aionvme.load_trace(file), "slba") == [(1,), (2,)]


async def test_no_command_no_rows(place: Place, tmp_path: Path) -> None:
    """A namespace that only sent admin commands has a trace without rows, through a link in the file that it names."""
    (tmp_path / "link.npy").symlink_to("run.npy")
    async with place.open(place.nvm_512, trace=tmp_path / "link.npy") as ns:
        await ns.submit_admin(aionvme.Command(opcode=0x0A, cdw10=0x07))
    assert (tmp_path / "link.npy").is_symlink()
    assert aionvme.load_trace(tmp_path / "run.npy").shape == (0,)


@pytest.mark.parametrize(
    ("path", "reason"),
    [("none/run.npy", "No such file"), (".", "not a file"), ("/dev/null", "not a file"), ("a\0b", "null"), (7, "int")],
)
async def test_a_file_that_cannot_be_is_refused_first(tmp_path: Path, path: Any, reason: str) -> None:
    """UsageError, before the target is looked at: this one does not exist, and would be told of otherwise."""
    place = tmp_path / path if isinstance(path, str) and "\0" not in path else path
    with pytest.raises(aionvme.UsageError, match=f"trace=.*{reason}"):
        async with aionvme.open("/dev/ng77n1", trace=place):
            pass
    assert os.path.exists("/dev/null")


async def test_an_opening_that_fails_leaves_the_file_alone(tmp_path: Path) -> None:
    """Nothing was traced, and nothing that was there is lost."""
    file = tmp_path / "run.npy"
    file.write_text("what was there before")
    with pytest.raises(OSError, match="ng77n1"):
        async with aionvme.open("/dev/ng77n1", trace=file):
            pass
    assert file.read_text() == "what was there before"


async def test_a_file_that_cannot_be_written_in_the_end_is_told(place: Place, tmp_path: Path) -> None:
    """OSError when the namespace has been left, and nothing half is left: here the folder has gone meanwhile."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FileNotFoundError):
        async with place.open(place.nvm_512, trace=folder / "run.npy") as ns:
            await ns.read(0, 1)
            folder.rmdir()
    assert not os.listdir(tmp_path)


def kinds_of_files(folder: Path) -> list[Path]:
    """Files that hold no trace."""
    whole = folder / "whole.npy"
    np.save(whole, np.zeros(3, aionvme.TRACE))
    others = {
        "text.npy": b"hello",
        "empty.npy": b"",
        "short.npy": whole.read_bytes()[:-1],
        "header.npy": whole.read_bytes()[:20],
    }
    for name, content in others.items():
        (folder / name).write_bytes(content)
    np.save(folder / "numbers.npy", np.arange(3))
    np.save(folder / "square.npy", np.zeros((3, 3), aionvme.TRACE))
    np.save(folder / "objects.npy", np.array([None]), allow_pickle=True)
    np.savez(folder / "several.npz", np.zeros(3, aionvme.TRACE))
    return [folder / name for name in (*others, "numbers.npy", "square.npy", "objects.npy", "several.npz")]


def test_other_files_are_refused(tmp_path: Path) -> None:
    """UsageError naming the file for whatever is not an array of commands, OSError for what is not there."""
    for file in kinds_of_files(tmp_path):
        with pytest.raises(aionvme.UsageError, match=file.name):
            aionvme.load_trace(file)
    with pytest.raises(FileNotFoundError):
        aionvme.load_trace(tmp_path / "none.npy")
    assert len(aionvme.load_trace(str(tmp_path / "whole.npy"))) == 3
