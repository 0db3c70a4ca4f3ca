"""The commands of the NVM Command Set on an emulated namespace (NVM Command Set Specification 1.0, section 3.2).

A command is checked in one order everywhere, before anything changes: transfer size, address range, length of the
host's memory, and what the zones allow where there are any. A zoned namespace is this one with a few steps of its own.
"""

from collections.abc import Callable
from struct import Struct
from types import MethodType
from typing import ClassVar

from aionvme.emulator.completions import (
    COMMAND_SIZE_LIMIT_EXCEEDED,
    COMPARE_FAILURE,
    DONE,
    INVALID_FIELD,
    LBA_OUT_OF_RANGE,
    UNRECOVERED_READ_ERROR,
    StatusError,
    from_host,
    to_host,
)
from aionvme.emulator.counters import Counters
from aionvme.emulator.image import Image
from aionvme.emulator.spec import DeviceSpec
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import CommandSetIdentifier, NvmOpcode
from aionvme.nvme.status import Completion

MSSRL = MCL = 128
"""Maximum Single Source Range Length and Maximum Copy Length, in logical blocks."""
MSRC = 128
"""Maximum Source Range Count, 1-based here."""

_DSM_RANGE = Struct("<4xIQ")
_COPY_RANGE = Struct("<8xQH14x")
_DEALLOCATE = 1 << 2
_FUA = 1 << 30

Handler = Callable[[Command, memoryview], Completion]


def copied_extents(command: Command, data: memoryview) -> list[tuple[int, int]]:
    """The source ranges of a Copy, each as its slba and nlb (section 3.2.2)."""
    ranges = from_host(data, ((command.cdw12 & 0xFF) + 1) * _COPY_RANGE.size)
    return [(slba, nlb + 1) for slba, nlb in _COPY_RANGE.iter_unpack(ranges)]


