"""Random write areas and descriptor extensions against a model that adds them to the one of zones, command by command.

The model keeps what is in a window as a table of offsets, and commits from it what the specification says (Technical Proposal
4076): so much that the last block written is within the window again, in whole steps of the granularity.
"""

import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aionvme.emulator import Device, parse_spec
from aionvme.nvme import nvm, zoned
from aionvme.nvme.command import Command

from .host import run
from .test_crash_points import StoppedError, stop_at
from .test_zone_oracle import CLOSED, EMPTY, EXPLICIT, FULL, IMPLICIT, LBA, MAR, SPEC, ZCAP, ZONES, ZSZE, Model, block

Open = Callable[[str], Device]
WINDOW, STEP, NUMZRWA, ZDES = 4, 2, 2, 64
AREAS = f"{SPEC}&zrwas={WINDOW * LBA}&zrwafg={STEP * LBA}&numzrwa={NUMZRWA}&zdes={ZDES}"
OPEN, FINISH, RESET, EXTEND, FLUSH = 0x03, 0x02, 0x04, 0x10, 0x11

Snapshot = list[tuple[int, int, int, bytes, list[int]]]
"""Of each zone: state, attributes, write pointer, extension and what its blocks hold."""


class AreaModel(Model):
    """Zones with random write areas: what is written above the write pointer, by its offset in the zone."""

    def __init__(self) -> None:
        """No zone has an area or an extension."""
        super().__init__()
        self.areas: dict[int, dict[int, int]] = {}
        self.extensions: dict[int, bytes] = {}

    def write(self, zone: int, offset: int | None, tags: list[int]) -> tuple[int, int]:
        """As before in a zone without an area."""
        if zone not in self.areas or zone * ZSZE + (offset or 0) + len(tags) > ZONES * ZSZE:
            return super().write(zone, offset, tags)
        if offset is None:
            return 0x41B6, 0
        wp, end = len(self.data[zone]), offset + len(tags)
        if offset < wp or end > wp + 2 * WINDOW:
            return 0x41BC, 0
        if end > ZCAP:
            return 0x41B8, 0
        if status := self.open(zone, IMPLICIT):
            return status, 0
        self.areas[zone] |= dict(enumerate(tags, offset))
        while wp + WINDOW < end:
            wp += STEP
        self.commit(zone, wp)
        return 0, 0

    def commit(self, zone: int, wp: int) -> None:
        """Take what is below the new write pointer out of the area."""
        area = self.areas[zone]
        self.data[zone] += [area.pop(offset, 0) for offset in range(len(self.data[zone]), wp)]

    def flush(self, zone: int, offset: int) -> int:
        """Flush Explicit ZRWA Range."""
        wp = len(self.data[zone])
        if zone not in self.areas:
            return 0x4002
        if not wp <= offset < min(wp + WINDOW, ZCAP):
            return 0x41B8
        if (offset + 1 - wp) % STEP:
            return 0x4002
        if status := self.open(zone, IMPLICIT):
            return status
        self.commit(zone, offset + 1)
        if offset + 1 == ZCAP:
            self.send(FINISH, zone)
        return 0

    def allocate(self, zone: int) -> int:
        """Open Zone with ZRWAA. An implicitly opened zone that was closed to make room stays closed."""
        if self.states[zone] == FULL:
            return 0x41BF
        if self.states[zone] != EMPTY:
            return 0x41B6
        if status := self.open(zone, EXPLICIT):
            return status
        if len(self.areas) == NUMZRWA:
            self.move(zone, EMPTY)
            return 0x41B7
        self.areas[zone] = {}
        return 0

    def extend(self, zone: int, extension: bytes, zrwaa: bool) -> int:
        """Set Zone Descriptor Extension, also with ZRWAA."""
        if self.states[zone] != EMPTY:
            return 0x41BF
        if ZONES - self.states.count(EMPTY) - self.states.count(FULL) == MAR:
            return 0x41BD
        if zrwaa and len(self.areas) == NUMZRWA:
            return 0x41B7
        self.move(zone, CLOSED)
        self.extensions[zone] = extension
        if zrwaa:
            self.areas[zone] = {}
        return 0

    def send(self, action: int, zone: int) -> int:
        """A zone that is finished or reset gives its area back; what was in it stays when it is finished."""
        if action in (FINISH, RESET) and zone in self.areas:
            self.commit(zone, ZCAP)
            del self.areas[zone]
        if action == RESET:
            self.extensions.pop(zone, None)
        return super().send(action, zone)

    def deallocate(self, zone: int, offset: int, nlb: int) -> None:
        """Blocks read as zeroes."""
        for i in range(offset, offset + nlb):
            if i < len(self.data[zone]):
                self.data[zone][i] = 0
            self.areas.get(zone, {}).pop(i, None)

    def read(self, zone: int, offset: int, nlb: int) -> list[int]:
        """What a read within a zone gives: what was written, below and above the write pointer."""
        blocks = super().read(zone, 0, ZSZE)
        for i, tag in self.areas.get(zone, {}).items():
            blocks[i] = tag
        return blocks[offset : offset + nlb]

    def lose_power(self) -> None:
        """Open zones are closed, or empty when there is nothing to keep."""
        for zone, state in enumerate(self.states):
            if state in (IMPLICIT, EXPLICIT, CLOSED):
                kept = self.data[zone] or zone in self.areas or zone in self.extensions
                self.move(zone, CLOSED if kept else EMPTY)

    def snapshot(self) -> Snapshot:
        """The zones as a host sees them."""
        return [
            (
                zs,
                (zone in self.areas) << 3 | (zone in self.extensions) << 7,
                wp,
                self.extensions.get(zone, bytes(ZDES)),
                self.read(zone, 0, ZSZE),
            )
            for zone, (zs, wp) in enumerate(self.report())
        ]


