"""Zone descriptor extensions and random write areas, by commands put together here and sent with ``submit``.

The same sequences run on the emulated device and in the guest on QEMU's controller. What the specification says is asserted
(Zoned Namespace Command Set 1.1, section 3.4, and Technical Proposal 4076 for random write areas), and where QEMU's controller
does something else the test's docstring says so, and both are asserted.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple

import numpy as np
import pytest

import aionvme
from aionvme import ZoneState
from aionvme.nvme import nvm, zoned
from aionvme.nvme.opcodes import ZoneReceiveAction, ZoneSendAction
from aionvme.nvme.zones import parse_extended_report
from tests.conftest import IN_VM, Place

pytestmark = [pytest.mark.anyio, pytest.mark.feature("random write areas, descriptor extensions")]

BLOCK = 4096
ZONE = 256  # blocks: 1 MiB
CAPACITY = 192  # blocks: 768 KiB
WINDOW = 16  # blocks: 64 KiB
STEP = 4  # blocks: 16 KiB, the flush granularity
ZDES = 128

EMPTY, IMPLICIT, EXPLICIT = ZoneState.EMPTY, ZoneState.IMPLICITLY_OPENED, ZoneState.EXPLICITLY_OPENED
CLOSED, FULL = ZoneState.CLOSED, ZoneState.FULL
ZRWAV, ZDEV = 0x08, 0x80
"""Bits of ZA: the zone has a random write area, its descriptor extension is valid."""


class Zone(NamedTuple):
    """What a report says of a zone; ``wp`` is relative to its start, None where it means nothing."""

    zs: int
    za: int
    wp: int | None


@pytest.fixture
async def ns(place: Place) -> AsyncIterator[aionvme.Namespace]:
    """Sixteen empty zones, of which two may have a random write area, four be open and six active."""
    async with place.open(place.zns_zrwa) as ns:
        await ns.reset_zone(select_all=True)
        yield ns


async def send(
    ns: aionvme.Namespace, action: ZoneSendAction, slba: int, data: bytes | None = None, *, zsaso: bool = False
) -> int:
    """Status of a Zone Management Send."""
    return (await ns.submit(zoned.zone_management_send(action, slba, zsaso=zsaso), data)).status


async def open_with_area(ns: aionvme.Namespace, slba: int) -> int:
    """Status of Open Zone with ZRWAA, bit 9 of dword 13."""
    return await send(ns, ZoneSendAction.OPEN, slba, zsaso=True)


async def flush(ns: aionvme.Namespace, slba: int) -> int:
    """Status of Flush Explicit ZRWA Range, up to and with the block at ``slba``."""
    return await send(ns, ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE, slba)


async def extend(ns: aionvme.Namespace, slba: int, extension: bytes, *, zsaso: bool = False) -> int:
    """Status of Set Zone Descriptor Extension."""
    return await send(ns, ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION, slba, extension, zsaso=zsaso)


async def write(ns: aionvme.Namespace, slba: int, values: bytes) -> int:
    """Status of a Write with a block of each of the values."""
    data = np.repeat(np.frombuffer(values, np.uint8), BLOCK)
    return (await ns.submit(nvm.write(slba, len(values)), data)).status


async def read(ns: aionvme.Namespace, slba: int, nlb: int) -> list[int]:
    """The value that each of the blocks is full of."""
    blocks = (await ns.read(slba, nlb)).reshape(nlb, BLOCK)
    assert (blocks == blocks[:, :1]).all()
    return blocks[:, 0].tolist()  # type: ignore[no-any-return]


async def look(ns: aionvme.Namespace, slba: int) -> tuple[Zone, bytes]:
    """The zone that starts at ``slba``, and its descriptor extension."""
    buffer = np.full(64 + 64 + ZDES, 0xEE, np.uint8)
    action = ZoneReceiveAction.EXTENDED_REPORT_ZONES
    done = await ns.submit(zoned.zone_management_receive(action, slba, buffer.size, partial=True), into=buffer)
    assert done.status == 0
    nr_zones, (zone,), (extension,) = parse_extended_report(buffer, ZDES)
    assert (nr_zones, zone["zslba"], zone["zcap"]) == (1, slba, CAPACITY)
    wp = None if zone["zs"] == FULL else int(zone["wp"]) - slba
    return Zone(int(zone["zs"]), int(zone["za"]), wp), extension.tobytes()


async def zone_at(ns: aionvme.Namespace, slba: int) -> Zone:
    """The zone that starts at ``slba``."""
    return (await look(ns, slba))[0]


async def test_identify(ns: aionvme.Namespace) -> None:
    """Sizes in Identify: extensions in units of 64 bytes, random write areas in logical blocks, and that they are there: OZCS
    bit 1, and ZRWACAP bit 0 for explicit flushes."""
    identified = ns.identify_zoned
    assert identified is not None
    assert (identified.zdes_bytes, identified.ozcs & 2) == (ZDES, 2)
    names = ("zrwasz", "zrwafg", "numzrwa", "zrwacap")
    assert [int(identified.raw[name]) for name in names] == [WINDOW, STEP, 2, 1]


async def test_an_extension_closes_an_empty_zone(ns: aionvme.Namespace) -> None:
    """EMPTY to CLOSED, ZDEV set, the data in an extended report; it stays while the zone is written and finished, and a reset
    takes it away."""
    content = bytes(range(ZDES))
    assert await look(ns, ZONE) == (Zone(EMPTY, 0, 0), bytes(ZDES))
    assert await extend(ns, ZONE, content) == 0
    assert await look(ns, ZONE) == (Zone(CLOSED, ZDEV, 0), content)
    assert await write(ns, ZONE, b"ab") == 0
    assert await look(ns, ZONE) == (Zone(IMPLICIT, ZDEV, 2), content)
    assert await send(ns, ZoneSendAction.FINISH, ZONE) == 0
    assert await look(ns, ZONE) == (Zone(FULL, ZDEV, None), content)
    assert await send(ns, ZoneSendAction.RESET, ZONE) == 0
    assert await look(ns, ZONE) == (Zone(EMPTY, 0, 0), bytes(ZDES))


async def test_a_zone_that_is_not_empty_takes_no_extension(ns: aionvme.Namespace) -> None:
    """Invalid Zone State Transition, 41BFh, and the extension that was there stays. QEMU gives the status, but has stored the
    new data by then."""
    assert await extend(ns, 0, b"a" * ZDES) == 0
    assert await extend(ns, 0, b"b" * ZDES) == 0x41BF
    assert await look(ns, 0) == (Zone(CLOSED, ZDEV, 0), (b"b" if IN_VM else b"a") * ZDES)
    assert await write(ns, ZONE, b"a") == 0
    assert await extend(ns, ZONE, bytes(ZDES)) == 0x41BF
    assert await zone_at(ns, ZONE) == Zone(IMPLICIT, 0, 1)


async def test_an_extension_takes_an_active_resource(ns: aionvme.Namespace) -> None:
    """The seventh active zone is refused: Too Many Active Zones, 41BDh."""
    assert [await extend(ns, zone * ZONE, bytes(ZDES)) for zone in range(7)] == [0] * 6 + [0x41BD]
    assert await zone_at(ns, 6 * ZONE) == Zone(EMPTY, 0, 0)


async def test_an_extension_has_its_length(ns: aionvme.Namespace) -> None:
    """Select All is an invalid field; a buffer of another length is refused before the device sees it."""
    command = zoned.zone_management_send(ZoneSendAction.SET_ZONE_DESCRIPTOR_EXTENSION, select_all=True)
    assert (await ns.submit(command, bytes(ZDES))).status == 0x4002
    for held in (0, ZDES - 1, ZDES + 1):
        with pytest.raises(aionvme.UsageError, match=f"moves {ZDES} bytes, and its buffer holds {held}"):
            await extend(ns, 0, bytes(held))


async def test_an_area_is_written_in_any_order_and_again(ns: aionvme.Namespace) -> None:
    """Inside of the window the write pointer stays, and what was written can be read, zeroes where nothing was."""
    assert await open_with_area(ns, ZONE) == 0
    assert await zone_at(ns, ZONE) == Zone(EXPLICIT, ZRWAV, 0)
    assert await write(ns, ZONE + 14, b"yz") == 0
    assert await write(ns, ZONE + 3, b"abc") == 0
    assert await write(ns, ZONE + 4, b"B") == 0
    assert await zone_at(ns, ZONE) == Zone(EXPLICIT, ZRWAV, 0)
    assert bytes(await read(ns, ZONE, 20)) == b"\0\0\0aBc" + bytes(8) + b"yz" + bytes(4)
    assert (await ns.submit(nvm.write_zeroes(ZONE + 3, 2))).status == 0
    assert bytes(await read(ns, ZONE, 20)) == b"\0\0\0\0\0c" + bytes(8) + b"yz" + bytes(4)
    assert await zone_at(ns, ZONE) == Zone(EXPLICIT, ZRWAV, 0)


async def test_what_an_earlier_life_of_the_zone_left_is_not_there(ns: aionvme.Namespace) -> None:
    """After a reset nothing of what was written before can be read through a random write area."""
    assert await write(ns, ZONE, b"old, old, old!") == 0
    assert await send(ns, ZoneSendAction.RESET, ZONE) == 0
    assert await open_with_area(ns, ZONE) == 0
    assert await write(ns, ZONE + 5, b"n") == 0
    assert bytes(await read(ns, ZONE, 20)) == bytes(5) + b"n" + bytes(14)


async def test_a_write_past_the_window_moves_it(ns: aionvme.Namespace) -> None:
    """As many blocks are committed as the window must move for the last block to be in it, in steps of the granularity.
    Below the write pointer, and past twice the window, is Zone Invalid Write, 41BCh."""
    assert await open_with_area(ns, 0) == 0
    assert await write(ns, WINDOW - 1, b"a") == 0
    assert (await zone_at(ns, 0)).wp == 0
    assert await write(ns, WINDOW, b"b") == 0
    assert (await zone_at(ns, 0)).wp == STEP
    assert await write(ns, STEP - 1, b"c") == 0x41BC
    assert await write(ns, STEP, b"d") == 0
    assert await write(ns, STEP + WINDOW - 1, b"ef") == 0
    assert (await zone_at(ns, 0)).wp == 2 * STEP
    wp = 2 * STEP
    assert await write(ns, wp + WINDOW, b"x" * WINDOW + b"x") == 0x41BC
    assert await write(ns, wp + 2 * WINDOW, b"x") == 0x41BC
    assert await write(ns, wp + WINDOW, b"g" * (STEP + 1)) == 0
    assert await zone_at(ns, 0) == Zone(EXPLICIT, ZRWAV, wp + 2 * STEP)
    wp += 2 * STEP
    assert await write(ns, wp + WINDOW, b"h" * WINDOW) == 0
    assert await zone_at(ns, 0) == Zone(EXPLICIT, ZRWAV, wp + WINDOW)


async def test_an_explicit_flush(ns: aionvme.Namespace) -> None:
    """The write pointer goes behind the block that is named. A range that is no multiple of the granularity is an invalid field,
    one that is below the write pointer a Zone Boundary Error, 41B8h."""
    assert await open_with_area(ns, ZONE) == 0
    assert await write(ns, ZONE, b"ab") == 0
    assert await flush(ns, ZONE + STEP - 1) == 0
    assert await zone_at(ns, ZONE) == Zone(EXPLICIT, ZRWAV, STEP)
    assert bytes(await read(ns, ZONE, STEP)) == b"ab\0\0"
    assert await write(ns, ZONE + STEP - 1, b"x") == 0x41BC
    assert await flush(ns, ZONE + STEP) == 0x4002
    assert await flush(ns, ZONE + STEP - 1) == 0x41B8
    assert await flush(ns, ZONE + 2 * ZONE - 1) == 0x4002  # that is in the next zone, which has no area
    assert await flush(ns, ZONE + STEP + WINDOW - 1) == 0
    assert await zone_at(ns, ZONE) == Zone(EXPLICIT, ZRWAV, STEP + WINDOW)
    select_all = zoned.zone_management_send(ZoneSendAction.FLUSH_EXPLICIT_ZRWA_RANGE, select_all=True)
    assert (await ns.submit(select_all)).status == 0x4002
    assert await flush(ns, ns.nsze) == 0x4080


async def test_a_flush_past_the_window(ns: aionvme.Namespace) -> None:
    """Zone Boundary Error, 41B8h. QEMU takes the window for a block longer, and finds the length of the range an invalid field
    there."""
    assert await open_with_area(ns, 0) == 0
    assert await flush(ns, WINDOW) == (0x4002 if IN_VM else 0x41B8)
    assert await flush(ns, WINDOW + STEP - 1) == 0x41B8
    assert await zone_at(ns, 0) == Zone(EXPLICIT, ZRWAV, 0)


async def test_a_flush_past_the_capacity(ns: aionvme.Namespace) -> None:
    """Near the end of the zone the window is as long as what is left: a flush beyond is a Zone Boundary Error, 41B8h. QEMU
    carries it out, and leaves a zone that is not full with a write pointer past its capacity."""
    assert await open_with_area(ns, 0) == 0
    for offset in range(0, CAPACITY, WINDOW):
        assert await write(ns, offset, bytes(WINDOW)) == 0
    assert await flush(ns, CAPACITY - WINDOW + STEP - 1) == 0
    assert await flush(ns, CAPACITY + STEP - 1) == (0 if IN_VM else 0x41B8)
    wp = CAPACITY + STEP if IN_VM else CAPACITY - WINDOW + STEP
    assert await zone_at(ns, 0) == Zone(EXPLICIT, ZRWAV, wp)
    assert await send(ns, ZoneSendAction.RESET, 0) == 0
    assert await zone_at(ns, 0) == Zone(EMPTY, 0, 0)


async def test_a_flush_without_an_area(ns: aionvme.Namespace) -> None:
    """Invalid Field in Command, whatever state the zone is in."""
    assert await flush(ns, STEP - 1) == 0x4002
    assert await send(ns, ZoneSendAction.OPEN, 0) == 0
    assert await flush(ns, STEP - 1) == 0x4002


async def test_the_end_of_the_zone(ns: aionvme.Namespace) -> None:
    """The window does not go past the capacity: 41B8h. The last blocks are committed by a flush, which makes the zone full and
    gives the area back."""
    assert await open_with_area(ns, ZONE) == 0
    for offset in range(0, CAPACITY, WINDOW):
        assert await write(ns, ZONE + offset, bytes(range(WINDOW))) == 0
    assert await zone_at(ns, ZONE) == Zone(EXPLICIT, ZRWAV, CAPACITY - WINDOW)
    assert await write(ns, ZONE + CAPACITY - 1, b"ab") == 0x41B8
    assert await flush(ns, ZONE + CAPACITY - 1) == 0
    assert await zone_at(ns, ZONE) == Zone(FULL, 0, None)
    assert await write(ns, ZONE + CAPACITY - 1, b"a") == 0x41B9
    assert await read(ns, ZONE, CAPACITY) == [i % WINDOW for i in range(CAPACITY)]
    assert [await open_with_area(ns, zone * ZONE) for zone in (2, 3)] == [0, 0]


async def test_there_are_as_many_areas_as_identify_says(ns: aionvme.Namespace) -> None:
    """A third is refused: ZRWA Resources Unavailable, 41B7h. Finish and reset give one back, close does not."""
    assert [await open_with_area(ns, zone * ZONE) for zone in range(3)] == [0, 0, 0x41B7]
    assert await zone_at(ns, 2 * ZONE) == Zone(EMPTY, 0, 0)
    assert await send(ns, ZoneSendAction.CLOSE, 0) == 0
    assert await zone_at(ns, 0) == Zone(CLOSED, ZRWAV, 0)
    assert await open_with_area(ns, 2 * ZONE) == 0x41B7
    assert await send(ns, ZoneSendAction.FINISH, 0) == 0
    assert await zone_at(ns, 0) == Zone(FULL, 0, None)
    assert await open_with_area(ns, 2 * ZONE) == 0
    assert await send(ns, ZoneSendAction.RESET, 2 * ZONE) == 0
    assert await zone_at(ns, 2 * ZONE) == Zone(EMPTY, 0, 0)
    assert [await open_with_area(ns, zone * ZONE) for zone in (3, 4)] == [0, 0x41B7]


async def test_a_closed_zone_keeps_its_area(ns: aionvme.Namespace) -> None:
    """Whether the host closed it or the controller made room; a write or a flush opens it again, implicitly."""
    assert await open_with_area(ns, 0) == 0
    assert await write(ns, 2, b"a") == 0
    assert await send(ns, ZoneSendAction.CLOSE, 0) == 0
    assert await zone_at(ns, 0) == Zone(CLOSED, ZRWAV, 0)
    assert await write(ns, 1, b"b") == 0
    assert await zone_at(ns, 0) == Zone(IMPLICIT, ZRWAV, 0)
    for zone in range(1, 5):
        assert await write(ns, zone * ZONE, b"x") == 0
    assert await zone_at(ns, 0) == Zone(CLOSED, ZRWAV, 0)
    assert await flush(ns, STEP - 1) == 0
    assert await zone_at(ns, 0) == Zone(IMPLICIT, ZRWAV, STEP)
    assert bytes(await read(ns, 0, STEP)) == b"\0ba\0"


async def test_what_is_in_the_window_stays_when_the_zone_is_finished(ns: aionvme.Namespace) -> None:
    """Blocks above the write pointer can be read from the full zone, and the area is gone."""
    assert await open_with_area(ns, 0) == 0
    assert await write(ns, 9, b"z") == 0
    assert await send(ns, ZoneSendAction.FINISH, 0) == 0
    assert await zone_at(ns, 0) == Zone(FULL, 0, None)
    assert bytes(await read(ns, 0, WINDOW)) == bytes(9) + b"z" + bytes(6)
    assert await write(ns, 9, b"y") == 0x41B9


async def test_no_append_into_an_area(ns: aionvme.Namespace) -> None:
    """Invalid Zone Operation Request, 41B6h."""
    assert await open_with_area(ns, 0) == 0
    done = await ns.submit(zoned.zone_append(0, 1), bytes(BLOCK))
    assert done.status == 0x41B6
    assert await zone_at(ns, 0) == Zone(EXPLICIT, ZRWAV, 0)


async def test_only_an_empty_zone_is_given_an_area(ns: aionvme.Namespace) -> None:
    """Invalid Zone Operation Request, 41B6h, for a zone that is active. QEMU gives one to any that can be opened. A full zone
    cannot: 41BFh."""
    assert await write(ns, 0, b"abcd") == 0
    assert await send(ns, ZoneSendAction.CLOSE, 0) == 0
    assert await open_with_area(ns, 0) == (0 if IN_VM else 0x41B6)
    assert await zone_at(ns, 0) == (Zone(EXPLICIT, ZRWAV, 4) if IN_VM else Zone(CLOSED, 0, 4))
    assert await send(ns, ZoneSendAction.FINISH, 0) == 0
    assert await open_with_area(ns, 0) == 0x41BF


async def test_an_extension_and_an_area_at_once(ns: aionvme.Namespace) -> None:
    """A zone with an extension is no longer empty, so Set Zone Descriptor Extension allocates an area too when ZRWAA is set.
    QEMU does not look at the bit there."""
    assert await extend(ns, 0, b"e" * ZDES, zsaso=True) == 0
    assert await look(ns, 0) == (Zone(CLOSED, ZDEV if IN_VM else ZDEV | ZRWAV, 0), b"e" * ZDES)
    assert await write(ns, 1, b"a") == (0x41BC if IN_VM else 0)
