"""fio as a witness: what it writes is read here, and what is written here it reads, through the same driver and controller.

fio begins each block with a header that says what it is and where it belongs, with a checksum of its own, and has a checksum of
the rest after it. Both are CRC-32C, without the inversion at its end. The layout is that of ``struct verify_header`` and ``struct
vhdr_crc32`` in fio's verify.h, as of version 3.33.
"""

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import aionvme
from tests.conftest import node

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.feature("fio reads what aionvme writes, and the other way round"),
]

HEADER = struct.Struct("<HHIQQIIHHI")
"""Magic, kind of checksum, length, seed, offset, seconds, nanoseconds, thread, number of the I/O, checksum of what is before."""
assert HEADER.size == 40
MAGIC, CRC32C = 0xACCA, 5
PAYLOAD = HEADER.size + 4

ZONE = 4 << 20
"""Size of a zone of the namespace here, in bytes."""


@pytest.fixture
def anyio_backend() -> str:
    """What loop it is matters little here, and fio is slow to start in the guest."""
    return "asyncio"


def _table() -> list[int]:
    table = list(range(256))
    for _ in range(8):
        table = [crc >> 1 ^ (0x82F63B78 if crc & 1 else 0) for crc in table]
    return table


TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli), byte by byte."""
    crc = 0xFFFF_FFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFF_FFFF


def inverted(crc: int) -> int:
    """The checksum as fio stores it."""
    return crc ^ 0xFFFF_FFFF


def fio(target: str, bs: int, size: int, *options: str, state: Path) -> subprocess.CompletedProcess[str]:
    """Run fio over passthrough from the start of a namespace; what it leaves behind goes to ``state``."""
    command = ["fio", "--name=witness", f"--filename={target}", "--ioengine=io_uring_cmd", "--cmd_type=nvme"]
    command += [f"--bs={bs}", f"--size={size}", "--verify=crc32c", "--verify_state_save=0", *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=state, timeout=60)


def verified(target: str, bs: int, size: int, *options: str, state: Path) -> bool:
    """Whether fio reads its blocks there and finds them good; if not, it must be the verification that failed."""
    done = fio(target, bs, size, "--rw=read", *options, state=state)
    assert done.returncode == 0 or "verify" in done.stderr, done.stderr
    return done.returncode == 0


def parts(data: NDArray[np.uint8], bs: int) -> Iterator[tuple[int, bytes]]:
    """Offsets and blocks of fio's."""
    for offset in range(0, len(data), bs):
        yield offset, data[offset : offset + bs].tobytes()


def check(data: NDArray[np.uint8], bs: int) -> None:
    """Each block is where it belongs, and says so."""
    for offset, part in parts(data, bs):
        magic, kind, length, _, place, *_, header_crc = HEADER.unpack_from(part)
        assert (magic, kind, length, place) == (MAGIC, CRC32C, bs, offset)
        assert header_crc == inverted(crc32c(part[: HEADER.size - 4]))
        assert part[HEADER.size : PAYLOAD] == inverted(crc32c(part[PAYLOAD:])).to_bytes(4, "little")


def composed(data: NDArray[np.uint8], bs: int) -> NDArray[np.uint8]:
    """The same blocks with other contents, header and all. The seeds stay: fio knows which ones there must be."""
    made = bytearray()
    for offset, part in parts(data, bs):
        payload = np.random.default_rng(offset).bytes(bs - PAYLOAD)
        seed = HEADER.unpack_from(part)[3]
        header = HEADER.pack(MAGIC, CRC32C, bs, seed, offset, 1, 2, 0, offset // bs, 0)[:-4]
        made += (
            header + inverted(crc32c(header)).to_bytes(4, "little") + inverted(crc32c(payload)).to_bytes(4, "little")
        )
        made += payload
    return np.frombuffer(bytes(made), np.uint8)


def test_the_checksum() -> None:
    """The check value of CRC-32C, that of the digits 1 to 9."""
    assert crc32c(b"123456789") == 0xE306_9283


async def written_by_fio(target: str, bs: int, size: int, state: Path) -> NDArray[np.uint8]:
    """Blocks that fio wrote, each of them where it belongs."""
    done = fio(target, bs, size, "--rw=write", "--do_verify=0", state=state)
    assert done.returncode == 0, done.stderr
    async with aionvme.open(target, queue="interrupt") as ns:
        data = await ns.read(0, size // ns.lba_size)
    check(data, bs)
    return data


@pytest.mark.parametrize(
    ("nsid", "controller", "lba_size", "bs", "size"),
    [(1, "nvme1", 512, 4096, 65536), (1, "nvme1", 512, 131072, 262144), (3, "nvme0", 4096, 16384, 131072)],
)
async def test_conventional(nsid: int, controller: str, lba_size: int, bs: int, size: int, tmp_path: Path) -> None:
    """Blocks that fio wrote are all there. Written to a namespace of another controller, or once more to the same, with other
    contents, they are good for fio, until a bit of them is not as it was."""
    data = await written_by_fio(node(nsid), bs, size, tmp_path)
    target = node(nsid, controller)
    async with aionvme.open(target, queue="interrupt") as ns:
        assert ns.lba_size == lba_size
        await ns.write_zeroes(0, size // lba_size)
        await ns.write(0, composed(data, bs))
        assert verified(target, bs, size, state=tmp_path)
        last = size // lba_size - 1
        block = await ns.read(last, 1)
        block[-1] ^= 0x10
        await ns.write(last, block)
        assert not verified(target, bs, size, state=tmp_path)


async def test_zoned(tmp_path: Path) -> None:
    """fio reads blocks from a zone, by its own account of zones, that were appended to it one after the other; and what fio wrote
    to a zone is read here, where its write pointer says."""
    bs, size = 16384, 131072
    data = await written_by_fio(node(3), bs, size, tmp_path)
    target = node(2)
    zones = ("--zonemode=zbd", f"--io_size={size}")
    async with aionvme.open(target, queue="interrupt") as ns:
        await ns.reset_zone(select_all=True)
        for offset, part in parts(composed(data, bs), bs):
            assert await ns.zone_append(0, part) == offset // ns.lba_size
        assert verified(target, bs, ZONE, *zones, state=tmp_path)
        await ns.reset_zone(0)
        done = fio(target, bs, ZONE, "--rw=write", "--do_verify=0", *zones, state=tmp_path)
        assert done.returncode == 0, done.stderr
        assert (await ns.report_zones())[0]["wp"] == size // ns.lba_size
        check(await ns.read(0, size // ns.lba_size), bs)
