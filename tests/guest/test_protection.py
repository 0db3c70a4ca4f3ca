"""Protection information: the controller checks what the host has made, and the host what the controller has."""

from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import aionvme
from aionvme.nvme import nvm
from aionvme.nvme.protection import PRCHK_GUARD, ProtectionFormat
from tests.conftest import Place, guest, node

pytestmark = pytest.mark.anyio


class Format(NamedTuple):
    """A namespace of the test bed's, as tests/vm/devices.py describes it."""

    nsid: int
    type: int
    lba_size: int
    ms: int = 8
    extended: bool = False
    first: bool = False

    @property
    def block_bytes(self) -> int:
        """Bytes of a block in a data buffer."""
        return self.lba_size + (self.ms if self.extended and self.ms > 8 else 0)


FORMATS = [
    Format(2, type=1, lba_size=512),
    Format(3, type=1, lba_size=4096, extended=True),
    Format(4, type=2, lba_size=512, extended=True),
    Format(5, type=3, lba_size=4096),
    Format(6, type=1, lba_size=512, ms=16),
    Format(7, type=2, lba_size=4096, ms=16, extended=True, first=True),
]


def formats(*wanted: Format) -> pytest.MarkDecorator:
    """Parameters, each with the type of its protection information as a feature."""
    return pytest.mark.parametrize(
        "form",
        [
            pytest.param(
                form,
                id=f"type{form.type}-{form.lba_size}-{form.ms}{'-extended' * form.extended}",
                marks=pytest.mark.feature(f"protection information type {form.type}"),
            )
            for form in wanted
        ],
    )


ALL: pytest.MarkDecorator = formats(*FORMATS)

ONE_PATH: pytest.MarkDecorator = pytest.mark.parametrize("place", guest()[:1], ids=lambda place: place.queue)
"""Where it is the controller that matters, and not the way to it."""

STRIPPED: pytest.MarkDecorator = formats(*(form for form in FORMATS if form.ms == 8))
"""Those whose metadata is nothing else."""


@pytest.fixture
def anyio_backend() -> str:
    """What is tested is the kernel's and the controller's, whatever the loop."""
    return "asyncio"


@pytest.fixture
async def ns(place: Place, form: Format) -> AsyncIterator[aionvme.Namespace]:
    """A namespace of that format."""
    async with place.open(node(form.nsid, "nvme2")) as opened:
        yield opened


class Blocks:
    """Blocks with noise for data and, where there is more to it, metadata."""

    def __init__(self, form: Format, n: int, seed: int) -> None:
        self.form = form
        noise = np.random.default_rng(seed).integers(0, 256, (n, form.lba_size + form.ms), np.uint8)
        self.data, self.metadata = noise[:, : form.lba_size], noise[:, form.lba_size :]
        self.buffer = np.ascontiguousarray(noise[:, : form.block_bytes]).reshape(-1)
        self.beside: dict[str, Any] = {}
        """What a write takes besides."""
        if form.ms > 8 and not form.extended:
            self.beside["metadata"] = np.ascontiguousarray(self.metadata)

    async def check(self, ns: aionvme.Namespace, slba: int, **protection: Any) -> None:
        """Read them and compare."""
        form, n = self.form, len(self.data)
        beside: dict[str, Any] = {}
        if form.ms > 8 and not form.extended:
            beside["metadata"] = np.zeros(n * form.ms, np.uint8)
        read = (await ns.read(slba, n, **protection, **beside)).reshape(n, form.block_bytes)
        assert (read[:, : form.lba_size] == self.data).all()
        if form.ms > 8:
            metadata = beside["metadata"].reshape(n, form.ms) if beside else read[:, form.lba_size :]
            own = slice(8, None) if form.first else slice(0, form.ms - 8)
            assert (metadata[:, own] == self.metadata[:, own]).all()


async def write_raw(ns: aionvme.Namespace, form: Format, slba: int, data: np.ndarray, metadata: np.ndarray) -> None:
    """Write blocks with the protection information that they have, right or wrong: nobody checks."""
    command = nvm.write(slba, len(data))
    if form.extended:
        done = await ns.submit(command, data=np.concatenate([data, metadata], axis=1))
    else:
        done = await ns.submit(command, data=np.ascontiguousarray(data), metadata=np.ascontiguousarray(metadata))
    assert done.status == 0


