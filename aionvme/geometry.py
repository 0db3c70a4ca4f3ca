"""What Identify says of a namespace, as far as commands depend on it, and whether it may be written to."""

from dataclasses import dataclass
from functools import cached_property

from aionvme.errors import UsageError
from aionvme.guard import Guard
from aionvme.nvme.command import Command
from aionvme.nvme.identify import IdentifyController, IdentifyNamespace
from aionvme.nvme.identify_zoned import IdentifyZonedNamespace
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.nvme.protection import PRACT, ProtectionFormat
from aionvme.nvme.transfer import MOVES_BLOCKS, blocks_of, io_data_len
from aionvme.queues.raw import PAGE_SIZE

TRANSFER_MAX_BYTES = 1 << 20
"""Where neither the controller nor the kernel sets a limit, commands still stay this short."""


@dataclass(frozen=True)
class Geometry:
    """A namespace's shape and limits. ``zoned`` is None of a conventional one, ``protection`` of one without any; ``no_metadata``
    says why a command's metadata cannot have a buffer of its own here, and is empty where it can."""

    nsid: int
    controller: IdentifyController
    namespace: IdentifyNamespace
    zoned: IdentifyZonedNamespace | None
    max_transfer_bytes: int
    max_append_bytes: int
    guard: Guard
    segments: int | None = None
    """Most pieces of memory that the device takes for one command, None where that is not limited."""
    protection: ProtectionFormat | None = None
    no_metadata: str = ""

    @cached_property
    def max_vectored_bytes(self) -> int:
        """Most data of one command that has it in several pieces: those may have to be copied, to as many pages as there are
        segments."""
        most = self.max_transfer_bytes
        if self.segments is not None:
            most = min(most, (self.segments - 1) * PAGE_SIZE)
        return most - most % self.block_bytes

    @cached_property
    def block_bytes(self) -> int:
        """Bytes of a logical block in a data buffer: its data, and its metadata where the format interleaves them and the
        controller does not keep all of it to itself."""
        return block_bytes(self.namespace, self.protection)

    @cached_property
    def stored_bytes(self) -> int:
        """Bytes of a logical block in a buffer that the whole of it goes into."""
        return block_bytes(self.namespace, None)

    def blocks_in(self, len_bytes: int) -> int:
        """How many logical blocks so much data is. Raises UsageError where it is not a whole number of them, at least one."""
        nlb, rest = divmod(len_bytes, self.block_bytes)
        if rest or not nlb:
            raise UsageError(f"{len_bytes} bytes of data: not a multiple of the logical block, {self.block_bytes}")
        return nlb

    def data_len(self, command: Command) -> int | None:
        """Bytes of data that an I/O command transfers here, None where only its vendor or a later specification knows."""
        block_bytes = self.block_bytes if self._made(command) else self.stored_bytes
        return io_data_len(command, block_bytes, self.zoned.zdes_bytes if self.zoned else 0)

    def metadata_len(self, command: Command) -> int | None:
        """Bytes of metadata that an I/O command transfers beside its data; None where :meth:`data_len` is None."""
        if command.opcode in MOVES_BLOCKS:
            form = self.protection
            if not self.separate_metadata or (form is not None and form.all_of_it and self._made(command)):
                return 0
            return (blocks_of(command) or 0) * self.namespace.ms
        return None if self.data_len(command) is None else 0

    @staticmethod
    def _made(command: Command) -> bool:
        """Whether the controller makes and keeps protection information; there is no such compare."""
        return bool(command.cdw12 & PRACT) and command.opcode != NvmOpcode.COMPARE

    @cached_property
    def separate_metadata(self) -> bool:
        """Whether each block has metadata that travels in a buffer of its own."""
        return self.namespace.ms > 0 and not self.namespace.extended_lba

    @cached_property
    def nothing_beside(self) -> bool:
        """Whether blocks are moved by commands that say nothing but where and how many: without protection information, and
        without metadata in a buffer of its own."""
        return self.protection is None and not self.separate_metadata


def block_bytes(namespace: IdentifyNamespace, protection: ProtectionFormat | None) -> int:
    """Bytes of a logical block in a data buffer, with the controller looking after a ``protection``."""
    kept = protection is not None and protection.all_of_it
    return namespace.lba_size + (namespace.ms if namespace.extended_lba and not kept else 0)


def max_transfer(controller: IdentifyController, kernel_limit: int | None, block_bytes: int) -> int:
    """The most data one command may move: MDTS and the kernel's limit, in whole blocks."""
    limits = [limit for limit in (controller.mdts_bytes(), kernel_limit) if limit is not None]
    limit = min(limits, default=TRANSFER_MAX_BYTES)
    return limit - limit % block_bytes