def snapshot(device: Device) -> Snapshot:
    """The zones as the device reports them, by the offsets of figure 37, and every block read."""
    report = bytearray(4096)
    assert run(device, Command(0x7A, cdw12=1023, cdw13=1), report) == (0, 0)
    found: Snapshot = []
    for zone in range(ZONES):
        entry = report[64 + zone * (64 + ZDES) : 64 + (zone + 1) * (64 + ZDES)]
        data = bytearray(b"\xee" * (ZSZE * LBA))
        assert run(device, nvm.read(zone * ZSZE, ZSZE), data) == (0, 0)
        tags = [int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data), LBA)]
        assert data == b"".join(map(block, tags))
        wp = int.from_bytes(entry[24:32], "little")
        found.append((entry[1] >> 4, entry[2], wp, bytes(entry[64:]), tags))
    return found


zone_numbers = st.sampled_from([0, 0, 0, 0, 1, 1, *range(ZONES)])
offsets = st.integers(0, ZCAP)
steps = st.one_of(
    st.tuples(st.just("write"), zone_numbers, offsets, st.integers(1, ZCAP + 1)),
    st.tuples(st.just("write"), zone_numbers, offsets, st.just(1)),
    st.tuples(st.just("append"), zone_numbers, st.integers(1, 2), st.just(0)),
    st.tuples(st.just("copy"), zone_numbers, offsets, st.integers(1, 2)),
    st.tuples(st.just("deallocate"), zone_numbers, offsets, st.integers(1, 2)),
    st.tuples(st.just("allocate"), zone_numbers, st.just(0), st.just(0)),
    st.tuples(st.just("allocate"), zone_numbers, st.just(0), st.just(0)),
    st.tuples(st.just("flush"), zone_numbers, st.integers(0, ZCAP + 1), st.just(0)),
    st.tuples(st.just("send"), zone_numbers, st.just(RESET), st.just(0)),
    st.tuples(st.just("extend"), zone_numbers, st.integers(0, 1), st.just(0)),
    st.tuples(st.just("send"), zone_numbers, st.sampled_from([1, 2, 3, 4, 5]), st.just(0)),
    st.tuples(st.just("send all"), st.just(0), st.sampled_from([1, 2, 3, 4, 5]), st.just(0)),
)
Step = tuple[str, int, int, int]


