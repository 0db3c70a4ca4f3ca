"""Random commands: none raises, each has a status that the specification defines, and the zones keep their limits."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aionvme.emulator import Device, parse_spec
from aionvme.emulator.zone_states import Event
from aionvme.nvme.command import Command
from aionvme.nvme.status import STATUS_NAMES

from .host import strike, zones

Open = Callable[[str], Device]
ZNS = "emu:zns?zones=6&zone_size=8KiB&zone_capacity=6KiB&lba=512&mar=4&mor=2"
ZRWA = f"{ZNS}&zdes=64&zrwas=2KiB&zrwafg=1KiB&numzrwa=2"
NVM = "emu:nvm?size=64KiB&lba=512"
ZSZE, ZCAP, MAR, MOR = 16, 12, 4, 2

IO_OPCODES = (0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0C, 0x19, 0x79, 0x7A, 0x7D)
ADMIN_OPCODES = (0x02, 0x06, 0x09, 0x0A)
DWORDS = (
    0, 1, 2, 3, 8, 15, 16, 17, 32, 47, 48, 80, 95, 96, 0x100, 0x104, 0x203, 0x210, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF,
)  # fmt: skip


def random_command(source: random.Random, *, admin: bool) -> Command:
    """Mostly opcodes that exist and fields near a limit, sometimes anything."""
    known = ADMIN_OPCODES if admin else IO_OPCODES
    opcode = source.choice(known) if source.random() < 0.95 else source.randrange(256)
    nsid = 1 if source.random() < 0.9 else source.choice((0, 2, 0xFFFF_FFFE, 0xFFFF_FFFF))
    dwords = [
        source.choice(DWORDS) if source.random() < 0.7 else source.getrandbits(source.choice((4, 8, 16, 32)))
        for _ in range(8)
    ]
    if source.random() < 0.8:
        dwords[3] = 0  # the upper half of an address
    return Command(opcode, nsid, *dwords)


def check_zones(device: Device) -> None:
    """Write pointers lie within their zone and agree with the state; neither limit is exceeded."""
    reported = zones(device)
    for index, (zs, wp) in enumerate(reported):
        zslba = index * ZSZE
        if zs in (0xD, 0xE, 0xF):
            assert wp == 2**64 - 1
        elif zs == 0x1:
            assert wp == zslba
        else:
            assert zslba <= wp < zslba + ZCAP
    states = [zs for zs, _ in reported]
    nr_open = states.count(2) + states.count(3)
    assert nr_open <= MOR
    assert nr_open + states.count(4) <= MAR


@pytest.mark.parametrize("where", ["memory", "file"])
@pytest.mark.parametrize("text", [ZNS, ZRWA, NVM])
@pytest.mark.parametrize("seed", range(4))
def test_no_command_raises(
    open_device: Open, tmp_path_factory: pytest.TempPathFactory, text: str, where: str, seed: int
) -> None:
    """Every completion has a status with a name, and an error sets Do Not Retry."""
    source = random.Random(f"{text}{where}{seed}")
    device = open_device(text + (f"&file={tmp_path_factory.mktemp('emu')}/image" if where == "file" else ""))
    for step in range(3000):
        admin = source.random() < 0.1
        command = random_command(source, admin=admin)
        data = bytearray(source.randbytes(source.choice((0, 16, 32, 512, 4096, 8192))))
        status, result = device.execute(command, memoryview(data), admin=admin)
        assert (status.sct, status.sc) in STATUS_NAMES
        assert bool(status) == status.dnr
        assert 0 <= result < 2**64
        if text != NVM and step % 500 == 499:
            strike(device, step // 500 % 6, source.choice((Event.WEAR_OUT, Event.RESET, Event.FAIL)))
        if text != NVM and step % 10 == 0:
            check_zones(device)


@given(
    opcode=st.integers(0, 255),
    nsid=st.integers(0, 2**32 - 1),
    dwords=st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8),
    length=st.integers(0, 9000),
    admin=st.booleans(),
    text=st.sampled_from([ZNS, ZRWA, NVM]),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_at_all(opcode: int, nsid: int, dwords: list[int], length: int, admin: bool, text: str) -> None:
    """Whatever the fields hold, the first command of a device has a status."""
    device = Device(parse_spec(text))
    status, _ = device.execute(Command(opcode, nsid, *dwords), memoryview(bytearray(length)), admin=admin)
    assert (status.sct, status.sc) in STATUS_NAMES
    device.close()
