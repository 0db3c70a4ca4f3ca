"""What Identify says of a namespace, as far as commands depend on it."""

from dataclasses import dataclass
from functools import cached_property

from aionvme.errors import UsageError
from aionvme.nvme.command import Command
from aionvme.nvme.identify import IdentifyController, IdentifyNamespace
from aionvme.nvme.identify_zoned import IdentifyZonedNamespace
from aionvme.nvme.transfer import io_data_len
from aionvme.queues.raw import PAGE_SIZE

TRANSFER_MAX_BYTES = 1 << 20
"""Where neither the controller nor the kernel sets a limit, commands still stay this short."""


@dataclass(frozen=True)
class Geometry:
    """A namespace's shape and limits. ``zoned`` is None of a conventional one."""

    nsid: int
    controller: IdentifyController
    namespace: IdentifyNamespace
    zoned: IdentifyZonedNamespace | None
    max_transfer_bytes: int
    max_append_bytes: int
    segments: int | None = None
    """Most pieces of memory that the device takes for one command, None where that is not limited."""

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
        """Bytes of a logical block in a buffer: its data, and its metadata where the format interleaves them."""
        return self.namespace.lba_size + (self.namespace.ms if self.namespace.extended_lba else 0)

    def blocks_in(self, len_bytes: int) -> int:
        """How many logical blocks so much data is. Raises UsageError where it is not a whole number of them, at least one."""
        nlb, rest = divmod(len_bytes, self.block_bytes)
        if rest or not nlb:
            raise UsageError(f"{len_bytes} bytes of data: not a multiple of the logical block, {self.block_bytes}")
        return nlb

    def data_len(self, command: Command) -> int | None:
        """Bytes of data that an I/O command transfers here, None where only its vendor or a later specification knows."""
        return io_data_len(command, self.block_bytes, self.zoned.zdes_bytes if self.zoned else 0)

    @cached_property
    def separate_metadata(self) -> bool:
        """Whether each block has metadata that travels in a buffer of its own."""
        return self.namespace.ms > 0 and not self.namespace.extended_lba


def max_transfer(controller: IdentifyController, kernel_limit: int | None, block_bytes: int) -> int:
    """The most data one command may move: MDTS and the kernel's limit, in whole blocks."""
    limits = [limit for limit in (controller.mdts_bytes(), kernel_limit) if limit is not None]
    limit = min(limits, default=TRANSFER_MAX_BYTES)
    return limit - limit % block_bytes
