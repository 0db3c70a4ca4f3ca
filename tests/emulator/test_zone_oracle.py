"""The zoned namespace against a model of a few lines, written from the specification alone, command by command.

The model keeps for each zone its state and the list of what was written, and knows nothing of media or wire formats.
"""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from aionvme.emulator import Device, parse_spec
from aionvme.nvme import nvm, zoned
from aionvme.nvme.opcodes import ZoneSendAction

from .host import run, zones

ZONES, ZSZE, ZCAP, MAR, MOR, LBA = 5, 8, 6, 3, 2, 512
SPEC = f"emu:zns?zones={ZONES}&zone_size={ZSZE * LBA}&zone_capacity={ZCAP * LBA}&lba={LBA}&mar={MAR}&mor={MOR}"
EMPTY, IMPLICIT, EXPLICIT, CLOSED, FULL = "empty", "implicitly opened", "explicitly opened", "closed", "full"
ZS = {EMPTY: 0x1, IMPLICIT: 0x2, EXPLICIT: 0x3, CLOSED: 0x4, FULL: 0xE}


class Model:
    """Zones as two lists, and the order in which they were implicitly opened."""

    def __init__(self) -> None:
        """All zones are empty."""
        self.states = [EMPTY] * ZONES
        self.data: list[list[int]] = [[] for _ in range(ZONES)]
        self.opened: list[int] = []

    def move(self, zone: int, state: str) -> None:
        """Put a zone into a state."""
        if zone in self.opened:
            self.opened.remove(zone)
        if state == IMPLICIT:
            self.opened.append(zone)
        self.states[zone] = state

    def open(self, zone: int, state: str) -> int:
        """Open a zone, if there are resources."""
        before = self.states[zone]
        nr_open = self.states.count(IMPLICIT) + self.states.count(EXPLICIT)
        if before in (EMPTY, CLOSED):
            if nr_open == MOR and self.opened:
                self.move(self.opened[0], CLOSED)
                nr_open -= 1
            if before == EMPTY and nr_open + self.states.count(CLOSED) == MAR:
                return 0x41BD
            if nr_open == MOR:
                return 0x41BE
            self.move(zone, state)
        elif before == IMPLICIT and state == EXPLICIT:
            self.move(zone, EXPLICIT)
        return 0

    def write(self, zone: int, offset: int | None, tags: list[int]) -> tuple[int, int]:
        """A write at an offset, or an append: status, and result of the append."""
        if zone * ZSZE + (offset or 0) + len(tags) > ZONES * ZSZE:
            return 0x4080, 0
        if self.states[zone] == FULL:
            return 0x41B9, 0
        start = len(self.data[zone])
        if offset not in (None, start):
            return 0x41BC, 0
        if start + len(tags) > ZCAP:
            return 0x41B8, 0
        status = self.open(zone, IMPLICIT)
        if status:
            return status, 0
        self.data[zone] += tags
        if len(self.data[zone]) == ZCAP:
            self.move(zone, FULL)
        return 0, zone * ZSZE + start if offset is None else 0

    def send(self, action: int, zone: int) -> int:
        """A zone send action on one zone."""
        state = self.states[zone]
        if action == ZoneSendAction.OPEN:
            return 0x41BF if state == FULL else self.open(zone, EXPLICIT)
        if action == ZoneSendAction.CLOSE:
            if state in (EMPTY, FULL):
                return 0x41BF
            self.move(zone, CLOSED)
        elif action == ZoneSendAction.FINISH:
            self.move(zone, FULL)
        elif action == ZoneSendAction.RESET:
            self.data[zone] = []
            self.move(zone, EMPTY)
        else:
            return 0x41BF
        return 0

    def send_all(self, action: int) -> int:
        """A zone send action with Select All."""
        wanted = {
            ZoneSendAction.OPEN: (CLOSED,),
            ZoneSendAction.CLOSE: (IMPLICIT, EXPLICIT),
            ZoneSendAction.FINISH: (IMPLICIT, EXPLICIT, CLOSED),
            ZoneSendAction.RESET: (IMPLICIT, EXPLICIT, CLOSED, FULL),
        }.get(ZoneSendAction(action), ())
        zones = [zone for zone, state in enumerate(self.states) if state in wanted]
        if action == ZoneSendAction.OPEN and self.states.count(EXPLICIT) + len(zones) > MOR:
            return 0x41BE
        for zone in zones:
            self.send(action, zone)
        return 0

    def report(self) -> list[tuple[int, int]]:
        """State and write pointer of each zone."""
        return [
            (ZS[state], 2**64 - 1 if state == FULL else zone * ZSZE + len(tags))
            for zone, (state, tags) in enumerate(zip(self.states, self.data, strict=True))
        ]

    def read(self, zone: int, offset: int, nlb: int) -> list[int]:
        """What a read within a zone gives."""
        return (self.data[zone] + [0] * ZSZE)[offset : offset + nlb]


