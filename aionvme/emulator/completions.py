"""How an emulated command ends: the statuses the device gives, and the exception that carries one out of a handler.

Do Not Retry is set wherever the same command would fail the same way again: everywhere but in an internal error.
"""

from aionvme.nvme.status import SUCCESS, Completion, Status

DONE = Completion(SUCCESS, 0)

INVALID_OPCODE = Status.of(0x0, 0x01, dnr=True)
INVALID_FIELD = Status.of(0x0, 0x02, dnr=True)
DATA_TRANSFER_ERROR = Status.of(0x0, 0x04, dnr=True)
INTERNAL_ERROR = Status.of(0x0, 0x06)
INVALID_NAMESPACE_OR_FORMAT = Status.of(0x0, 0x0B, dnr=True)
DATA_SGL_LENGTH_INVALID = Status.of(0x0, 0x0F, dnr=True)
LBA_OUT_OF_RANGE = Status.of(0x0, 0x80, dnr=True)

INVALID_LOG_PAGE = Status.of(0x1, 0x09, dnr=True)
FEATURE_NOT_SAVEABLE = Status.of(0x1, 0x0D, dnr=True)
FEATURE_NOT_NAMESPACE_SPECIFIC = Status.of(0x1, 0x0F, dnr=True)
COMMAND_SIZE_LIMIT_EXCEEDED = Status.of(0x1, 0x83, dnr=True)

INVALID_ZONE_OPERATION = Status.of(0x1, 0xB6, dnr=True)
ZRWA_RESOURCES_UNAVAILABLE = Status.of(0x1, 0xB7, dnr=True)
ZONE_BOUNDARY_ERROR = Status.of(0x1, 0xB8, dnr=True)
ZONE_IS_FULL = Status.of(0x1, 0xB9, dnr=True)
ZONE_IS_READ_ONLY = Status.of(0x1, 0xBA, dnr=True)
ZONE_IS_OFFLINE = Status.of(0x1, 0xBB, dnr=True)
ZONE_INVALID_WRITE = Status.of(0x1, 0xBC, dnr=True)
TOO_MANY_ACTIVE_ZONES = Status.of(0x1, 0xBD, dnr=True)
TOO_MANY_OPEN_ZONES = Status.of(0x1, 0xBE, dnr=True)
INVALID_ZONE_STATE_TRANSITION = Status.of(0x1, 0xBF, dnr=True)

UNRECOVERED_READ_ERROR = Status.of(0x2, 0x81, dnr=True)
COMPARE_FAILURE = Status.of(0x2, 0x85, dnr=True)


class StatusError(Exception):
    """A handler ends its command with an error status; it never leaves the device."""

    def __init__(self, status: Status, result: int = 0) -> None:
        """``result`` is what the completion entry says beside the status."""
        super().__init__(status, result)
        self.completion = Completion(status, result)


def from_host(data: memoryview, length: int) -> memoryview:
    """The ``length`` bytes that the command takes from the host's memory."""
    if data.nbytes < length:
        raise StatusError(DATA_SGL_LENGTH_INVALID)
    return data[:length]


def to_host(data: memoryview, length: int) -> memoryview:
    """The ``length`` bytes of the host's memory that the command fills."""
    if data.nbytes < length:
        raise StatusError(DATA_SGL_LENGTH_INVALID)
    if data.readonly:
        raise StatusError(DATA_TRANSFER_ERROR)
    return data[:length]
