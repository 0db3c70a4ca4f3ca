"""The status of a completed command, taken apart and named (NVM Express Base Specification 2.0, section 3.3.3.2.1).

Linux hands the Status Field without its phase bit: SC in bits 7:0, SCT 10:8, CRD 12:11, More 13, DNR 14.
"""

from enum import IntEnum
from typing import NamedTuple


class StatusCodeType(IntEnum):
    """Status Code Type, SCT (figure 93)."""

    GENERIC = 0x0
    COMMAND_SPECIFIC = 0x1
    MEDIA_AND_DATA_INTEGRITY = 0x2
    PATH_RELATED = 0x3
    VENDOR_SPECIFIC = 0x7


class Status(int):
    """A 15-bit status as the kernel returns it: 0 is success, anything else what was wrong, and whether to retry."""

    __slots__ = ()

    @classmethod
    def of(cls, sct: int, sc: int, *, crd: int = 0, more: bool = False, dnr: bool = False) -> "Status":
        """Put a status together from its fields."""
        return cls(sc | sct << 8 | crd << 11 | more << 13 | dnr << 14)

    @property
    def sc(self) -> int:
        """Status Code."""
        return self & 0xFF

    @property
    def sct(self) -> int:
        """Status Code Type."""
        return self >> 8 & 0x7

    @property
    def crd(self) -> int:
        """Command Retry Delay: 0 none, 1 to 3 the index of the controller's CRDT1 to CRDT3."""
        return self >> 11 & 0x3

    @property
    def more(self) -> bool:
        """The Error Information log page has more about this one."""
        return bool(self >> 13 & 1)

    @property
    def dnr(self) -> bool:
        """Do Not Retry: the same command would fail the same way again."""
        return bool(self >> 14 & 1)

    @property
    def name(self) -> str:
        """The specification's own name, or the numbers where it gives none."""
        return STATUS_NAMES.get((self.sct, self.sc)) or f"status code type {self.sct:#x}, status code {self.sc:#04x}"

    def __repr__(self) -> str:
        """The number, its name and its flags."""
        flags = "".join(f", {flag}" for flag in ("more", "dnr") if getattr(self, flag))
        return f"<Status {int(self):#06x}: {self.name}{flags}>"


SUCCESS = Status(0)


class Completion(NamedTuple):
    """What a command ended with, wherever it was carried out: status and 64-bit result of the completion entry."""

    status: Status
    result: int