class NvmNamespace:
    """One namespace: ``handlers`` has a method for each opcode it supports."""

    csi = CommandSetIdentifier.NVM

    def __init__(self, spec: DeviceSpec, image: Image, counters: Counters) -> None:
        """``handlers`` takes the methods from :attr:`METHODS`."""
        self.spec = spec
        self.image = image
        self.counters = counters
        self.write_cache = True
        self._lba = spec.lba
        self._nsze = spec.nsze
        self._mdts = spec.mdts_bytes
        self.handlers: dict[int, Handler] = {
            opcode: MethodType(method, self) for opcode, method in self.METHODS.items()
        }

    def _flush(self, command: Command, data: memoryview) -> Completion:
        self.image.media.sync()
        return DONE

    def _read(self, command: Command, data: memoryview) -> Completion:
        slba, nlb = self._extent(command)
        length = nlb * self._lba
        self._check_transfer(length)
        self._check_range(slba, nlb)
        self._load(slba, nlb, to_host(data, length))
        self.counters.count_read(length)
        return DONE

    def _write(self, command: Command, data: memoryview) -> Completion:
        slba, nlb = self._extent(command)
        length = nlb * self._lba
        self._check_transfer(length)
        self._check_range(slba, nlb)
        blocks = from_host(data, length)
        self._begin_write(slba, nlb)
        self.image.write_blocks(slba, blocks)
        self._end_write(slba, nlb)
        self._settle(command.cdw12 & _FUA)
        self.counters.count_write(length)
        return DONE

    def _write_zeroes(self, command: Command, data: memoryview) -> Completion:
        # Deallocated blocks read as zeroes here, so DEAC changes nothing.
        slba, nlb = self._extent(command)
        self._check_range(slba, nlb)
        self._begin_write(slba, nlb)
        self.image.zero_blocks(slba, nlb)
        self._end_write(slba, nlb)
        self._settle(command.cdw12 & _FUA)
        return DONE

    def _write_uncorrectable(self, command: Command, data: memoryview) -> Completion:
        slba, nlb = self._extent(command)
        self._check_range(slba, nlb)
        self._begin_write(slba, nlb)
        self.image.mark_blocks(slba, nlb)
        self._end_write(slba, nlb)
        self._settle(0)
        return DONE

    def _compare(self, command: Command, data: memoryview) -> Completion:
        slba, nlb = self._extent(command)
        length = nlb * self._lba
        self._check_transfer(length)
        self._check_range(slba, nlb)
        expected = from_host(data, length)
        stored = bytearray(length)
        self._load(slba, nlb, memoryview(stored))
        self.counters.count_read(length)
        if stored != bytes(expected):
            raise StatusError(COMPARE_FAILURE)
        return DONE

    def _verify(self, command: Command, data: memoryview) -> Completion:
        slba, nlb = self._extent(command)
        length = nlb * self._lba
        self._check_transfer(length)  # VSL is the same limit as MDTS
        self._check_range(slba, nlb)
        self._check_marks(slba, self._readable(slba, nlb))
        self.counters.bytes_read += length
        return DONE

    def _dataset_management(self, command: Command, data: memoryview) -> Completion:
        ranges = from_host(data, ((command.cdw10 & 0xFF) + 1) * _DSM_RANGE.size)
        if not command.cdw11 & _DEALLOCATE:
            return DONE
        extents = [(slba, nlb) for nlb, slba in _DSM_RANGE.iter_unpack(ranges)]
        for slba, nlb in extents:
            self._check_range(slba, nlb)
        for slba, nlb in extents:
            self._deallocate(slba, nlb)
        self._settle(0)
        return DONE

    def _copy(self, command: Command, data: memoryview) -> Completion:
        if command.cdw12 >> 8 & 0xF:
            raise StatusError(INVALID_FIELD)  # OCFS offers descriptor format 0 alone
        ranges = copied_extents(command, data)
        if len(ranges) > MSRC or any(nlb > MSSRL for _, nlb in ranges) or sum(nlb for _, nlb in ranges) > MCL:
            raise StatusError(COMMAND_SIZE_LIMIT_EXCEEDED)
        sdlba = command.slba
        for done, (slba, nlb) in enumerate(ranges):
            try:
                self._copy_range(slba, sdlba, nlb)
            except StatusError as error:
                # Dword 0 says which range was the first not to be copied (section 3.2.2.1).
                raise StatusError(error.completion.status, done) from None
            sdlba += nlb
        self._settle(command.cdw12 & _FUA)
        return DONE

    def _copy_range(self, slba: int, sdlba: int, nlb: int) -> None:
        self._check_range(slba, nlb)
        self._check_range(sdlba, nlb)
        blocks = memoryview(bytearray(nlb * self._lba))
        self._load(slba, nlb, blocks)
        self._begin_write(sdlba, nlb)
        self.image.write_blocks(sdlba, blocks)
        self._end_write(sdlba, nlb)

    def _load(self, slba: int, nlb: int, view: memoryview) -> None:
        """Fill ``view`` with blocks; those that hold no data read as zeroes."""
        readable = self._readable(slba, nlb)
        self._check_marks(slba, readable)
        if readable == nlb:
            self.image.read_blocks(slba, view)
            return
        end = readable * self._lba
        if readable:
            self.image.read_blocks(slba, view[:end])
        view[end:] = bytes(view.nbytes - end)

    def _check_marks(self, slba: int, nlb: int) -> None:
        if self.image.has_marks and self.image.marked(slba, nlb):
            raise StatusError(UNRECOVERED_READ_ERROR)

    @staticmethod
    def _extent(command: Command) -> tuple[int, int]:
        return command.cdw10 | command.cdw11 << 32, (command.cdw12 & 0xFFFF) + 1

    def _check_transfer(self, length: int) -> None:
        if length > self._mdts:
            raise StatusError(INVALID_FIELD)

    def _check_range(self, slba: int, nlb: int) -> None:
        if slba + nlb > self._nsze:
            raise StatusError(LBA_OUT_OF_RANGE)

    def _settle(self, fua: int) -> None:
        """Make a write durable where the command or the lack of a write cache asks for it."""
        if fua or not self.write_cache:
            self.image.media.sync()

    def _readable(self, slba: int, nlb: int) -> int:
        """How many of the blocks, from the first, can hold data."""
        return nlb

    def _begin_write(self, slba: int, nlb: int) -> None:
        """Refuse the write, or prepare for it."""

    def _end_write(self, slba: int, nlb: int) -> None:
        """Take note of blocks written."""

    def _deallocate(self, slba: int, nlb: int) -> None:
        self.image.zero_blocks(slba, nlb)

    METHODS: ClassVar[dict[int, Callable[..., Completion]]] = {
        NvmOpcode.FLUSH: _flush,
        NvmOpcode.WRITE: _write,
        NvmOpcode.READ: _read,
        NvmOpcode.WRITE_UNCORRECTABLE: _write_uncorrectable,
        NvmOpcode.COMPARE: _compare,
        NvmOpcode.WRITE_ZEROES: _write_zeroes,
        NvmOpcode.DATASET_MANAGEMENT: _dataset_management,
        NvmOpcode.VERIFY: _verify,
        NvmOpcode.COPY: _copy,
    }
    """What each opcode of the command set does."""
