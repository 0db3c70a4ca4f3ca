"""The zone state machine, through commands (Zoned Namespace Command Set 1.1, section 2.1.1.4 and section 3.4.3).

The tables here are written from the specification: which state each Zone Send Action and each write leads to, and with
which status it is refused otherwise.
"""

from collections.abc import Callable

import pytest

from aionvme.emulator import Device
from aionvme.emulator.zone_states import Event
from aionvme.nvme import nvm, zoned
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import ZoneSendAction

from .host import run, strike, zones

Open = Callable[[str], Device]
SPEC = "emu:zns?zones=8&zone_size=32KiB&zone_capacity=16KiB&lba=4096"
ZSZE, ZCAP = 8, 4

EMPTY, IMPLICIT, EXPLICIT, CLOSED, READ_ONLY, FULL, OFFLINE = 0x1, 0x2, 0x3, 0x4, 0xD, 0xE, 0xF
CLOSE, FINISH, OPEN, RESET, TAKE_OFFLINE = 0x01, 0x02, 0x03, 0x04, 0x05
STATES = (EMPTY, IMPLICIT, EXPLICIT, CLOSED, READ_ONLY, FULL, OFFLINE)

# What the specification allows; anything else is Invalid Zone State Transition, 41BFh.
ALLOWED = {
    OPEN: {EMPTY: EXPLICIT, IMPLICIT: EXPLICIT, EXPLICIT: EXPLICIT, CLOSED: EXPLICIT},
    CLOSE: {IMPLICIT: CLOSED, EXPLICIT: CLOSED, CLOSED: CLOSED},
    FINISH: {EMPTY: FULL, IMPLICIT: FULL, EXPLICIT: FULL, CLOSED: FULL, FULL: FULL},
    RESET: {EMPTY: EMPTY, IMPLICIT: EMPTY, EXPLICIT: EMPTY, CLOSED: EMPTY, FULL: EMPTY},
    TAKE_OFFLINE: {READ_ONLY: OFFLINE, OFFLINE: OFFLINE},
}
SELECTED = {
    OPEN: {CLOSED},
    CLOSE: {IMPLICIT, EXPLICIT},
    FINISH: {IMPLICIT, EXPLICIT, CLOSED},
    RESET: {IMPLICIT, EXPLICIT, CLOSED, FULL},
    TAKE_OFFLINE: {READ_ONLY},
}
WRITTEN = {EMPTY: IMPLICIT, IMPLICIT: IMPLICIT, EXPLICIT: EXPLICIT, CLOSED: IMPLICIT}
WRITE_REFUSED = {FULL: 0x41B9, READ_ONLY: 0x41BA, OFFLINE: 0x41BB}


def zone_states(device: Device) -> list[int]:
    """State of every zone, as reported."""
    return [zs for zs, _ in zones(device)]


def send(device: Device, action: int, zslba: int = 0, *, select_all: bool = False) -> int:
    """Status of a Zone Management Send."""
    return run(device, zoned.zone_management_send(ZoneSendAction(action), zslba, select_all=select_all)).status


def bring(device: Device, zone: int, state: int) -> None:
    """Bring an empty zone into a state, with one block written where the state allows any."""
    zslba = zone * ZSZE
    if state in (IMPLICIT, EXPLICIT, CLOSED):
        assert run(device, nvm.write(zslba, 1), bytes(4096)).status == 0
    if state == EXPLICIT:
        assert send(device, OPEN, zslba) == 0
    elif state == CLOSED:
        assert send(device, CLOSE, zslba) == 0
    elif state == FULL:
        assert send(device, FINISH, zslba) == 0
    elif state in (READ_ONLY, OFFLINE):
        strike(device, zone, Event.WEAR_OUT if state == READ_ONLY else Event.FAIL)
    assert zone_states(device)[zone] == state


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("action", ALLOWED)
def test_every_action_in_every_state(open_device: Open, action: int, state: int) -> None:
    """An action leads where the specification says, or is refused and changes nothing."""
    device = open_device(SPEC)
    bring(device, 3, state)
    expected = ALLOWED[action].get(state)
    assert send(device, action, 3 * ZSZE) == (0x41BF if expected is None else 0)
    assert zone_states(device) == [EMPTY] * 3 + [state if expected is None else expected] + [EMPTY] * 4


