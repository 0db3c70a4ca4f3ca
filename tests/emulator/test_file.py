"""A device kept in a file: what it keeps, and which files it refuses."""

from collections.abc import Callable
from pathlib import Path

import pytest

from aionvme.emulator import Device, parse_spec
from aionvme.emulator.zone_states import Event
from aionvme.errors import UsageError
from aionvme.nvme import admin, nvm, zoned
from aionvme.nvme.opcodes import ZoneSendAction

from .host import run, strike, zones

Open = Callable[[str], Device]
ZNS = "emu:zns?zones=8&zone_size=4KiB&zone_capacity=3KiB&lba=512&mar=6&mor=4"


def test_data_and_zones_are_there_after_a_power_cycle(open_device: Open, tmp_path: Path) -> None:
    """Open zones come back closed, or empty where nothing was written; full, worn out and offline ones as they were."""
    text = f"{ZNS}&file={tmp_path}/image"
    first = open_device(text)
    for zslba in (8, 16, 24):
        assert run(first, zoned.zone_append(zslba, 2), bytes([zslba]) * 1024).status == 0
    assert run(first, zoned.zone_management_send(ZoneSendAction.OPEN, 16)).status == 0
    assert run(first, zoned.zone_management_send(ZoneSendAction.CLOSE, 24)).status == 0
    assert run(first, zoned.zone_management_send(ZoneSendAction.OPEN, 32)).status == 0
    assert run(first, zoned.zone_management_send(ZoneSendAction.FINISH, 40)).status == 0
    strike(first, 6, Event.WEAR_OUT)
    strike(first, 7, Event.FAIL)
    first.close()
    second = open_device(text)
    none = 2**64 - 1
    assert zones(second) == [(1, 0), (4, 10), (4, 18), (4, 26), (1, 32), (0xE, none), (0xD, none), (0xF, none)]
    data = bytearray(1024)
    for zslba in (8, 16, 24):
        assert run(second, nvm.read(zslba, 2), data).status == 0
        assert data == bytes([zslba]) * 1024


def test_resources_are_counted_after_a_power_cycle(open_device: Open, tmp_path: Path) -> None:
    """Closed zones are active again, so the limit on active zones still holds."""
    text = f"{ZNS}&file={tmp_path}/image"
    first = open_device(text)
    for zslba in range(0, 48, 8):
        assert run(first, zoned.zone_append(zslba, 1), bytes(512)).status == 0
    first.close()
    second = open_device(text)
    assert run(second, zoned.zone_append(48, 1), bytes(512)).status == 0x41BD
    assert [run(second, zoned.zone_append(zslba, 1), bytes(512)).status for zslba in range(0, 48, 8)] == [0] * 6


def test_uncorrectable_blocks_and_the_uuid_stay(open_device: Open, tmp_path: Path) -> None:
    """Marks of Write Uncorrectable and the identity of the namespace are in the file."""
    text = f"emu:nvm?size=64KiB&file={tmp_path}/image"
    first = open_device(text)
    identities = [bytearray(4096), bytearray(4096)]
    assert run(first, nvm.write_uncorrectable(3, 2)).status == 0
    assert first.execute(admin.identify(3, nsid=1), memoryview(identities[0]), admin=True).status == 0
    first.close()
    second = open_device(text)
    assert [run(second, nvm.read(slba, 1), bytearray(512)).status for slba in range(2, 6)] == [0, 0x4281, 0x4281, 0]
    assert second.execute(admin.identify(3, nsid=1), memoryview(identities[1]), admin=True).status == 0
    assert identities[0] == identities[1] != bytearray(4096)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("emu:nvm?size=64KiB&lba=4096", "lba is 512, not 4096"),
        ("emu:nvm?size=128KiB", "size_bytes is 65536, not 131072"),
        ("emu:zns?zones=16&zone_size=4KiB&lba=512", "zone_size is 0, not 4096"),
    ],
)
def test_another_geometry_is_refused(open_device: Open, tmp_path: Path, text: str, said: str) -> None:
    """UsageError says what differs, and the file keeps what it holds."""
    path = tmp_path / "image"
    first = open_device(f"emu:nvm?size=64KiB&file={path}")
    assert run(first, nvm.write(0, 1), b"a" * 512).status == 0
    first.close()
    before = path.read_bytes()
    with pytest.raises(UsageError, match="another geometry") as caught:
        open_device(f"{text}{'&' if '?' in text else '?'}file={path}")
    assert said in str(caught.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"x", b"something else" * 1000, bytes(100_000)])
def test_a_file_of_something_else_is_left_as_it_is(open_device: Open, tmp_path: Path, content: bytes) -> None:
    """Only an empty file, or one of ours, is taken."""
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="something else"):
        open_device(f"emu:nvm?size=64KiB&file={path}")
    assert path.read_bytes() == content


def test_an_empty_file_becomes_a_device(open_device: Open, tmp_path: Path) -> None:
    """Made by mktemp, say: there is nothing in it to lose."""
    path = tmp_path / "image"
    path.touch()
    assert run(open_device(f"emu:nvm?size=64KiB&file={path}"), nvm.write(0, 1), bytes(512)).status == 0


