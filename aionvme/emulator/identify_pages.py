"""The data structures that the emulated controller returns for Identify (Base 2.0, section 5.17).

Only fields that are not zero are set; the 4096 bytes of each are ready before the first command.
"""

from typing import Any

import numpy as np

from aionvme.emulator.image import Image
from aionvme.emulator.nvm import MCL, MSRC, MSSRL
from aionvme.emulator.spec import PAGE_SIZE, DeviceSpec
from aionvme.nvme.identify import (
    IDENTIFY_CONTROLLER,
    IDENTIFY_NAMESPACE,
    IDENTIFY_NVM_CONTROLLER,
    IDENTIFY_ZONED_CONTROLLER,
    IDENTIFY_ZONED_NAMESPACE,
    Oncs,
)
from aionvme.nvme.identify_zoned import Ozcs
from aionvme.nvme.opcodes import CommandSetIdentifier

MODEL = "aionvme emulated device"
FIRMWARE_REVISION = "1.0"
WARNING_TEMPERATURE = 343
CRITICAL_TEMPERATURE = 373
ERROR_LOG_ENTRIES = 64

_VERSION_2_0 = 2 << 16
_NIDT_UUID = 0x3
_NIDT_CSI = 0x4
_ONCS = (
    Oncs.COMPARE | Oncs.WRITE_UNCORRECTABLE | Oncs.DATASET_MANAGEMENT | Oncs.WRITE_ZEROES
    | Oncs.SAVE_AND_SELECT | Oncs.VERIFY | Oncs.COPY
)  # fmt: skip


def controller(image: Image, spec: DeviceSpec) -> bytes:
    """Identify Controller, CNS 01h."""
    serial = image.uuid.hex[:20]
    return _page(
        IDENTIFY_CONTROLLER,
        sn=serial.ljust(20).encode(),
        mn=MODEL.ljust(40).encode(),
        fr=FIRMWARE_REVISION.ljust(8).encode(),
        mdts=_pages_log2(spec.mdts_bytes),
        ver=_VERSION_2_0,
        cntrltype=1,  # an I/O controller
        # SMART for each namespace, Commands Supported and Effects, and offsets into log pages.
        lpa=0b111,
        elpe=ERROR_LOG_ENTRIES - 1,
        frmw=1 << 1 | 1,  # one firmware slot, read only
        wctemp=WARNING_TEMPERATURE,
        cctemp=CRITICAL_TEMPERATURE,
        tnvmcap=np.frombuffer(spec.size_bytes.to_bytes(16, "little"), np.uint8),
        sqes=0x66,
        cqes=0x44,
        nn=1,
        oncs=_ONCS,
        vwc=0b111,  # there is a write cache, and Flush takes all namespaces at once
        ocfs=1,  # copy descriptor format 0
        subnqn=f"nqn.2014-08.org.nvmexpress:uuid:{image.uuid}".encode(),
    )


def namespace(spec: DeviceSpec) -> bytes:
    """Identify Namespace, CNS 00h: one LBA format, of blocks without metadata."""
    capacity = spec.zones * (spec.zone_capacity // spec.lba) if spec.zoned else spec.nsze
    page = np.zeros((), IDENTIFY_NAMESPACE)
    page["lbaf"][0]["lbads"] = spec.lba.bit_length() - 1
    return _fill(
        page,
        nsze=spec.nsze,
        ncap=capacity,
        nuse=capacity,
        dlfeat=0b0_1_001,  # deallocated blocks read as zeroes, and Write Zeroes may deallocate
        nvmcap=np.frombuffer(spec.size_bytes.to_bytes(16, "little"), np.uint8),
        mssrl=MSSRL,
        mcl=MCL,
        msrc=MSRC - 1,
    )


def zoned_namespace(spec: DeviceSpec) -> bytes:
    """Identify Namespace of the Zoned Namespace Command Set, CNS 05h: no reads across zones.

    NUMZRWA is 0 where any number of zones may have a random write area.
    """
    page = np.zeros((), IDENTIFY_ZONED_NAMESPACE)
    page["lbafe"][0]["zsze"] = spec.zone_size // spec.lba
    page["lbafe"][0]["zdes"] = spec.zdes // 64
    # MAR and MOR are 0's based, and all ones stands for no limit.
    return _fill(
        page,
        mar=spec.mar - 1 & 0xFFFF_FFFF,
        mor=spec.mor - 1 & 0xFFFF_FFFF,
        ozcs=Ozcs.ZRWA if spec.zrwas else 0,
        numzrwa=spec.numzrwa,
        zrwafg=spec.zrwafg // spec.lba,
        zrwasz=spec.zrwas // spec.lba,
        zrwacap=1 if spec.zrwas else 0,  # explicit flushes
    )


def nvm_controller(spec: DeviceSpec) -> bytes:
    """Identify Controller of the NVM Command Set, CNS 06h: Verify has the limit of MDTS, nothing else has one."""
    return _page(IDENTIFY_NVM_CONTROLLER, vsl=_pages_log2(spec.mdts_bytes))


def zoned_controller(spec: DeviceSpec) -> bytes:
    """Identify Controller of the Zoned Namespace Command Set, CNS 06h."""
    return _page(IDENTIFY_ZONED_CONTROLLER, zasl=_pages_log2(spec.zasl_bytes))


def namespace_descriptors(image: Image, csi: int) -> bytes:
    """Namespace Identification Descriptor list, CNS 03h: a UUID and the command set."""
    uuid = bytes([_NIDT_UUID, 16, 0, 0]) + image.uuid.bytes
    return (uuid + bytes([_NIDT_CSI, 1, 0, 0, csi])).ljust(4096, b"\0")


def independent_namespace() -> bytes:
    """I/O Command Set Independent Identify Namespace, CNS 08h (figure 280): NSTAT, byte 14, says it is ready."""
    return bytes([*[0] * 14, 1]).ljust(4096, b"\0")


def io_command_sets() -> bytes:
    """Identify I/O Command Set, CNS 1Ch (figure 284): the one combination, both command sets at once."""
    combination = 1 << CommandSetIdentifier.NVM | 1 << CommandSetIdentifier.ZONED
    return combination.to_bytes(8, "little").ljust(4096, b"\0")


def namespace_list(nsids: list[int]) -> bytes:
    """A Namespace List of 1024 identifiers, zeroes after the last."""
    return b"".join(nsid.to_bytes(4, "little") for nsid in nsids).ljust(4096, b"\0")


def _page(dtype: np.dtype[np.void], **fields: Any) -> bytes:
    return _fill(np.zeros((), dtype), **fields)


def _fill(page: Any, **fields: Any) -> bytes:
    for name, value in fields.items():
        page[name] = value
    octets: bytes = page.tobytes()
    return octets


def _pages_log2(length: int) -> int:
    return (length // PAGE_SIZE).bit_length() - 1
