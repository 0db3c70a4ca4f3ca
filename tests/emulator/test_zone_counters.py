"""What the device counts for each zone, against what was done to it, by a clock that the test sets."""

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aionvme.emulator import Device, parse_spec
from aionvme.emulator.zone_states import Event
from aionvme.nvme import nvm, zoned
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import ZoneSendAction

from .host import run, strike, zones

ZSZE, LBA = 8, 512
SPEC = "emu:zns?zones=6&zone_size=4KiB&zone_capacity=3KiB&lba=512&mor=2"
FIELDS = (
    "zslba", "writes", "write_blocks", "appends", "append_blocks", "resets", "finishes", "explicit_opens",
    "implicit_opens", "implicit_closes", "open_ns",
)  # fmt: skip


class Bench:
    """A device, and the time of its clock."""

    def __init__(self, text: str = SPEC) -> None:
        """The time is 1000 ns, and stands still."""
        self.now = 1000
        self.device = Device(parse_spec(text), clock=lambda: self.now)

    def run(self, command: Command, nlb: int = 0, status: int = 0) -> None:
        """Carry out a command with ``nlb`` blocks of data."""
        assert run(self.device, command, bytes(nlb * LBA)).status == status

    def write(self, slba: int, nlb: int = 1, status: int = 0) -> None:
        """Write blocks."""
        self.run(nvm.write(slba, nlb), nlb, status)

    def append(self, zone: int, nlb: int = 1, status: int = 0) -> None:
        """Append blocks."""
        self.run(zoned.zone_append(zone * ZSZE, nlb), nlb, status)

    def send(self, action: ZoneSendAction, zone: int = 0, status: int = 0, *, select_all: bool = False) -> None:
        """A zone send action."""
        self.run(zoned.zone_management_send(action, zone * ZSZE, select_all=select_all), 0, status)

    def counted(self, zone: int) -> dict[str, int]:
        """What was counted for a zone, but for what is 0."""
        row = self.device.zone_counters()[zone]
        return {name: int(row[name]) for name in FIELDS[1:] if row[name]}


@pytest.fixture
def bench() -> Iterator[Bench]:
    """Six zones, two of which may be open."""
    bench = Bench()
    yield bench
    bench.device.close()


def test_a_row_for_each_zone(bench: Bench) -> None:
    """Nothing was done: addresses alone. A namespace without zones has no rows."""
    rows = bench.device.zone_counters()
    assert rows.dtype.names == FIELDS
    assert rows["zslba"].tolist() == list(range(0, 6 * ZSZE, ZSZE))
    assert not any(rows[name].any() for name in FIELDS[1:])
    assert len(Bench("emu:nvm").device.zone_counters()) == 0


def test_commands_and_blocks(bench: Bench) -> None:
    """Whatever writes but appends is a write, each range of a Copy one; what is refused or reads counts nothing."""
    bench.write(0, 2)
    bench.run(nvm.write_zeroes(2, 1))
    bench.run(nvm.write_uncorrectable(3, 1))
    bench.write(0, 1, status=0x41BC)
    bench.append(0, 1)
    bench.append(0, 2, status=0x41B8)
    ranges = nvm.copy_ranges([(0, 2), (1, 1)])
    assert run(bench.device, nvm.copy(ZSZE, 2), ranges).status == 0
    assert run(bench.device, nvm.read(0, 2), bytearray(1024)).status == 0
    assert run(bench.device, nvm.dataset_management(1, deallocate=True), nvm.dsm_ranges([(0, 2)])).status == 0
    assert bench.counted(0) == {"writes": 3, "write_blocks": 4, "appends": 1, "append_blocks": 1, "implicit_opens": 1}
    assert bench.counted(1) == {"writes": 2, "write_blocks": 3, "implicit_opens": 1}


def test_changes_of_state(bench: Bench) -> None:
    """An action counts where it changed the zone's state: an implicitly opened zone can be opened, an open one not again."""
    bench.write(0)
    bench.send(ZoneSendAction.OPEN)
    bench.send(ZoneSendAction.OPEN)
    bench.send(ZoneSendAction.CLOSE)
    bench.write(1)
    bench.send(ZoneSendAction.FINISH)
    bench.send(ZoneSendAction.FINISH)
    bench.send(ZoneSendAction.OPEN, status=0x41BF)
    bench.send(ZoneSendAction.RESET)
    bench.send(ZoneSendAction.RESET)
    assert bench.counted(0) == {
        "writes": 2, "write_blocks": 2, "explicit_opens": 1, "implicit_opens": 2, "finishes": 1, "resets": 1,
    }  # fmt: skip
    bench.write(8, 6)  # full by itself: nobody finished it
    assert bench.counted(1) == {"writes": 1, "write_blocks": 6, "implicit_opens": 1}


def test_actions_on_all_zones_count_for_each(bench: Bench) -> None:
    """Select All counts for the zones it changed, and for no other."""
    bench.append(0)
    bench.append(1)
    bench.send(ZoneSendAction.CLOSE, select_all=True)
    bench.send(ZoneSendAction.OPEN, select_all=True)
    bench.send(ZoneSendAction.FINISH, select_all=True)
    bench.send(ZoneSendAction.RESET, select_all=True)
    each = {"appends": 1, "append_blocks": 1, "implicit_opens": 1, "explicit_opens": 1, "finishes": 1, "resets": 1}
    assert [bench.counted(zone) for zone in range(3)] == [each, each, {}]