STATUS_NAMES: dict[tuple[int, int], str] = {
    # Generic Command Status (figure 94; NVM Command Set 1.0, figure 15; 29h and 2Ah: Technical Proposal 4146)
    (0x0, 0x00): "Successful Completion",
    (0x0, 0x01): "Invalid Command Opcode",
    (0x0, 0x02): "Invalid Field in Command",
    (0x0, 0x03): "Command ID Conflict",
    (0x0, 0x04): "Data Transfer Error",
    (0x0, 0x05): "Commands Aborted due to Power Loss Notification",
    (0x0, 0x06): "Internal Error",
    (0x0, 0x07): "Command Abort Requested",
    (0x0, 0x08): "Command Aborted due to SQ Deletion",
    (0x0, 0x09): "Command Aborted due to Failed Fused Command",
    (0x0, 0x0A): "Command Aborted due to Missing Fused Command",
    (0x0, 0x0B): "Invalid Namespace or Format",
    (0x0, 0x0C): "Command Sequence Error",
    (0x0, 0x0D): "Invalid SGL Segment Descriptor",
    (0x0, 0x0E): "Invalid Number of SGL Descriptors",
    (0x0, 0x0F): "Data SGL Length Invalid",
    (0x0, 0x10): "Metadata SGL Length Invalid",
    (0x0, 0x11): "SGL Descriptor Type Invalid",
    (0x0, 0x12): "Invalid Use of Controller Memory Buffer",
    (0x0, 0x13): "PRP Offset Invalid",
    (0x0, 0x14): "Atomic Write Unit Exceeded",
    (0x0, 0x15): "Operation Denied",
    (0x0, 0x16): "SGL Offset Invalid",
    (0x0, 0x18): "Host Identifier Inconsistent Format",
    (0x0, 0x19): "Keep Alive Timer Expired",
    (0x0, 0x1A): "Keep Alive Timeout Invalid",
    (0x0, 0x1B): "Command Aborted due to Preempt and Abort",
    (0x0, 0x1C): "Sanitize Failed",
    (0x0, 0x1D): "Sanitize In Progress",
    (0x0, 0x1E): "SGL Data Block Granularity Invalid",
    (0x0, 0x1F): "Command Not Supported for Queue in CMB",
    (0x0, 0x20): "Namespace is Write Protected",
    (0x0, 0x21): "Command Interrupted",
    (0x0, 0x22): "Transient Transport Error",
    (0x0, 0x23): "Command Prohibited by Command and Feature Lockdown",
    (0x0, 0x24): "Admin Command Media Not Ready",
    (0x0, 0x29): "FDP Disabled",
    (0x0, 0x2A): "Invalid Placement Handle List",
    (0x0, 0x80): "LBA Out of Range",
    (0x0, 0x81): "Capacity Exceeded",
    (0x0, 0x82): "Namespace Not Ready",
    (0x0, 0x83): "Reservation Conflict",
    (0x0, 0x84): "Format In Progress",
    # Command Specific Status (figures 95, 96; NVM Command Set 1.0, figure 16; Zoned Namespace Command Set 1.1,
    # figure 11; B6h and B7h: Technical Proposal 4076)
    (0x1, 0x00): "Completion Queue Invalid",
    (0x1, 0x01): "Invalid Queue Identifier",
    (0x1, 0x02): "Invalid Queue Size",
    (0x1, 0x03): "Abort Command Limit Exceeded",
    (0x1, 0x05): "Asynchronous Event Request Limit Exceeded",
    (0x1, 0x06): "Invalid Firmware Slot",
    (0x1, 0x07): "Invalid Firmware Image",
    (0x1, 0x08): "Invalid Interrupt Vector",
    (0x1, 0x09): "Invalid Log Page",
    (0x1, 0x0A): "Invalid Format",
    (0x1, 0x0B): "Firmware Activation Requires Conventional Reset",
    (0x1, 0x0C): "Invalid Queue Deletion",
    (0x1, 0x0D): "Feature Identifier Not Saveable",
    (0x1, 0x0E): "Feature Not Changeable",
    (0x1, 0x0F): "Feature Not Namespace Specific",
    (0x1, 0x10): "Firmware Activation Requires NVM Subsystem Reset",
    (0x1, 0x11): "Firmware Activation Requires Controller Level Reset",
    (0x1, 0x12): "Firmware Activation Requires Maximum Time Violation",
    (0x1, 0x13): "Firmware Activation Prohibited",
    (0x1, 0x14): "Overlapping Range",
    (0x1, 0x15): "Namespace Insufficient Capacity",
    (0x1, 0x16): "Namespace Identifier Unavailable",
    (0x1, 0x18): "Namespace Already Attached",
    (0x1, 0x19): "Namespace Is Private",
    (0x1, 0x1A): "Namespace Not Attached",
    (0x1, 0x1B): "Thin Provisioning Not Supported",
    (0x1, 0x1C): "Controller List Invalid",
    (0x1, 0x1D): "Device Self-test In Progress",
    (0x1, 0x1E): "Boot Partition Write Prohibited",
    (0x1, 0x1F): "Invalid Controller Identifier",
    (0x1, 0x20): "Invalid Secondary Controller State",
    (0x1, 0x21): "Invalid Number of Controller Resources",
    (0x1, 0x22): "Invalid Resource Identifier",
    (0x1, 0x23): "Sanitize Prohibited While Persistent Memory Region is Enabled",
    (0x1, 0x24): "ANA Group Identifier Invalid",
    (0x1, 0x25): "ANA Attach Failed",
    (0x1, 0x26): "Insufficient Capacity",
    (0x1, 0x27): "Namespace Attachment Limit Exceeded",
    (0x1, 0x28): "Prohibition of Command Execution Not Supported",
    (0x1, 0x29): "I/O Command Set Not Supported",
    (0x1, 0x2A): "I/O Command Set Not Enabled",
    (0x1, 0x2B): "I/O Command Set Combination Rejected",
    (0x1, 0x2C): "Invalid I/O Command Set",
    (0x1, 0x2D): "Identifier Unavailable",
    (0x1, 0x80): "Conflicting Attributes",
    (0x1, 0x81): "Invalid Protection Information",
    (0x1, 0x82): "Attempted Write to Read Only Range",
    (0x1, 0x83): "Command Size Limit Exceeded",
    (0x1, 0xB6): "Invalid Zone Operation Request",
    (0x1, 0xB7): "ZRWA Resources Unavailable",
    (0x1, 0xB8): "Zone Boundary Error",
    (0x1, 0xB9): "Zone Is Full",
    (0x1, 0xBA): "Zone Is Read Only",
    (0x1, 0xBB): "Zone Is Offline",
    (0x1, 0xBC): "Zone Invalid Write",
    (0x1, 0xBD): "Too Many Active Zones",
    (0x1, 0xBE): "Too Many Open Zones",
    (0x1, 0xBF): "Invalid Zone State Transition",
    # Media and Data Integrity Errors (figure 98; NVM Command Set 1.0, figure 17)
    (0x2, 0x80): "Write Fault",
    (0x2, 0x81): "Unrecovered Read Error",
    (0x2, 0x82): "End-to-end Guard Check Error",
    (0x2, 0x83): "End-to-end Application Tag Check Error",
    (0x2, 0x84): "End-to-end Reference Tag Check Error",
    (0x2, 0x85): "Compare Failure",
    (0x2, 0x86): "Access Denied",
    (0x2, 0x87): "Deallocated or Unwritten Logical Block",
    (0x2, 0x88): "End-to-End Storage Tag Check Error",
    # Path Related Status (figure 99)
    (0x3, 0x00): "Internal Path Error",
    (0x3, 0x01): "Asymmetric Access Persistent Loss",
    (0x3, 0x02): "Asymmetric Access Inaccessible",
    (0x3, 0x03): "Asymmetric Access Transition",
    (0x3, 0x60): "Controller Pathing Error",
    (0x3, 0x70): "Host Pathing Error",
    (0x3, 0x71): "Command Aborted By Host",
}
