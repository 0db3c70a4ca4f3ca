"""The zone state machine as one table (Zoned Namespace Command Set Specification 1.1, section 2.1.1.4 and its figures).

Nothing here knows of commands, limits or data. An entry is the state that an event leads to, which may be the same one,
or the status with which it is refused. Whether resources allow the step is the zone table's business.
"""

from enum import IntEnum

from aionvme.emulator.completions import (
    INVALID_ZONE_STATE_TRANSITION,
    ZONE_IS_FULL,
    ZONE_IS_OFFLINE,
    ZONE_IS_READ_ONLY,
)
from aionvme.nvme.opcodes import ZoneState
from aionvme.nvme.status import Status


class Event(IntEnum):
    """What happens to a zone. The first six are Zone Send Actions, with their codes."""

    CLOSE = 0x01
    FINISH = 0x02
    OPEN = 0x03
    RESET = 0x04
    OFFLINE = 0x05
    EXTEND = 0x10
    """The zone is given a descriptor extension."""
    WRITE = 0x20
    """Blocks are about to be written at the write pointer."""
    FILL = 0x21
    """The write pointer has reached the zone's capacity."""
    EVICT = 0x22
    """The controller takes back the open resources of an implicitly opened zone."""
    POWER_LOSS = 0x23
    """The controller starts again, and the zone has something to keep: blocks, or a descriptor extension."""
    POWER_LOSS_UNUSED = 0x24
    """The controller starts again, and nothing is lost with the zone."""
    WEAR_OUT = 0x25
    """The media can be read and no longer written."""
    FAIL = 0x26
    """The media can be neither read nor written."""


_EMPTY = ZoneState.EMPTY
_IMPLICIT = ZoneState.IMPLICITLY_OPENED
_EXPLICIT = ZoneState.EXPLICITLY_OPENED
_CLOSED = ZoneState.CLOSED
_FULL = ZoneState.FULL
_READ_ONLY = ZoneState.READ_ONLY
_OFFLINE = ZoneState.OFFLINE
_NO = INVALID_ZONE_STATE_TRANSITION

_COLUMNS = (_EMPTY, _IMPLICIT, _EXPLICIT, _CLOSED, _FULL, _READ_ONLY, _OFFLINE)
_ROWS: dict[Event, tuple[ZoneState | Status, ...]] = {
    # from:       EMPTY       IMPLICIT    EXPLICIT    CLOSED      FULL          READ ONLY          OFFLINE
    Event.OPEN: (_EXPLICIT, _EXPLICIT, _EXPLICIT, _EXPLICIT, _NO, _NO, _NO),
    Event.CLOSE: (_NO, _CLOSED, _CLOSED, _CLOSED, _NO, _NO, _NO),
    Event.FINISH: (_FULL, _FULL, _FULL, _FULL, _FULL, _NO, _NO),
    Event.RESET: (_EMPTY, _EMPTY, _EMPTY, _EMPTY, _EMPTY, _NO, _NO),
    Event.OFFLINE: (_NO, _NO, _NO, _NO, _NO, _OFFLINE, _OFFLINE),
    Event.EXTEND: (_CLOSED, _NO, _NO, _NO, _NO, _NO, _NO),
    Event.WRITE: (_IMPLICIT, _IMPLICIT, _EXPLICIT, _IMPLICIT, ZONE_IS_FULL, ZONE_IS_READ_ONLY, ZONE_IS_OFFLINE),
    Event.FILL: (_NO, _FULL, _FULL, _NO, _NO, _NO, _NO),
    Event.EVICT: (_NO, _CLOSED, _NO, _NO, _NO, _NO, _NO),
    Event.POWER_LOSS: (_EMPTY, _CLOSED, _CLOSED, _CLOSED, _FULL, _READ_ONLY, _OFFLINE),
    Event.POWER_LOSS_UNUSED: (_EMPTY, _EMPTY, _EMPTY, _EMPTY, _FULL, _READ_ONLY, _OFFLINE),
    Event.WEAR_OUT: (_READ_ONLY, _READ_ONLY, _READ_ONLY, _READ_ONLY, _READ_ONLY, _READ_ONLY, _NO),
    Event.FAIL: (_OFFLINE, _OFFLINE, _OFFLINE, _OFFLINE, _OFFLINE, _OFFLINE, _OFFLINE),
}

TRANSITIONS: dict[tuple[int, int], ZoneState | Status] = {
    (state, event): outcome for event, row in _ROWS.items() for state, outcome in zip(_COLUMNS, row, strict=True)
}
"""(state, event) to the next state, or to the status of the refusal."""

OPEN_STATES = frozenset({_IMPLICIT, _EXPLICIT})
"""States that hold open resources (section 2.1.1.4.1)."""

ACTIVE_STATES = frozenset({_IMPLICIT, _EXPLICIT, _CLOSED})
"""States that hold active resources (same section)."""

SELECTED_BY_ALL: dict[int, frozenset[ZoneState]] = {
    Event.CLOSE: OPEN_STATES,
    Event.FINISH: ACTIVE_STATES,
    Event.OPEN: frozenset({_CLOSED}),
    Event.RESET: ACTIVE_STATES | {_FULL},
    Event.OFFLINE: frozenset({_READ_ONLY}),
}
"""Which zones an action takes when Select All is set (section 3.4.3.1)."""
