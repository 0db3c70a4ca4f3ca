"""Await an NVMe device: asyncio and trio over io_uring passthrough.

>>> async with aionvme.open("emu:zns?zones=16&zone_size=4MiB") as ns:
...     lba = await ns.zone_append(0, b"\\0" * ns.lba_size)
...     data = await ns.read(lba, 1)
"""

from importlib.metadata import version as _version

from aionvme.controller import Controller
from aionvme.driver.limiter import Limiter
from aionvme.errors import (
    AionvmeError,
    ApplicationTagCheckError,
    ClosedError,
    CommandAbortedError,
    CommandAbortRequestedError,
    CompareFailureError,
    CompletionLostError,
    DataLengthInvalidError,
    DeallocatedBlockError,
    DeviceGoneError,
    GuardCheckError,
    HostPathingError,
    InternalDeviceError,
    InvalidFieldError,
    InvalidOpcodeError,
    InvalidProtectionInformationError,
    InvalidZoneStateTransitionError,
    LbaOutOfRangeError,
    NamespaceInUseError,
    NvmeError,
    ProtectionError,
    ReadOnlyError,
    ReferenceTagCheckError,
    SubmissionQueueDeletedError,
    TooManyActiveZonesError,
    TooManyOpenZonesError,
    UnrecoveredReadError,
    UsageError,
    WriteFaultError,
    WriteProtectedError,
    WrongLoopError,
    ZoneBoundaryError,
    ZoneFullError,
    ZoneInvalidWriteError,
    ZoneOfflineError,
    ZoneReadOnlyError,
)
from aionvme.latency import Latencies
from aionvme.log.errors import DamagedRecordError, LogFullError
from aionvme.log.space import ZoneUsage, least_live
from aionvme.log.zone_log import LogRecord, ZoneLog
from aionvme.namespace import Namespace
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import ReportingOptions, ZoneAttributes, ZoneState
from aionvme.nvme.status import Completion, Status
from aionvme.opening import open_controller
from aionvme.opening import open_namespace as open  # noqa: A004
from aionvme.prepare_batch import COMMAND
from aionvme.protecting import Protection
from aionvme.queues.attach import PathReport
from aionvme.replaying.run import replay
from aionvme.trace import TRACE, load_trace
from aionvme.zones.book import ZoneDifference
from aionvme.zones.resources import ZoneHolder
from aionvme.zones.table import Zones
from aionvme.zones.zone import Zone

__version__ = _version("aionvme")

__all__ = [
    "COMMAND",
    "TRACE",
    "AionvmeError",
    "ApplicationTagCheckError",
    "ClosedError",
    "Command",
    "CommandAbortRequestedError",
    "CommandAbortedError",
    "CompareFailureError",
    "Completion",
    "CompletionLostError",
    "Controller",
    "DamagedRecordError",
    "DataLengthInvalidError",
    "DeallocatedBlockError",
    "DeviceGoneError",
    "GuardCheckError",
    "HostPathingError",
    "InternalDeviceError",
    "InvalidFieldError",
    "InvalidOpcodeError",
    "InvalidProtectionInformationError",
    "InvalidZoneStateTransitionError",
    "Latencies",
    "LbaOutOfRangeError",
    "Limiter",
    "LogFullError",
    "LogRecord",
    "Namespace",
    "NamespaceInUseError",
    "NvmeError",
    "PathReport",
    "Protection",
    "ProtectionError",
    "ReadOnlyError",
    "ReferenceTagCheckError",
    "ReportingOptions",
    "Status",
    "SubmissionQueueDeletedError",
    "TooManyActiveZonesError",
    "TooManyOpenZonesError",
    "UnrecoveredReadError",
    "UsageError",
    "WriteFaultError",
    "WriteProtectedError",
    "WrongLoopError",
    "Zone",
    "ZoneAttributes",
    "ZoneBoundaryError",
    "ZoneDifference",
    "ZoneFullError",
    "ZoneHolder",
    "ZoneInvalidWriteError",
    "ZoneLog",
    "ZoneOfflineError",
    "ZoneReadOnlyError",
    "ZoneState",
    "ZoneUsage",
    "Zones",
    "least_live",
    "load_trace",
    "open",
    "open_controller",
    "replay",
]