@ALL
async def test_what_the_controller_made_the_host_finds_right(ns: aionvme.Namespace, form: Format) -> None:
    """Data is written with PRACT, in several commands, and read so, and with the host checking: guard and tags."""
    blocks = Blocks(form, 40 if form.lba_size == 4096 else 300, seed=form.nsid)
    await ns.write(7, blocks.buffer, **blocks.beside)
    await blocks.check(ns, 7)
    await blocks.check(ns, 7, protection=aionvme.Protection(app_tag=0))
    await blocks.check(ns, 7, protection=aionvme.Protection(app_tag=0, prchk=False))
    await ns.verify(7, len(blocks.data))


@ALL
async def test_what_the_host_made_the_controller_finds_right(ns: aionvme.Namespace, form: Format) -> None:
    """The controller checks on the way in (PRCHK), as it would one wrong bit: and on the way out."""
    protection = aionvme.Protection(app_tag=0xBEEF)
    blocks = Blocks(form, 40 if form.lba_size == 4096 else 300, seed=10 + form.nsid)
    await ns.write(11, blocks.buffer, **blocks.beside, protection=protection)
    await blocks.check(ns, 11)
    await blocks.check(ns, 11, protection=protection)
    await ns.verify(11, len(blocks.data), protection=protection)
    wrong = aionvme.Protection(app_tag=0xBEE0)
    # One command: Linux before 6.5 may crash when one fails in a polled queue that has others in flight.
    for call in (ns.read(11, 1, protection=wrong), ns.verify(11, 1, protection=wrong)):
        with pytest.raises(aionvme.ApplicationTagCheckError):
            await call
    with pytest.raises(aionvme.ProtectionError) as caught:
        await blocks.check(ns, 11, protection=aionvme.Protection(app_tag=0xBEE0, prchk=False))
    assert (caught.value.lba, caught.value.tag, caught.value.expected, caught.value.found) == (
        11,
        "app_tag",
        0xBEE0,
        0xBEEF,
    )
    await blocks.check(ns, 11, protection=aionvme.Protection(app_tag=0xBEE0, app_tag_mask=0xFFF0))


@ALL
async def test_what_is_wrong_is_found_by_either(ns: aionvme.Namespace, form: Format) -> None:
    """Blocks with one thing wrong, written unchecked: the controller has a status for each, the host knows block and tag."""
    blocks = Blocks(form, 4, seed=20 + form.nsid)
    good = blocks.metadata.copy()
    ProtectionFormat(form.type, form.ms, form.first).generate(blocks.data, good, app_tag=5, ref_tag=50)
    at = 0 if form.first else form.ms - 8
    statuses = {
        "guard": (at, aionvme.GuardCheckError),
        "app_tag": (at + 2, aionvme.ApplicationTagCheckError),
        "ref_tag": (at + 4, aionvme.ReferenceTagCheckError),
    }
    for tag, (byte, status) in statuses.items():
        bad = good.copy()
        bad[2, byte] ^= 0x40
        await write_raw(ns, form, 50, blocks.data, bad)
        if tag == "ref_tag" and form.type == 3:
            await blocks.check(ns, 50, protection=aionvme.Protection(app_tag=5))
            continue
        with pytest.raises(status):
            await ns.read(50, 4, protection=aionvme.Protection(app_tag=5))
        if tag != "app_tag":
            with pytest.raises(status):
                await ns.read(50, 4)
            with pytest.raises(status):
                await ns.verify(50, 4)
        with pytest.raises(aionvme.ProtectionError) as caught:
            await ns.read(50, 4, protection=aionvme.Protection(app_tag=5, prchk=False))
        assert (caught.value.lba, caught.value.tag) == (52, tag)
        top = 0x4000 if tag != "ref_tag" else 0x40000000
        assert caught.value.expected ^ caught.value.found == top
        assert "block at LBA 0x34" in str(caught.value)


@ALL
@ONE_PATH
async def test_a_wrong_guard_is_not_written(ns: aionvme.Namespace, form: Format) -> None:
    """The controller is asked to check what comes: a tuple that is not the data's is refused with its status.

    (Not at LBA 0, where QEMU lets wrong guards pass.)
    """
    blocks = Blocks(form, 1, seed=1)
    command = nvm.write(40, 1)
    command = command._replace(cdw12=command.cdw12 | PRCHK_GUARD)
    if form.extended:
        done = await ns.submit(command, data=np.concatenate([blocks.data, blocks.metadata], axis=1))
    else:
        done = await ns.submit(command, data=blocks.data.copy(), metadata=blocks.metadata.copy())
    assert (done.status.sct, done.status.sc) == (2, 0x82)