def command_of(step: Step, tags: list[int]) -> tuple[Command, bytes]:
    """The command of a step, put together from the dwords, and its data."""
    kind, zone, a, b = step
    zslba = zone * ZSZE
    if kind in ("write", "append"):
        data = b"".join(map(block, tags))
        return (nvm.write(zslba + a, b), data) if kind == "write" else (zoned.zone_append(zslba, a), data)
    if kind == "copy":
        return nvm.copy(zslba + a, 1), nvm.copy_ranges([(0, b)])
    if kind == "deallocate":
        return nvm.dataset_management(1, deallocate=True), nvm.dsm_ranges([(zslba + a, b)])
    if kind == "allocate":
        return Command(0x79, cdw10=zslba, cdw13=OPEN | 1 << 9), b""
    if kind == "flush":
        return Command(0x79, cdw10=zslba + a, cdw13=FLUSH), b""
    if kind == "extend":
        return Command(0x79, cdw10=zslba, cdw13=EXTEND | a << 9), bytes(tags[0].to_bytes(4, "little") * (ZDES // 4))
    return Command(0x79, cdw10=zslba, cdw13=a | (kind == "send all") << 8), b""


def apply(model: AreaModel, step: Step, tags: list[int]) -> tuple[int, int]:
    """Status and result that the model gives for a step."""
    kind, zone, a, b = step
    if kind == "write":
        return model.write(zone, a, tags)
    if kind == "append":
        return model.write(zone, None, tags)
    if kind == "copy":
        return model.write(zone, a, model.read(0, 0, b))
    if kind == "deallocate":
        model.deallocate(zone, a, b)
        return 0, 0
    if kind == "allocate":
        return model.allocate(zone), 0
    if kind == "flush":
        return model.flush(zone, a), 0
    if kind == "extend":
        return model.extend(zone, command_of(step, tags)[1], bool(a)), 0
    return (model.send_all(a) if kind == "send all" else model.send(a, zone)), 0


def tags_of(number: int, step: Step) -> list[int]:
    """A tag for each block of a step, none of them used before."""
    kind, _, a, b = step
    return [number << 8 | n for n in range({"write": b, "append": a}.get(kind, 1))]


@given(st.lists(steps, max_size=60))
@settings(max_examples=250, deadline=None)
def test_the_device_does_what_the_model_does(sequence: list[Step]) -> None:
    """Same statuses and results for every command, same zones, extensions and blocks after it."""
    device, model = Device(parse_spec(AREAS)), AreaModel()
    for number, step in enumerate(sequence, 1):
        tags = tags_of(number, step)
        command, data = command_of(step, tags)
        assert run(device, command, data) == apply(model, step, tags)
        assert snapshot(device) == model.snapshot()
    device.close()


def some_steps(seed: int) -> list[Step]:
    """Steps that go on for long on few zones, mostly in areas."""
    source = random.Random(seed)
    kinds = ["write"] * 6 + ["flush"] * 3 + ["allocate"] * 3 + ["extend", "append", "send", "send"]
    found: list[Step] = []
    for _ in range(400):
        kind, zone = source.choice(kinds), source.randrange(3)
        a = (
            source.choice((1, 2, 4, 4))
            if kind == "send"
            else source.randrange(2)
            if kind == "extend"
            else source.randrange(ZCAP)
        )
        found.append((kind, zone, 1 if kind == "append" else a, source.randrange(1, 4)))
    return found


@pytest.mark.parametrize("seed", range(3))
def test_stopped_at_each_write(open_device: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """A device in a file, stopped before each single write to the file: what was acknowledged is there, in the window too, and
    the command under way as a whole or not at all, but that the data of a write may be there before its window has moved."""
    spec = f"{AREAS}&file={tmp_path}/image"
    for count in range(1, 100):  # the first write makes the file
        (tmp_path / "image").unlink(missing_ok=True)
        model, perhaps, device = AreaModel(), AreaModel(), None
        with monkeypatch.context() as patch:
            stop_at(patch, count, within=False)
            try:
                device = Device(parse_spec(spec))
                for number, step in enumerate(some_steps(seed), 1):
                    tags = tags_of(number, step)
                    command, data = command_of(step, tags)
                    expected = apply(perhaps, step, tags)
                    assert run(device, command, data) == expected
                    assert apply(model, step, tags) == expected
                raise AssertionError("the steps were all carried out")
            except StoppedError:
                pass
            finally:
                if device is not None:
                    device.close()
        halfway, (kind, zone, offset, _) = deepcopy(model), step
        if kind == "write" and zone in halfway.areas:
            halfway.areas[zone] |= dict(enumerate(tags, offset))
        second = open_device(spec)
        found = snapshot(second)
        second.close()
        possible = []
        for each in (model, perhaps, halfway):
            each.lose_power()
            possible.append(each.snapshot())
        assert found in possible
