"""Exceptions: a status the device gave, a misuse, (as OSError) what the operating system said, and what the host found in data
that a command has read: never mixed.

``NvmeError`` and its subclasses carry the completion's status; a subclass exists for each status that programs handle,
and :func:`nvme_error` picks it. ``UsageError`` is raised before anything is submitted. Failures of the operating system
are OSError, with errno and the likely cause: of a class of its own where a program has something of its own to do about it
(``CommandAbortedError``, ``DeviceGoneError``, ``CompletionLostError``), of Python's otherwise. ``ProtectionError`` is none of
them: the command has succeeded, and what came does not agree with its protection information.
"""

import errno
import os
from collections.abc import Mapping
from types import MappingProxyType

from aionvme.nvme.status import Status


class AionvmeError(Exception):
    """Base of the exceptions this library defines."""


class UsageError(AionvmeError, ValueError):
    """The call cannot be carried out as asked; nothing was submitted."""


class ClosedError(UsageError):
    """The namespace is closed, or was left behind by a fork."""


class WrongLoopError(UsageError):
    """A queue belongs to the thread and the event loop that opened it, and was used from another."""


class ReadOnlyError(UsageError):
    """The namespace was opened with readonly=True, and the command may change something."""


class NamespaceInUseError(UsageError):
    """The command may change what a namespace holds that is in use: its block device is mounted, swap space, part of another
    device, or held exclusively. ``aionvme.open(..., force=True)`` allows it."""


class ProtectionError(AionvmeError):
    """The host's own check of protection information: data was read, and a block of it is not what its tuple says.

    ``lba`` is the first such block, ``tag`` what is wrong with it ("guard", "app_tag" or "ref_tag"), ``expected`` what should be
    there, ``found`` what its tuple has. What the controller finds itself is an :class:`NvmeError`, as any status is.
    """

    def __init__(self, lba: int, tag: str, expected: int, found: int) -> None:
        """All of it as above."""
        super().__init__(lba, tag, expected, found)
        self.lba = lba
        self.tag = tag
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        """Which block, and what is wrong with it."""
        width = 10 if self.tag == "ref_tag" else 6
        found, expected = f"{self.found:#0{width}x}", f"{self.expected:#0{width}x}"
        return f"block at LBA {self.lba:#x}: its {_TAGS[self.tag]} is {found} where {expected} was expected"


_TAGS = {"guard": "guard", "app_tag": "application tag", "ref_tag": "reference tag"}


class CommandAbortedError(AionvmeError, OSError):
    """The operating system gave a command up: its controller was reset, or it took longer than it may. errno is EINTR or EIO,
    or EINVAL or EFAULT where the kernel did not send it, since the only paths to the namespace were being reset.

    Whether the device carried it out is not known: what was to be written may or may not be there, an append may have landed
    anywhere in its zone. The namespace stays open, and takes commands again when the controller does.

    The kernel says the same of a reset and of a time-out, and a time-out takes other commands along: nvme_timeout()
    (drivers/nvme/host/pci.c) sends an Abort when a command's time is over, and resets the controller when it is over once more.
    The time is ``timeout_ms``, or the queue's ``io_timeout`` in sysfs, 30 s; the kernel looks once a second at best, and
    where other commands are in flight sometimes not before one of those is late.

    With EINVAL or EFAULT it was not carried out, and the controller is seen to be in a reset: in the last moment of that it may
    be a plain OSError. Where the kernel counts no paths such commands wait instead. A namespace has paths where its controller
    says that there may be others (CMIC), and the kernel looks for them (nvme_core's parameter ``multipath``).

    This is no InterruptedError, though errno may be EINTR: whoever catches that makes the same call again, unseen.
    """


class DeviceGoneError(AionvmeError, OSError):
    """The device was removed, or its controller given up, before or while the command was in flight. errno is ENODEV or ENXIO, or
    EINTR, EIO or EINVAL where that is what the kernel says as the device goes.

    What that did is not known, as with CommandAbortedError. The namespace can only be closed. A device that comes back is another
    one, often with another name: open it again.
    """


class CompletionLostError(AionvmeError, OSError):
    """The kernel had no memory for a completion and dropped it: nobody can tell any more which command has ended. errno is EBADR.

    Every task that waits gets it, and the buffers of all commands in flight are kept until the process ends. The namespace can
    only be closed, and opened again.
    """


_BY_CODE: dict[tuple[int, int], "type[NvmeError]"] = {}


class NvmeError(AionvmeError):
    """A command completed with an error status.

    ``status`` is the whole of it, ``sct``, ``sc`` and ``dnr`` its parts; ``command`` describes what failed.
    """

    def __init_subclass__(cls, *, sct: int | None = None, sc: int | None = None) -> None:
        """Register the class for its code, unless it is a program's own; TypeError where another has the code."""
        super().__init_subclass__()
        if sct is None or sc is None:
            return
        other = _BY_CODE.setdefault((sct, sc), cls)
        if other is not cls:
            raise TypeError(f"{other.__name__} already stands for SCT {sct:#x}, SC {sc:#04x}")

    def __init__(self, status: int, command: str) -> None:
        """``status`` as a completion gave it."""
        super().__init__(status, command)
        self.status = Status(status)
        self.command = command

    @property
    def sct(self) -> int:
        """Status Code Type."""
        return self.status.sct

    @property
    def sc(self) -> int:
        """Status Code."""
        return self.status.sc

    @property
    def dnr(self) -> bool:
        """Do Not Retry: the same command would fail the same way again."""
        return self.status.dnr

    def __str__(self) -> str:
        """What failed, the status by name and numbers, and whether a retry makes sense."""
        retry = "do not retry" if self.dnr else "may be retried"
        return f"{self.command}: {self.status.name} (SCT {self.sct:#x}, SC {self.sc:#04x}, {retry})"