@ALL
@ONE_PATH
async def test_tuples_can_be_had(ns: aionvme.Namespace, form: Format) -> None:
    """With metadata in a buffer of its own, metadata= of a read shows the tuples; an extended format has no such buffer."""
    blocks = Blocks(form, 3, seed=2)
    await ns.write(60, blocks.buffer, **blocks.beside, protection=aionvme.Protection(app_tag=0x1234))
    seen = np.zeros((3, form.ms), np.uint8)
    if form.extended:
        with pytest.raises(aionvme.UsageError, match="behind each block"):
            await ns.read(60, 3, metadata=seen, protection=aionvme.Protection())
        return
    await ns.read(60, 3, metadata=seen, protection=aionvme.Protection())
    assert (seen[:, -6:-4] == [0x12, 0x34]).all()
    assert seen[:, -1].tolist() == ([60, 61, 62] if form.type < 3 else [0, 0, 0])


@formats(FORMATS[2], FORMATS[5])
@ONE_PATH
async def test_type_2_begins_where_the_host_says(ns: aionvme.Namespace, form: Format) -> None:
    """The reference tag counts up from the one that was passed, over the parts of a long transfer.

    (QEMU's does not wrap at 2**32; tests/codec/test_protection.py has ours.)
    """
    blocks = Blocks(form, 60 if form.lba_size == 4096 else 300, seed=3)
    own = aionvme.Protection(ref_tag=0xFFFF_0000)
    await ns.write(20, blocks.buffer, **blocks.beside, protection=own)
    await blocks.check(ns, 20, protection=own)
    await blocks.check(ns, 20, protection=aionvme.Protection(ref_tag=0xFFFF_0000, prchk=False))
    with pytest.raises(aionvme.ReferenceTagCheckError):
        await ns.read(20, 1)
    with pytest.raises(aionvme.ProtectionError, match="reference tag is 0xffff0000 where 0x00000014 was expected"):
        await ns.read(20, 1, protection=aionvme.Protection(prchk=False))


@ALL
@ONE_PATH
async def test_tags_that_stand_for_no_check(ns: aionvme.Namespace, form: Format) -> None:
    """An application tag of FFFFh, with type 3 a reference tag of FFFFFFFFh besides: neither looks at anything else."""
    blocks = Blocks(form, 1, seed=4)
    bad = blocks.metadata.copy()
    at = 0 if form.first else form.ms - 8
    bad[0, at + 2 : at + 4] = 0xFF
    if form.type == 3:
        bad[0, at + 4 : at + 8] = 0xFF
    await write_raw(ns, form, 70, blocks.data, bad)
    await blocks.check(ns, 70)
    await blocks.check(ns, 70, protection=aionvme.Protection(app_tag=7))
    await ns.verify(70, 1)


@ALL
@ONE_PATH
async def test_blocks_never_written_are_readable(ns: aionvme.Namespace, form: Format) -> None:
    """And so are those that were set to zero, by the controller and by the host's check."""
    middle = ns.nsze // 16 * 8  # QEMU takes for unwritten what is a hole in its file, in pages of 4 KiB
    for _ in range(2):
        for protection in (None, aionvme.Protection(), aionvme.Protection(prchk=False)):
            read = (await ns.read(middle, 4, protection=protection)).reshape(4, form.block_bytes)
            assert not read[:, : form.lba_size].any()
        blocks = Blocks(form, 4, seed=5)
        await ns.write(middle, blocks.buffer, **blocks.beside)
        await ns.write_zeroes(middle, 4)


@ALL
@ONE_PATH
async def test_compare_has_its_data_checked(ns: aionvme.Namespace, form: Format) -> None:
    """Equal, different, and stored with a guard that is wrong."""
    blocks = Blocks(form, 3, seed=6)
    await ns.write(80, blocks.buffer, **blocks.beside)
    await ns.compare(80, blocks.buffer, **blocks.beside)
    await ns.compare(80, blocks.buffer, **blocks.beside, protection=aionvme.Protection(app_tag=0))
    other = blocks.buffer.copy()
    other[-form.block_bytes] ^= 1
    with pytest.raises(aionvme.CompareFailureError):
        await ns.compare(80, other, **blocks.beside)
    await write_raw(ns, form, 80, blocks.data, blocks.metadata)
    with pytest.raises(aionvme.GuardCheckError):
        await ns.compare(80, blocks.buffer, **blocks.beside)