def block(tag: int) -> bytes:
    """A block that can be told from others."""
    return tag.to_bytes(4, "little") * (LBA // 4)


def check(device: Device, model: Model) -> None:
    """Reports and everything that can be read are the same."""
    assert zones(device) == model.report()
    for zone in range(ZONES):
        data = bytearray(b"\xee" * (ZSZE * LBA))
        assert run(device, nvm.read(zone * ZSZE, ZSZE), data) == (0, 0)
        assert data == b"".join(map(block, model.read(zone, 0, ZSZE)))


zone_numbers = st.integers(0, ZONES - 1)
lengths = st.integers(1, ZCAP + 1)
actions = st.sampled_from([1, 2, 3, 4, 5])
steps = st.one_of(
    st.tuples(st.just("append"), zone_numbers, lengths),
    st.tuples(st.just("append"), zone_numbers, st.just(1)),
    st.tuples(st.just("write"), zone_numbers, st.integers(0, ZSZE - 1), lengths),
    st.tuples(st.just("zeroes"), zone_numbers, st.integers(0, ZCAP), lengths),
    st.tuples(st.just("copy"), zone_numbers, zone_numbers, st.integers(0, ZCAP), st.integers(1, 2)),
    st.tuples(st.just("send"), actions, zone_numbers),
    st.tuples(st.just("send all"), actions),
)


def append(device: Device, model: Model, tag: int, zone: int, nlb: int) -> None:
    """Append ``nlb`` blocks."""
    tags = [tag << 8 | n for n in range(nlb)]
    assert run(device, zoned.zone_append(zone * ZSZE, nlb), b"".join(map(block, tags))) == model.write(zone, None, tags)


def write(device: Device, model: Model, tag: int, zone: int, offset: int, nlb: int) -> None:
    """Write ``nlb`` blocks at an offset."""
    tags = [tag << 8 | n for n in range(nlb)]
    expected = model.write(zone, offset, tags)
    assert run(device, nvm.write(zone * ZSZE + offset, nlb), b"".join(map(block, tags))) == expected


def zeroes(device: Device, model: Model, tag: int, zone: int, offset: int, nlb: int) -> None:
    """Write zeroes at an offset."""
    expected = model.write(zone, offset, [0] * nlb)
    assert run(device, nvm.write_zeroes(zone * ZSZE + offset, nlb)) == expected


def copy(device: Device, model: Model, tag: int, source: int, zone: int, offset: int, nlb: int) -> None:
    """Copy the first blocks of a zone to an offset in another."""
    expected = model.write(zone, offset, model.read(source, 0, nlb))
    assert run(device, nvm.copy(zone * ZSZE + offset, 1), nvm.copy_ranges([(source * ZSZE, nlb)])) == expected


def send(device: Device, model: Model, tag: int, action: int, zone: int) -> None:
    """A zone send action on one zone."""
    expected = model.send(action, zone), 0
    assert run(device, zoned.zone_management_send(ZoneSendAction(action), zone * ZSZE)) == expected


def send_all(device: Device, model: Model, tag: int, action: int) -> None:
    """A zone send action on all zones it applies to."""
    expected = model.send_all(action), 0
    assert run(device, zoned.zone_management_send(ZoneSendAction(action), select_all=True)) == expected


STEPS: dict[str, Callable[..., None]] = {
    "append": append,
    "write": write,
    "zeroes": zeroes,
    "copy": copy,
    "send": send,
    "send all": send_all,
}


@given(st.lists(steps, max_size=60))
@settings(max_examples=250, deadline=None)
def test_the_device_does_what_the_model_does(sequence: list[tuple[str, ...]]) -> None:
    """Same statuses and results for every command, same zones and same data after it."""
    device, model = Device(parse_spec(SPEC)), Model()
    for tag, (kind, *arguments) in enumerate(sequence, 1):
        STEPS[kind](device, model, tag, *arguments)
        check(device, model)
    device.close()