def nvme_error(status: int, command: str) -> NvmeError:
    """The exception of an error status, of the class registered for its code."""
    status = Status(status)
    return _BY_CODE.get((status.sct, status.sc), NvmeError)(status, command)


class InvalidOpcodeError(NvmeError, sct=0x0, sc=0x01):
    """Invalid Command Opcode: the controller does not have this command."""


class InvalidFieldError(NvmeError, sct=0x0, sc=0x02):
    """Invalid Field in Command: among others, an append to an address that does not start a zone."""


class InternalDeviceError(NvmeError, sct=0x0, sc=0x06):
    """Internal Error of the controller."""


class CommandAbortRequestedError(NvmeError, sct=0x0, sc=0x07):
    """Command Abort Requested: the controller took it back, as the kernel asks when a command's time is over."""


class SubmissionQueueDeletedError(NvmeError, sct=0x0, sc=0x08):
    """Command Aborted due to SQ Deletion: the controller was being reset."""


class DataLengthInvalidError(NvmeError, sct=0x0, sc=0x0F):
    """Data SGL Length Invalid: the data sent is not what the command asked to transfer."""


class WriteProtectedError(NvmeError, sct=0x0, sc=0x20):
    """Namespace is Write Protected."""


class LbaOutOfRangeError(NvmeError, sct=0x0, sc=0x80):
    """LBA Out of Range: beyond the size of the namespace."""


class InvalidProtectionInformationError(NvmeError, sct=0x1, sc=0x81):
    """Invalid Protection Information: what the command says of it does not suit the namespace's format."""


class ZoneBoundaryError(NvmeError, sct=0x1, sc=0xB8):
    """Zone Boundary Error: the blocks cross into another zone, or past the zone's capacity.

    An append that does not fit what is left of a zone gets this; a shorter one may still fit.
    """


class ZoneFullError(NvmeError, sct=0x1, sc=0xB9):
    """Zone Is Full: reset it, or go on in another."""


class ZoneReadOnlyError(NvmeError, sct=0x1, sc=0xBA):
    """Zone Is Read Only."""


class ZoneOfflineError(NvmeError, sct=0x1, sc=0xBB):
    """Zone Is Offline."""


class ZoneInvalidWriteError(NvmeError, sct=0x1, sc=0xBC):
    """Zone Invalid Write: not at the write pointer, which report_zones() gives; an append needs none."""


class TooManyActiveZonesError(NvmeError, sct=0x1, sc=0xBD):
    """Too Many Active Zones: one more would exceed the namespace's Maximum Active Resources."""


class TooManyOpenZonesError(NvmeError, sct=0x1, sc=0xBE):
    """Too Many Open Zones: one more would exceed the namespace's Maximum Open Resources."""


class InvalidZoneStateTransitionError(NvmeError, sct=0x1, sc=0xBF):
    """Invalid Zone State Transition: the action does not apply to a zone in this state."""


class WriteFaultError(NvmeError, sct=0x2, sc=0x80):
    """Write Fault on the media."""


class UnrecoveredReadError(NvmeError, sct=0x2, sc=0x81):
    """Unrecovered Read Error on the media."""


class GuardCheckError(NvmeError, sct=0x2, sc=0x82):
    """End-to-end Guard Check Error: the controller found a block whose guard is not that of its data."""


class ApplicationTagCheckError(NvmeError, sct=0x2, sc=0x83):
    """End-to-end Application Tag Check Error: the controller found a block with another application tag."""


class ReferenceTagCheckError(NvmeError, sct=0x2, sc=0x84):
    """End-to-end Reference Tag Check Error: the controller found a block with another reference tag."""


class CompareFailureError(NvmeError, sct=0x2, sc=0x85):
    """Compare Failure: the stored data differs."""


class DeallocatedBlockError(NvmeError, sct=0x2, sc=0x87):
    """Deallocated or Unwritten Logical Block."""


class HostPathingError(NvmeError, sct=0x3, sc=0x70):
    """Host Pathing Error: the kernel's word, not the device's, for a command that it did not send, as the controller was being
    reset. The same command may be submitted again."""


_BY_ERRNO: dict[int, type[OSError]] = {
    errno.EBADR: CompletionLostError,
    errno.ENODEV: DeviceGoneError,
    errno.ENXIO: DeviceGoneError,
}


def os_error(number: int, doing: str, causes: Mapping[int, str] = MappingProxyType({})) -> OSError:
    """The exception of an errno, saying what was being done and, where ``causes`` has one, the likely cause."""
    message = f"{os.strerror(number)}, {doing}"
    if number in causes:
        message += f": {causes[number]}"
    return _BY_ERRNO.get(number, OSError)(number, message)