@pytest.mark.parametrize("action", ALLOWED)
def test_select_all_takes_the_states_of_the_action(open_device: Open, action: int) -> None:
    """With Select All an action moves the zones it applies to, leaves the others, and succeeds."""
    device = open_device(SPEC)
    for zone, state in enumerate(STATES):
        bring(device, zone, state)
    assert send(device, action, select_all=True) == 0
    expected = [ALLOWED[action][state] if state in SELECTED[action] else state for state in STATES]
    assert zone_states(device) == [*expected, EMPTY]


@pytest.mark.parametrize("action", ALLOWED)
def test_select_all_with_nothing_to_do_succeeds(open_device: Open, action: int) -> None:
    """No zone in a state that the action takes is no error, and the address is ignored."""
    device = open_device(SPEC)
    assert send(device, action, 5, select_all=True) == 0
    assert zone_states(device) == [EMPTY] * 8


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("append", [False, True])
def test_writing_in_every_state(open_device: Open, state: int, append: bool) -> None:
    """A write or an append opens the zone implicitly, unless the zone cannot be written to."""
    device = open_device(SPEC)
    bring(device, 3, state)
    offset = 1 if state in (IMPLICIT, EXPLICIT, CLOSED) else 0
    command = zoned.zone_append(24, 1) if append else nvm.write(24 + offset, 1)
    completion = run(device, command, bytes(4096))
    if state in WRITE_REFUSED:
        assert completion == (WRITE_REFUSED[state], 0)
        assert zone_states(device)[3] == state
    else:
        assert completion == (0, 24 + offset if append else 0)
        assert zone_states(device)[3] == WRITTEN[state]


@pytest.mark.parametrize("state", STATES)
def test_reading_in_every_state(open_device: Open, state: int) -> None:
    """Every zone can be read but one that is offline: 41BBh."""
    device = open_device(SPEC)
    bring(device, 3, state)
    assert run(device, nvm.read(24, 1), bytearray(4096)).status == (0x41BB if state == OFFLINE else 0)


@pytest.mark.parametrize("state", [EMPTY, IMPLICIT, EXPLICIT, CLOSED])
def test_writing_up_to_the_capacity_fills_the_zone(open_device: Open, state: int) -> None:
    """The zone is full when the write pointer reaches its capacity, which is less than its size."""
    device = open_device(SPEC)
    bring(device, 3, state)
    left = ZCAP if state == EMPTY else ZCAP - 1
    assert run(device, zoned.zone_append(24, left), bytes(4096 * left)).status == 0
    assert zone_states(device)[3] == FULL


def test_an_offline_or_worn_out_zone_stays_so(open_device: Open) -> None:
    """No action brings an offline zone back, and select-all reset passes both by."""
    device = open_device(SPEC)
    bring(device, 0, READ_ONLY)
    bring(device, 1, OFFLINE)
    assert send(device, RESET, select_all=True) == 0
    assert zone_states(device)[:2] == [READ_ONLY, OFFLINE]


@pytest.mark.parametrize(
    ("cdw13", "status"),
    [
        (0x00, 0x4002),  # no such action
        (0x06, 0x4002),
        (0xFF, 0x4002),
        (0x10, 0x4002),  # Set Zone Descriptor Extension, of which the format has none
        (0x11, 0x41B6),  # Flush Explicit ZRWA Range, without ZRWAs: Invalid Zone Operation Request
        (0x111, 0x4002),  # the same with Select All, which it never takes
        (0x203, 0x41B6),  # Open, allocating a ZRWA
        (0x303, 0x41B6),
        (0x210, 0x4002),  # there are none, whatever else is asked for
        (0x310, 0x4002),
    ],
)
def test_actions_that_are_not_supported(open_device: Open, cdw13: int, status: int) -> None:
    """What the namespace does not offer is refused, and the zone stays empty."""
    device = open_device(SPEC)
    assert run(device, Command(0x79, cdw13=cdw13)).status == status
    assert zone_states(device) == [EMPTY] * 8


def test_an_action_needs_the_start_of_a_zone(open_device: Open) -> None:
    """An address inside a zone is an invalid field, one beyond the namespace out of range."""
    device = open_device(SPEC)
    assert send(device, OPEN, 1) == 0x4002
    assert send(device, OPEN, 64) == 0x4080
    assert send(device, OPEN, 2**64 - 8) == 0x4080