@STRIPPED
@ONE_PATH
async def test_copies_are_protected_where_they_are(ns: aionvme.Namespace, form: Format) -> None:
    """The reference tags of a copy are those of its own blocks; a source with a wrong guard is not copied."""
    blocks = Blocks(form, 6, seed=7)
    await ns.write(90, blocks.buffer)
    await ns.copy(120, [(90, 2), (92, 4)])
    await blocks.check(ns, 120)
    await blocks.check(ns, 120, protection=aionvme.Protection(prchk=False))
    await write_raw(ns, form, 90, blocks.data[:1], blocks.metadata[:1])
    with pytest.raises(aionvme.NvmeError):  # QEMU: Internal Error
        await ns.copy(120, [(90, 2)])


@ALL
@ONE_PATH
async def test_data_in_pieces_is_protected_as_a_whole(ns: aionvme.Namespace, form: Format) -> None:
    """By the controller and by the host, which has to see blocks that lie in several pieces."""
    blocks = Blocks(form, 4, seed=13)
    cut = [0, 100, form.block_bytes + 1, blocks.buffer.size]
    pieces = [blocks.buffer[start:end].copy() for start, end in pairwise(cut)]
    for protection in (None, aionvme.Protection(app_tag=3)):
        await ns.write(100, pieces, **blocks.beside, protection=protection)
        await blocks.check(ns, 100, protection=protection)
        into = [np.zeros_like(piece) for piece in pieces]
        await ns.read(100, 4, into=into, protection=protection)
        read = np.concatenate(into).reshape(4, -1)
        assert (read[:, : form.lba_size] == blocks.data).all()


@STRIPPED
async def test_arrays_work_as_on_any_namespace(ns: aionvme.Namespace, form: Format) -> None:
    """Many commands with one await, of one length and of many, each protected from its own address on."""
    slba = np.random.default_rng(8).permutation(30)
    data = np.random.default_rng(9).integers(0, 256, 60 * form.lba_size, np.uint8)
    buffer = ns.alloc(data.size)
    buffer[:] = data
    done = await ns.write_many(130 + 2 * slba, 2, buffer)
    assert not done["status"].any()
    into = ns.alloc(data.size)
    done = await ns.read_many(130 + 2 * slba, np.full(30, 2), into)
    assert not done["status"].any()
    assert (into == data).all()
    order = np.argsort(slba)
    in_order = data.reshape(30, -1)[order].reshape(-1)
    assert (await ns.read(130, 60, protection=aionvme.Protection(prchk=False)) == in_order).all()


@formats(FORMATS[0], FORMATS[1])
@ONE_PATH
async def test_traces_are_replayed(place: Place, form: Format, tmp_path: Path) -> None:
    """A trace of an unprotected namespace, too: each command is given what the format takes."""
    target = node(form.nsid, "nvme2")
    plain = place.nvm_512 if form.lba_size == 512 else place.nvm_4096
    for source in (target, plain):
        async with place.open(source, trace=tmp_path / "run.npy") as ns:
            await ns.write(200, bytes(4 * form.lba_size))
            await ns.read(200, 4)
            await ns.verify(200, 4)
            await ns.write_zeroes(204, 2)
        async with place.open(target) as ns:
            again = await aionvme.replay(aionvme.load_trace(tmp_path / "run.npy"), ns, speed=None)
            assert not again["status"].any()
            assert not again["errno"].any()
            await ns.read(200, 6, protection=aionvme.Protection(prchk=False))


@formats(*(form for form in FORMATS if form.ms > 8))
@ONE_PATH
async def test_arrays_take_the_metadata_beside_the_protection(ns: aionvme.Namespace, form: Format) -> None:
    """The controller puts protection information into it, and checks it as it does of single commands."""
    blocks = Blocks(form, 24, seed=14)
    slba = 300 + 2 * np.arange(12)
    assert not (await ns.write_many(slba, 2, blocks.buffer, **blocks.beside))["status"].any()
    await blocks.check(ns, 300)
    await blocks.check(ns, 300, protection=aionvme.Protection(app_tag=0))
    into = np.zeros_like(blocks.buffer)
    assert not (await ns.read_many(slba, 2, into))["status"].any()
    assert (into.reshape(24, -1)[:, : form.lba_size] == blocks.data).all()