def test_evictions(bench: Bench) -> None:
    """A zone that is closed to make room for a third is counted, as is each time it is opened again."""
    for zone in (0, 1, 2, 0):
        bench.append(zone)
    closes = [bench.counted(zone).get("implicit_closes", 0) for zone in range(3)]
    opens = [bench.counted(zone).get("implicit_opens", 0) for zone in range(3)]
    assert (closes, opens) == ([1, 1, 0], [2, 1, 1])
    bench.send(ZoneSendAction.CLOSE, 0)
    assert bench.counted(0)["implicit_closes"] == 1


def test_time_spent_open(bench: Bench) -> None:
    """From the opening to the closing, whoever did either, and until now while the zone is open; the change from implicitly to
    explicitly opened does not begin anew."""
    bench.append(0)
    bench.now += 10
    assert [bench.counted(zone).get("open_ns") for zone in (0, 1)] == [10, None]
    bench.send(ZoneSendAction.OPEN, 0)
    bench.now += 5
    bench.send(ZoneSendAction.CLOSE, 0)
    bench.now += 100
    assert bench.counted(0)["open_ns"] == 15
    bench.append(0)
    bench.append(1)
    bench.now += 3
    bench.append(2)  # closes 0
    bench.now += 1000
    assert [bench.counted(zone)["open_ns"] for zone in range(3)] == [18, 1003, 1000]
    bench.send(ZoneSendAction.FINISH, 1)
    bench.append(2, 5)  # full
    bench.now += 1000
    assert [bench.counted(zone)["open_ns"] for zone in range(3)] == [18, 1003, 1000]
    bench.append(3)
    bench.now += 7
    strike(bench.device, 3, Event.WEAR_OUT)
    bench.now += 1
    assert bench.counted(3)["open_ns"] == 7


def test_what_is_told_is_a_copy(bench: Bench) -> None:
    """Rows stay what they were, so that two can be subtracted."""
    before = bench.device.zone_counters()
    bench.append(4, 2)
    after = bench.device.zone_counters()
    assert [int((after[name] - before[name]).sum()) for name in ("appends", "append_blocks")] == [1, 2]


def test_overwriting_in_a_random_write_area() -> None:
    """Blocks written again count again, so that what they cost can be told from what the zone took. A flush opens the zone."""
    bench = Bench(f"{SPEC}&zrwas=2KiB")
    bench.run(Command(0x79, cdw13=0x203))
    for _ in range(5):
        bench.write(1, 2)
    bench.send(ZoneSendAction.CLOSE)
    bench.run(Command(0x79, cdw10=2, cdw13=0x11))
    assert zones(bench.device)[0] == (2, 3)
    assert bench.counted(0) == {"writes": 5, "write_blocks": 10, "explicit_opens": 1, "implicit_opens": 1}
    bench.device.close()


def test_a_power_cycle_begins_anew(tmp_path: Path) -> None:
    """Counters are the device's, not the file's; zones that were open when it went away are not open since then."""
    text = f"{SPEC}&file={tmp_path}/image"
    first = Bench(text)
    first.append(0)
    first.device.close()
    second = Bench(text)
    second.now += 5
    assert second.counted(0) == {}
    second.append(0)
    second.now += 5
    assert second.counted(0) == {"appends": 1, "append_blocks": 1, "implicit_opens": 1, "open_ns": 5}
    second.device.close()


def test_long_use(bench: Bench) -> None:
    """Of three thousand random commands those are counted that succeeded, with their blocks, and the zones' open time is that
    in which reports have shown them open."""
    source, done, opened = random.Random(3), Counter[tuple[str, int]](), Counter[int]()
    for _ in range(3000):
        zone, nlb = source.randrange(6), source.randrange(1, 4)
        kind = source.choice(("append", "append", "write", "reset", "close"))
        wp = next(wp for i, (_, wp) in enumerate(zones(bench.device)) if i == zone)
        command = {
            "append": zoned.zone_append(zone * ZSZE, nlb),
            "write": nvm.write(min(wp, zone * ZSZE), nlb),
            "reset": zoned.zone_management_send(ZoneSendAction.RESET, zone * ZSZE),
            "close": zoned.zone_management_send(ZoneSendAction.CLOSE, zone * ZSZE),
        }[kind]
        before = zones(bench.device)[zone][0]
        if run(bench.device, command, bytes(nlb * LBA)).status == 0 and (kind != "reset" or before != 1):
            done[kind, zone] += 1
            done[kind + "_blocks", zone] += nlb
        for i, (zs, _) in enumerate(zones(bench.device)):
            opened[i] += 7 * (zs in (2, 3))
        bench.now += 7
    rows = bench.device.zone_counters()
    for field, kind in {
        "appends": "append", "append_blocks": "append_blocks", "writes": "write", "write_blocks": "write_blocks",
        "resets": "reset",
    }.items():  # fmt: skip
        assert rows[field].tolist() == [done[kind, zone] for zone in range(6)]
    assert rows["open_ns"].tolist() == [opened[zone] for zone in range(6)]
    assert rows["implicit_closes"].min() > 0
