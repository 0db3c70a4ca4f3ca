"""A namespace whose block device is in use is not written to: with real mounts, swap, partitions and mapped devices."""

import fcntl
import os
import struct
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aionvme
from aionvme import Command, Namespace
from aionvme.cli import main
from aionvme.devices import find
from aionvme.in_use import users_of
from tests.conftest import node
from tests.guest.traps import instead

pytestmark = [pytest.mark.anyio, pytest.mark.feature("namespaces in use are not written to")]

SPARE_MODULES = Path("/run/modules/spare")
BLKRRPART = 0x125F
SUPERBLOCK_MAGIC = slice(1024 + 56, 1024 + 58)


@pytest.fixture
def anyio_backend() -> str:
    """What is tested here is the kernel's."""
    return "asyncio"


@pytest.fixture(scope="module")
def target() -> str:
    """The character device of a namespace that nobody needs."""
    return node(20)


@pytest.fixture(scope="module")
def disk(target: str) -> Iterator[str]:
    """Its block device, and the modules that use it; empty afterwards."""
    for module in sorted(SPARE_MODULES.glob("*.ko")):
        run("/bin/busybox", "insmod", str(module))
    disk = f"/dev/{find(Path(target)).block_name}"
    yield disk
    erase(disk)


def run(*command: str) -> None:
    """Run a program that must succeed."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def erase(disk: str) -> None:
    """Take the first MiB off it, and its partitions."""
    with open(disk, "wb", buffering=0) as device:
        device.write(bytes(1 << 20))
        os.fsync(device.fileno())
        # Somebody who only looks (a probe of what is on it) may have it open still.
        with suppress(OSError):
            fcntl.ioctl(device, BLKRRPART)


@contextmanager
def mounted(disk: str, tmp_path: Path) -> Iterator[str]:
    """An ext4 file system, mounted on a path with a space in it."""
    run("/sbin/mkfs.ext4", "-q", "-F", disk)
    where = tmp_path / "a mount"
    where.mkdir()
    run("/bin/mount", "-t", "ext4", disk, str(where))
    try:
        yield f"{disk} is mounted on {where}"
    finally:
        run("/bin/umount", str(where))


@contextmanager
def swapping(disk: str, tmp_path: Path) -> Iterator[str]:
    """Swap space on all of it."""
    run("/sbin/mkswap", disk)
    run("/sbin/swapon", disk)
    try:
        yield f"{disk} is swap space"
    finally:
        run("/sbin/swapoff", disk)


@contextmanager
def partition(disk: str, tmp_path: Path) -> Iterator[str]:
    """A partition that is swap space, on a disk that nobody uses as such."""
    entry = struct.pack("<8B2I", 0, 0, 0, 0, 0x82, 0, 0, 0, 2048, 8192)
    with open(disk, "r+b", buffering=0) as device:
        device.write(bytes(446) + entry + bytes(48) + b"\x55\xaa")
        os.fsync(device.fileno())
        fcntl.ioctl(device, BLKRRPART)
    with swapping(f"{disk}p1", tmp_path) as use:
        yield use


@contextmanager
def mapped(disk: str, tmp_path: Path) -> Iterator[str]:
    """A mapped device over it."""
    run("/sbin/dmsetup", "create", "over-it", "--noudevsync", "--table", f"0 8192 linear {disk} 0")
    try:
        asked = ["/sbin/dmsetup", "info", "-c", "--noheadings", "-o", "blkdevname", "over-it"]
        name = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
        yield f"{disk} is part of /dev/{name} (over-it)"
    finally:
        run("/sbin/dmsetup", "remove", "--noudevsync", "over-it")


@contextmanager
def held(disk: str, tmp_path: Path) -> Iterator[str]:
    """Held exclusively by a program."""
    fd = os.open(disk, os.O_RDWR | os.O_EXCL)
    try:
        yield f"{disk} or a partition is held exclusively"
    finally:
        os.close(fd)


USES = [mounted, swapping, partition, mapped, held]


def block() -> np.ndarray:
    """A buffer of one block."""
    return np.zeros(512, np.uint8)


WRITES: list[Callable[[Namespace], Any]] = [
    lambda ns: ns.write(0, block()),
    lambda ns: ns.write(0, np.zeros(1 << 20, np.uint8)),
    lambda ns: ns.write_zeroes(0, 1),
    lambda ns: ns.deallocate([(0, 1)]),
    lambda ns: ns.copy(8, [(0, 1)]),
    lambda ns: ns.write_many([0, 1], 1, np.zeros(1024, np.uint8)),
    lambda ns: ns.submit_many([Command(0x08)]),
    lambda ns: ns.submit(Command(0x04)),
    lambda ns: ns.submit(Command(0x90)),
    lambda ns: ns.submit_admin(Command(0x80, nsid=20)),  # Format NVM
    lambda ns: ns.submit_admin(Command(0x84, cdw10=2)),  # Sanitize: a block erase
    lambda ns: ns.submit_admin(Command(0x0D, nsid=20, cdw10=1)),  # Namespace Management: delete
    lambda ns: ns.submit_admin(Command(0x15, nsid=20, cdw10=1)),  # Namespace Attachment: detach
    lambda ns: ns.submit_admin(Command(0xC0)),
]


ZONE_WRITES: list[Callable[[Namespace], Any]] = [
    lambda ns: ns.zone_append(0, bytes(4096)),
    lambda ns: ns.append_many([0], 1, bytes(4096)),
    lambda ns: ns.reset_zone(0),
    lambda ns: ns.reset_zone(select_all=True),
    lambda ns: ns.finish_zone(0),
    lambda ns: ns.open_zone(0),
    lambda ns: ns.zones[0].append(bytes(4096)),
    lambda ns: ns.zones[0].reset(),
    lambda ns: aionvme.ZoneLog.create(ns, ns.zones[:2]),
]


async def refused(ns: Namespace, call: Callable[[Namespace], Any], use: str) -> None:
    """Expect NamespaceInUseError that names the use and the way out, and nothing submitted."""
    before = ns._io.submitted + ns._admin.submitted
    with pytest.raises(aionvme.NamespaceInUseError) as caught:
        await call(ns)
    assert use in str(caught.value)
    assert "force=True" in str(caught.value)
    assert ns._io.submitted + ns._admin.submitted == before


@asynccontextmanager
async def written_once(target: str, **options: Any) -> AsyncIterator[Namespace]:
    """An open namespace whose last block is written as often as it can be."""
    async with aionvme.open(target, **options) as ns:
        await ns.write(ns.nsze - 1, np.full(512, 7, np.uint8))
        yield ns


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_what_is_in_use_is_read_and_not_written(disk: str, target: str, tmp_path: Path, use: Any) -> None:
    """Each use is named by whatever would write; reading works, and so does writing with force=True, and without afterwards."""
    with ExitStack() as stack:
        stack.callback(erase, disk)
        words = stack.enter_context(use(disk, tmp_path))
        async with aionvme.open(target) as ns:
            assert words in (ns.why_not_writable or "")
            for call in WRITES:
                await refused(ns, call, words)
            head = await ns.read(0, 8)
            if use is mounted:
                assert head[SUPERBLOCK_MAGIC].tobytes() == b"\x53\xef"
            await ns.flush()
        async with written_once(target, force=True) as ns:
            assert ns.why_not_writable is None
    async with written_once(target) as ns:
        assert ns.why_not_writable is None


async def test_zones_in_use(tmp_path: Path) -> None:
    """Zones in use are reported, not appended to and not reset; those that come into use later are not reset."""
    zoned = node(2)
    disk = f"/dev/{find(Path(zoned)).block_name}"
    async with aionvme.open(zoned) as later:
        await later.reset_zone(0)
        with held(disk, tmp_path) as words:
            async with aionvme.open(zoned) as ns:
                for call in ZONE_WRITES:
                    await refused(ns, call, words)
                assert (await ns.report_zones(0, nr_zones=1))["zs"] == aionvme.ZoneState.EMPTY
            resets: list[Callable[[Namespace], Any]] = [
                lambda ns: ns.reset_zone(0),
                lambda ns: ns.submit_many([Command(0x79, cdw13=action) for action in (1, 4, 3)]),
            ]
            for call in resets:
                await refused(later, call, words)
            with pytest.raises(aionvme.NamespaceInUseError):
                await later.zones[0].reset()  # which may ask for the zone's state first
        await later.zones[0].reset()


def test_a_mount_that_is_not_seen_from_here(disk: str, tmp_path: Path) -> None:
    """A file system of another mount namespace is found by what sysfs says, where there is no node of the block device to ask."""
    run("/sbin/mkfs.ext4", "-q", "-F", disk)
    script = f"mount --make-rprivate / && mount -t ext4 {disk} {tmp_path} && echo mounted && read _; umount {tmp_path}"
    command = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c", script]
    name = Path(disk).name
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as elsewhere:
            assert elsewhere.stdout is not None
            assert elsewhere.stdout.readline() == b"mounted\n"
            assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
            with instead(disk, lambda: None):
                assert users_of(name) == [f"{disk} is mounted (ext4), though not where this process sees it"]
        assert users_of(name) == []
    finally:
        erase(disk)


async def test_what_comes_into_use_later(disk: str, target: str, tmp_path: Path) -> None:
    """What is rare and destroys much looks again, also from another namespace of the controller; a write does not."""
    async with aionvme.open(target) as ns, aionvme.open(node(1)) as other, aionvme.open(target, force=True) as forced:
        with held(disk, tmp_path) as words:
            await refused(ns, lambda ns: ns.deallocate([(0, 1)]), words)
            await refused(ns, lambda ns: ns.submit_many([Command(0x09, cdw11=4)], bytearray(16)), words)
            for which in (ns, other):
                await refused(which, lambda ns: ns.submit_admin(Command(0x80, nsid=20)), words)
                await refused(which, lambda ns: ns.admin.submit(Command(0x80, nsid=20)), words)
            async with aionvme.open_controller(find(Path(target)).controller) as controller:
                with pytest.raises(aionvme.NamespaceInUseError, match="held exclusively"):
                    await controller.submit(Command(0x80, nsid=20))
            with pytest.raises(aionvme.NamespaceInUseError, match="held exclusively"):
                ns.check_writable()
            other.check_writable()
            forced.check_writable()
            await ns.write(ns.nsze - 1, block())
            await forced.deallocate([(ns.nsze - 1, 1)])
        await ns.deallocate([(ns.nsze - 1, 1)])


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\x0bb", b"a\rb", "a\u2028b".encode(), b"a - b"])
def test_odd_names_of_mount_points(disk: str, tmp_path: Path, name: bytes) -> None:
    """Whatever somebody else's mount point is called, uses are found, and nothing else is."""
    odd = os.path.join(os.fsencode(tmp_path), name)
    os.mkdir(odd)
    subprocess.run([b"/bin/mount", b"-t", b"tmpfs", b"none", odd], check=True)
    try:
        assert users_of(Path(disk).name) == []
        with held(disk, tmp_path) as words:
            (use,) = users_of(Path(disk).name)
            assert words in use
    finally:
        subprocess.run([b"/bin/umount", odd], check=True)


def test_who_looks_is_not_taken_for_a_user(disk: str) -> None:
    """To ask whether a block device is held is to hold it for a moment; askers do not see each other."""
    name = Path(disk).name
    seen: list[str] = []

    def look() -> None:
        for _ in range(10):
            seen.extend(users_of(name))

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not seen


def test_the_command_line(disk: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What writes is refused with the use named, and goes with --force."""
    with held(disk, tmp_path) as words:
        writes = ["bench", target, "--depth", "1", "--seconds", "0.01", "--pattern", "write", "--overwrite"]
        assert main(writes) == 1
        error = capsys.readouterr().err
        assert words in error
        assert "--force" in error
        assert main([*writes, "--force"]) == 0