@ALL
@pytest.mark.once
async def test_what_does_not_suit_the_format_is_refused(ns: aionvme.Namespace, form: Format) -> None:
    """Before anything is sent, with what would do."""
    data = bytes(form.block_bytes)
    beside: dict[str, Any] = {} if form.extended else {"metadata": bytes(form.ms)}
    if form.ms == 8 and not form.extended:
        with pytest.raises(aionvme.UsageError, match="the controller makes and strips it"):
            await ns.write(0, data, **beside)
        with pytest.raises(aionvme.UsageError, match="which protection= makes"):
            await ns.write(0, data, **beside, protection=aionvme.Protection())
    if form.ms == 16 and not form.extended:
        with pytest.raises(aionvme.UsageError, match="pass metadata=, 16 bytes"):
            await ns.write(0, data)
        with pytest.raises(aionvme.UsageError, match="pass metadata=, 16 bytes"):
            await ns.write_many([0], 1, data)
    if form.type == 1:
        with pytest.raises(aionvme.UsageError, match="type 1 it is the low half of the address, 0x5"):
            await ns.read(5, 1, protection=aionvme.Protection(ref_tag=6))
    with pytest.raises(aionvme.UsageError, match="moves"):
        await ns.submit(nvm.read(0, 1), into=bytearray(form.lba_size))  # without PRACT there is more to be moved
    refused: list[dict[str, Any]] = [{"app_tag": 1 << 16}, {"app_tag": "x"}, {"app_tag_mask": None}, {"ref_tag": -1}]
    for wrong in refused:
        with pytest.raises(aionvme.UsageError, match="it takes an integer"):
            aionvme.Protection(**wrong)


ZONED = Format(8, type=1, lba_size=4096)


@formats(ZONED)
async def test_appended_blocks_belong_where_they_land(ns: aionvme.Namespace, form: Format) -> None:
    """Reference tags follow the place that the controller chooses (PIREMAP): one by one, in arrays, written and through zones."""
    await ns.reset_zone(select_all=True)
    blocks = Blocks(form, 20, seed=11)
    lba = await ns.zone_append(0, blocks.buffer[: 3 * 4096])
    assert lba == 0
    lba = await ns.zone_append(0, blocks.buffer[3 * 4096 : 10 * 4096])
    assert lba == 3
    done = await ns.append_many([0] * 4, 1, blocks.buffer[10 * 4096 : 14 * 4096])
    assert not done["status"].any()
    await ns.write(14, blocks.buffer[14 * 4096 :])
    read = await ns.read(0, 20, protection=aionvme.Protection(app_tag=0, prchk=False))
    assert sorted(read.reshape(20, -1)[10:14].tolist()) == sorted(blocks.data[10:14].tolist())
    assert (read[: 10 * 4096] == blocks.buffer[: 10 * 4096]).all()
    zone = ns.zones[1]
    first = await zone.append(blocks.buffer[: 4096 * 2])
    await zone.write(blocks.buffer[4096 * 2 : 4096 * 3])
    assert (await ns.read(first, 3, protection=aionvme.Protection()) == blocks.buffer[: 4096 * 3]).all()


@formats(ZONED)
@ONE_PATH
async def test_the_host_protects_appends(ns: aionvme.Namespace, form: Format) -> None:
    """Its reference tags count from the zone's start, which is where an empty zone's first block goes."""
    await ns.reset_zone(select_all=True)
    blocks = Blocks(form, 4, seed=12)
    zslba = 2 * ns.zsze
    assert await ns.zone_append(zslba, blocks.buffer, protection=aionvme.Protection(app_tag=9)) == zslba
    await blocks.check(ns, zslba)
    await blocks.check(ns, zslba, protection=aionvme.Protection(app_tag=9, prchk=False))
    zone, protection = ns.zones[3], aionvme.Protection(app_tag=10)
    assert await zone.append(blocks.buffer[: 3 * 4096], protection=protection) == zone.zslba
    assert await zone.write(blocks.buffer[3 * 4096 :], protection=protection) == zone.zslba + 3
    assert (await zone.read(zone.zslba, 4, protection=protection) == blocks.buffer).all()
    with pytest.raises(aionvme.ProtectionError):
        await zone.read(zone.zslba, 4, protection=aionvme.Protection(app_tag=9, prchk=False))


@formats(ZONED)
@ONE_PATH
async def test_a_log_lives_on_protected_zones(ns: aionvme.Namespace, form: Format) -> None:
    """Records are appended, moved and recovered as on any zones."""
    log = await aionvme.ZoneLog.create(ns, ns.zones[:4], width=2, spare=1)
    records = [await log.append(bytes([i]) * 30_000) for i in range(12)]
    for record in records[::2]:
        log.discard(record)
    await log.reclaim()
    log = await aionvme.ZoneLog.recover(ns, ns.zones[:4])
    assert await log.read(records[5].sequence) == bytes([5]) * 30_000
    assert log.damaged_blocks == 0