def test_a_header_alone_is_a_device(open_device: Open, tmp_path: Path) -> None:
    """A process killed right after it began the file leaves one that opens."""
    path = tmp_path / "image"
    open_device(f"emu:nvm?size=64KiB&file={path}").close()
    with path.open("r+b") as file:
        file.truncate(4096)
    data = bytearray(b"\xee" * 512)
    assert run(open_device(f"emu:nvm?size=64KiB&file={path}"), nvm.read(127, 1), data).status == 0
    assert data == bytes(512)


def test_two_devices_never_share_a_file(open_device: Open, tmp_path: Path) -> None:
    """The second is refused until the first is closed."""
    text = f"emu:nvm?size=64KiB&file={tmp_path}/image"
    first = open_device(text)
    with pytest.raises(UsageError, match="in use"):
        open_device(text)
    first.close()
    open_device(text)


def test_other_refusals(open_device: Open, tmp_path: Path) -> None:
    """No directory for the file is the operating system's error; a device node is refused."""
    with pytest.raises(FileNotFoundError):
        Device(parse_spec(f"emu:nvm?file={tmp_path}/missing/image"))
    with pytest.raises(UsageError, match="not a regular file"):
        Device(parse_spec("emu:nvm?file=/dev/null"))
    with pytest.raises(IsADirectoryError):
        Device(parse_spec(f"emu:nvm?file={tmp_path}"))


def test_a_damaged_or_newer_file_is_refused(open_device: Open, tmp_path: Path) -> None:
    """A zone state that there is none of, or another version, is said and not guessed at."""
    path = tmp_path / "image"
    text = f"{ZNS}&file={path}"
    open_device(text).close()
    for offset, said in ((4096 + 8, "damaged"), (8, "version")):
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"\x99")
        with pytest.raises(UsageError, match=said):
            open_device(text)


def test_a_file_of_the_first_version(open_device: Open, tmp_path: Path) -> None:
    """Laid out by hand: a header that ends with the UUID, zones of a count and a state, marks, data. It opens and is used on,
    as what it is: a device without descriptor extensions."""
    path = tmp_path / "image"
    geometry = [(512, 4), (8 * 4096, 8), (4096, 8), (3072, 8), (6, 4), (4, 4)]
    uuid = bytes(range(16))
    header = (
        b"aionvme\0" + (1).to_bytes(4, "little") + b"".join(n.to_bytes(size, "little") for n, size in geometry) + uuid
    )
    entries = [(0, 0), (2, 4), (6, 0xE), (1, 2)]
    table = b"".join(written.to_bytes(8, "little") + bytes([zs]) + bytes(7) for written, zs in entries)
    data = bytes(8 * 512) + b"one".ljust(512, b"1") + b"two".ljust(512, b"2")
    path.write_bytes(header.ljust(4096, b"\0") + table.ljust(4096, b"\0") + bytes(4096) + data.ljust(8 * 4096, b"\0"))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="zdes is 0, not 64"):
        open_device(f"{ZNS}&zdes=64&file={path}")
    assert path.read_bytes() == before
    for _ in range(2):
        device = open_device(f"{ZNS}&file={path}")
        assert zones(device)[:5] == [(1, 0), (4, 10), (0xE, 2**64 - 1), (4, 25), (1, 32)]
        stored = bytearray(1024)
        assert run(device, nvm.read(8, 2), stored).status == 0
        assert stored == data[8 * 512 :]
        device.close()
    device = open_device(f"{ZNS}&file={path}")
    assert run(device, zoned.zone_append(8, 1), bytes(512)) == (0, 10)


def test_a_failing_file_is_an_internal_error(open_device: Open, tmp_path: Path) -> None:
    """What the file system refuses ends the command with 0006h, which may be retried, and is logged."""
    path = tmp_path / "image"
    device = open_device(f"emu:nvm?size=64KiB&file={path}")
    with path.open("r+b") as file:
        file.truncate(4096)
    assert run(device, nvm.read(0, 1), bytearray(512)) == (0x0006, 0)


def test_space_comes_back(open_device: Open, tmp_path: Path) -> None:
    """A file takes the room of what was written to it, until that is deallocated."""
    path = tmp_path / "image"
    device = open_device(f"emu:nvm?size=64MiB&lba=4096&file={path}")
    assert path.stat().st_blocks * 512 < 1 << 20
    assert run(device, nvm.write(0, 128), b"a" * (512 << 10)).status == 0
    assert run(device, nvm.write(128, 128), b"a" * (512 << 10)).status == 0
    assert run(device, nvm.flush()).status == 0
    assert path.stat().st_blocks * 512 >= 1 << 20
    assert run(device, nvm.dataset_management(1, deallocate=True), nvm.dsm_ranges([(0, 256)])).status == 0
    assert path.stat().st_blocks * 512 < 1 << 20
