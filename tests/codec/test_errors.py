"""Exceptions: one class for each code that programs handle, and what each says."""

import copy
import pickle

import pytest

from aionvme import errors
from aionvme.errors import AionvmeError, ClosedError, NvmeError, UsageError, WrongLoopError, nvme_error
from aionvme.nvme.status import Status

CLASS_OF = {
    0x0001: "InvalidOpcodeError",
    0x0002: "InvalidFieldError",
    0x0006: "InternalDeviceError",
    0x0007: "CommandAbortRequestedError",
    0x0008: "SubmissionQueueDeletedError",
    0x000F: "DataLengthInvalidError",
    0x0020: "WriteProtectedError",
    0x0080: "LbaOutOfRangeError",
    0x0181: "InvalidProtectionInformationError",
    0x01B8: "ZoneBoundaryError",
    0x01B9: "ZoneFullError",
    0x01BA: "ZoneReadOnlyError",
    0x01BB: "ZoneOfflineError",
    0x01BC: "ZoneInvalidWriteError",
    0x01BD: "TooManyActiveZonesError",
    0x01BE: "TooManyOpenZonesError",
    0x01BF: "InvalidZoneStateTransitionError",
    0x0280: "WriteFaultError",
    0x0281: "UnrecoveredReadError",
    0x0282: "GuardCheckError",
    0x0283: "ApplicationTagCheckError",
    0x0284: "ReferenceTagCheckError",
    0x0285: "CompareFailureError",
    0x0287: "DeallocatedBlockError",
    0x0370: "HostPathingError",
}


@pytest.mark.parametrize(("code", "name"), CLASS_OF.items())
@pytest.mark.parametrize("flags", [0x0000, 0x4000, 0x6000, 0x1800])
def test_class_goes_by_the_code_alone(code: int, name: str, flags: int) -> None:
    """SCT and SC pick the class; DNR, More and the retry delay do not."""
    error = nvme_error(code | flags, "read of 8 blocks at LBA 0x10")
    assert type(error) is getattr(errors, name)
    assert (error.status, error.sct, error.sc) == (code | flags, code >> 8, code & 0xFF)
    assert error.dnr == bool(flags & 0x4000)


def test_code_without_a_class_is_an_nvme_error() -> None:
    """Every error status is caught as NvmeError, also one that no class stands for."""
    assert type(nvme_error(0x47C5, "x")) is NvmeError


def test_every_class_is_tested_here() -> None:
    """No subclass is registered that the table of this module does not have."""
    defined = {cls.__name__ for cls in NvmeError.__subclasses__() if cls.__module__ == errors.__name__}
    assert defined == set(CLASS_OF.values())


def test_duplicates_are_refused() -> None:
    """A second class for a code is a TypeError that names both, and the first keeps the code."""
    with pytest.raises(TypeError, match=r"ZoneFullError already stands for SCT 0x1, SC 0xb9"):
        type("Another", (NvmeError,), {}, sct=0x1, sc=0xB9)
    assert type(nvme_error(0x41B9, "x")) is errors.ZoneFullError


def test_a_program_may_subclass_for_itself() -> None:
    """A subclass without a code is a program's own: it can be raised, and takes no status from the class that has it."""
    own = type("LogFull", (errors.ZoneFullError,), {})
    assert type(nvme_error(0x41B9, "x")) is errors.ZoneFullError
    with pytest.raises(errors.ZoneFullError):
        raise own(0x41B9, "x")


def test_str_says_command_name_codes_and_retry() -> None:
    """The message is enough to look the error up, and to know whether a retry makes sense."""
    assert str(nvme_error(0x4285, "compare of 8 blocks")) == (
        "compare of 8 blocks: Compare Failure (SCT 0x2, SC 0x85, do not retry)"
    )
    assert str(nvme_error(0x0006, "flush")) == "flush: Internal Error (SCT 0x0, SC 0x06, may be retried)"
    assert str(nvme_error(0x47C5, "x")) == (
        "x: status code type 0x7, status code 0xc5 (SCT 0x7, SC 0xc5, do not retry)"
    )


@pytest.mark.parametrize("status", [0x4285, 0x41B9, 0x6006, 0x47C5])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_error_is_the_same(status: int, protocol: int) -> None:
    """An error keeps its class, status and message on the way to another process."""
    error = nvme_error(status, "append to zone 3")
    restored = pickle.loads(pickle.dumps(error, protocol))
    assert type(restored) is type(error)
    assert isinstance(restored.status, Status)
    assert (restored.status, restored.command, str(restored)) == (error.status, error.command, str(error))


def test_copied_error_is_the_same() -> None:
    """copy.copy goes the same way as pickling."""
    error = nvme_error(0x41B9, "append to zone 3")
    assert str(copy.copy(error)) == str(error)


@pytest.mark.parametrize("cls", [UsageError, ClosedError, WrongLoopError])
def test_misuse_is_a_value_error_and_no_status(cls: type[UsageError]) -> None:
    """What the caller did wrong is never mixed with what the device or the system said."""
    assert issubclass(cls, AionvmeError)
    assert issubclass(cls, ValueError)
    assert not issubclass(cls, NvmeError | OSError)


def test_status_errors_are_no_os_errors() -> None:
    """An NVMe status is not an errno."""
    assert issubclass(NvmeError, AionvmeError)
    assert not issubclass(NvmeError, OSError | ValueError)
