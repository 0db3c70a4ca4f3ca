"""A namespace in the hands of an ordinary user, who has permission on its node, perhaps on the controller's, and no capability.

The process gives up root for a test: that takes its capabilities away as well, and the kernel asks for nothing else.
"""

import asyncio
import os
import resource
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aionvme
from aionvme import Command
from aionvme.cli import main
from aionvme.devices import find, kernel_version
from aionvme.nvme import nvm
from aionvme.nvme.admin import get_log_page, identify
from tests.conftest import Place, controller_node, node

pytestmark = pytest.mark.anyio

NOBODY = 65534


@pytest.fixture(params=[("asyncio", {}), ("trio", {})], ids=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """What is tested here is the kernel's, and a queue that has no file descriptor to wait for."""
    return request.param


since_6_2 = pytest.mark.feature("without root", since=(6, 2))


@contextmanager
def modes(*nodes: tuple[str | Path, int]) -> Iterator[None]:
    """Device nodes of another mode for a while."""
    before = [(path, os.stat(path).st_mode & 0o777) for path, _ in nodes]
    for path, mode in nodes:
        os.chmod(path, mode)
    try:
        yield
    finally:
        for path, mode in before:
            os.chmod(path, mode)


@contextmanager
def nobody() -> Iterator[None]:
    """Not root, and without capabilities."""
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        status = Path("/proc/self/status").read_text()
        assert "\nCapEff:\t0000000000000000\n" in status
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@asynccontextmanager
async def opened(target: str, mode: int = 0o666, controller: int = 0o600, **options: Any) -> AsyncIterator[Any]:
    """A namespace opened by nobody, with these modes of the two nodes."""
    with modes((target, mode), (find(Path(target)).controller, controller)), nobody():
        async with aionvme.open(target, **options) as ns:
            yield ns


def refused(rule: str) -> Any:
    """Expect PermissionError that names the rule."""
    return pytest.raises(PermissionError, match=rule)


if kernel_version() < (6, 2):

    async def test_before_linux_6_2() -> None:
        """Nothing goes without CAP_SYS_ADMIN, which the error says."""
        for controller in (0o600, 0o666):
            with refused("before Linux 6.2 passthrough needs CAP_SYS_ADMIN"):
                async with opened(node(1), controller=controller):
                    pass


COMMANDS: dict[int, tuple[Command, dict[str, Any]]] = {
    command.opcode: (command, buffers)
    for command, buffers in (
        (nvm.flush(), {}),
        (nvm.write(0, 1), {"data": bytes(512)}),
        (nvm.read(0, 1), {"into": bytearray(512)}),
        (nvm.compare(0, 1), {"data": bytes(512)}),
        (nvm.write_zeroes(0, 8), {}),
        (nvm.dataset_management(1, deallocate=True), {"data": nvm.dsm_ranges([(0, 8)])}),
        (nvm.verify(0, 8), {}),
        (nvm.copy(100, 1), {"data": nvm.copy_ranges([(0, 8)])}),
    )
}
"""By opcode, all that succeed on an empty block 0 in this order."""


@since_6_2
@pytest.mark.parametrize("controller", [0o600, 0o666], ids=["namespace's node", "both nodes"])
async def test_a_user_with_the_node(place: Place, controller: int) -> None:
    """Who may read and write the namespace's node has all of the API, with and without the controller's."""
    async with opened(place.nvm_512, controller=controller, queue=place.queue) as ns:
        assert ns.queue.kind == place.queue
        assert (ns.nsid, ns.lba_size, ns.nsze, ns.zoned) == (1, 512, 131072, False)
        data = np.arange(4096, dtype=np.uint16)
        await ns.write(100, data)
        into = ns.alloc(data.nbytes)
        await ns.read(100, data.nbytes // 512, into=into)
        assert (into.view(np.uint16) == data).all()
        await ns.flush()
        await ns.deallocate([(100, 1)])
        assert not (await ns.submit_admin(identify(0x01), into=bytearray(4096))).status


@since_6_2
async def test_pieces_and_arrays(place: Place) -> None:
    """Data in several pieces, and arrays of commands in registered and in other memory, pass as single commands do."""
    random = np.random.default_rng(5)  # whose modules nobody may not read
    data, starts = random.integers(0, 256, 64 * 512, np.uint8), random.permutation(64) + 300
    async with opened(place.nvm_512, queue=place.queue) as ns:
        pieces = [data[:1000], data[1000:1004], data[1004:]]
        await ns.write(200, pieces)
        into = [np.zeros_like(piece) for piece in pieces]
        await ns.read(200, 64, into=into)
        assert (np.concatenate(into) == data).all()
        for memory in (ns.alloc(data.nbytes), np.empty(data.nbytes, np.uint8)):
            memory[:] = data[::-1]
            done = await ns.write_many(starts, 1, memory)
            assert not done["status"].any()
            assert not done["errno"].any()
            memory[:] = 0
            done = await ns.read_many(starts, 1, memory)
            assert not done["status"].any()
            assert not done["errno"].any()
            assert (memory == data[::-1]).all()
        assert (await ns.read(starts[3], 1) == data[::-1][3 * 512 : 4 * 512]).all()


@since_6_2
async def test_blocks_that_are_not_moved(place: Place) -> None:
    """Compare, copy, verify and write zeroes do what they do for root."""
    data = np.random.default_rng(7).integers(1, 256, 8 * 512, np.uint8)
    async with opened(place.nvm_512, queue=place.queue) as ns:
        await ns.write(400, data)
        await ns.compare(400, data)
        with pytest.raises(aionvme.CompareFailureError):
            await ns.compare(400, data[::-1].copy())
        await ns.copy(420, [(400, 3), (405, 3)])
        assert (await ns.read(420, 6) == np.concatenate([data[: 3 * 512], data[5 * 512 :]])).all()
        await ns.verify(400, 8)
        await ns.write_zeroes(401, 2)
        assert not (await ns.read(401, 2)).any()
        assert (await ns.read(403, 5) == data[3 * 512 :]).all()


DATA: dict[int, dict[str, Any]] = {
    0x0D: {"data": bytes(16)},
    0x0E: {"into": bytearray(4)},
    0x11: {"data": bytes(16)},
    0x12: {"into": bytearray(4)},
    0x15: {"data": bytes(8)},
}
"""What reservations and I/O Management Receive move where their dwords are 0 (Base 2.0, section 7; NVM Command Set 1.0)."""

LBCC = 1 << 1
"""Commands Supported and Effects: the command changes blocks."""


@since_6_2
async def test_the_log_of_effects_decides(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may write to the node has what the controller's log supports with no other effect than that it changes blocks, and
    nothing else. Who may only read has of that what neither sends data, as odd opcodes do, nor changes any."""
    async with aionvme.open_controller(controller_node("nvme0")) as controller:
        effects = (await controller.commands_supported(0)).iocs
    assert all(effect & 0xFFFF in (0, 1, 1 | LBCC) for effect in effects)
    supported = {opcode: effect & LBCC for opcode, effect in enumerate(effects) if effect & 1}
    assert supported.keys() >= COMMANDS.keys()
    async with opened(node(1), queue=place.queue) as ns:
        for command, buffers in COMMANDS.values():
            assert await ns.submit(command, **buffers) == (0, 0), command
        for opcode in range(0x03, 0x79):  # above are those of zones, with data
            if opcode not in supported:
                with refused("Commands Supported and Effects"):
                    await ns.submit(Command(opcode), **DATA.get(opcode, {}))
    async with opened(node(1), 0o644, queue=place.queue, readonly=True) as ns:
        monkeypatch.setattr(ns._geometry.guard, "why_not", None)  # the library would not let it come to that
        for opcode, (command, buffers) in COMMANDS.items():
            if opcode & 1 or supported[opcode]:
                with refused("opened for writing"):
                    await ns.submit(command, **buffers)
            else:
                assert await ns.submit(command, **buffers) == (0, 0), command


@since_6_2
async def test_zones(place: Place) -> None:
    """That it is zoned is found out in another way than by the list of identification descriptors, which is not for everybody."""
    async with opened(place.zns, queue=place.queue) as ns:
        assert (ns.zoned, ns.nr_zones, ns.mor, ns.mar) == (True, 32, 6, 8)
        await ns.reset_zone(select_all=True)
        lba = await ns.zone_append(ns.zsze, b"\x11" * 4096)
        assert lba == ns.zsze
        assert (await ns.read(lba, 1))[0] == 0x11
        await ns.reset_zone(select_all=True)


@since_6_2
async def test_auto_chooses_as_it_does_for_root() -> None:
    """No privilege is needed for a polled queue."""
    async with aionvme.open(node(1)) as ns:
        privileged = ns.queue
    async with opened(node(1)) as ns:
        assert ns.queue == privileged


@since_6_2
async def test_what_is_for_the_privileged() -> None:
    """What the kernel refuses raises PermissionError that names the rule."""
    async with opened(node(1)) as ns:
        with refused(r"vendor specific and fabrics commands .*0x90.* need CAP_SYS_ADMIN"):
            await ns.submit(Command(0x90))
        with refused("Commands Supported and Effects"):  # Reservation Report, which this controller does not have
            await ns.submit(Command(0x0E, cdw10=15, cdw11=1), into=bytearray(64))
        with refused("admin commands other than Identify need CAP_SYS_ADMIN"):
            await ns.submit_admin(get_log_page(0x02, 512), into=bytearray(512))
        pieces = [bytearray(4000), bytearray(96)]
        await ns.submit_admin(identify(0x01), into=pieces)
        assert b"".join(pieces) == ns.controller.raw.tobytes()
        with refused("Identify with CNS 0x03 needs CAP_SYS_ADMIN"):
            await ns.submit_admin(identify(0x03, nsid=1), into=bytearray(4096))
        assert len(await ns.read(0, 1)) == 512


@since_6_2
async def test_a_user_who_may_only_read() -> None:
    """Opened with readonly=True it reads; otherwise the error says that it would."""
    target = node(1)
    with refused("readonly=True"):
        async with opened(target, 0o644):
            pass
    with refused("not allowed to open it for reading and writing"):
        async with opened(target, 0o600):
            pass
    async with opened(target, 0o644, readonly=True) as ns:
        assert len(await ns.read(0, 8)) == 4096
        with pytest.raises(aionvme.ReadOnlyError):
            await ns.write(0, bytes(512))
        with refused("needs the device opened for writing"):
            await ns.compare(0, bytes(512))  # which sends data


@since_6_2
async def test_little_memory_that_may_be_locked() -> None:
    """Where registered buffers have no room, buffers are ordinary ones."""
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, before[1]))
    try:
        async with opened(node(1)) as ns:
            buffer = ns.alloc(1 << 20)
            assert ns._pool.buf_index(buffer.ctypes.data, buffer.nbytes) == -1
            await ns.read(0, len(buffer) // 512, into=buffer)
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


@since_6_2
def test_a_process_of_another_user() -> None:
    """One that gives up root for good, and with it what the rest of these tests still has: the real user id, its own /proc."""
    target = node(2)
    reader, writer = os.pipe()

    async def read() -> str:
        async with aionvme.open(target, readonly=True) as ns:
            return f"{ns.lba_size} {ns.zoned} {len(await ns.read(0, 1))}"

    with modes((target, 0o644)):
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                os.write(writer, asyncio.run(read()).encode())
            except BaseException:
                os.write(writer, traceback.format_exc().encode())
            finally:
                os._exit(0)
        os.waitpid(child, 0)
    assert os.read(reader, 65536).decode() == "4096 True 4096"
    os.close(reader)
    os.close(writer)


@since_6_2
def test_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It tells what a user may know, and why the rest is missing."""
    target = node(2)
    assert main(["info", target]) == 0
    page = capsys.readouterr().out
    assert "CAP_SYS_ADMIN" not in page
    with modes((target, 0o644)), nobody():
        assert main(["info", target]) == 0
    assert capsys.readouterr().out.startswith(page[: page.index("Health")])
