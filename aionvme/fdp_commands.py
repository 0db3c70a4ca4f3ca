"""The commands of Flexible Data Placement that go to a namespace, as awaitables."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from operator import index
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from aionvme.buffers import NOTHING, Span, span_of
from aionvme.errors import UsageError
from aionvme.nvme import fdp
from aionvme.nvme.command import Command
from aionvme.nvme.status import Completion

DESCRIPTORS = 128
"""How many status descriptors are asked for at first; a namespace has one for each of its placement identifiers."""


class FdpCommands(ABC):
    """What a namespace can do whose controller has Flexible Data Placement; others fail these commands."""

    async def reclaim_unit_handle_status(self) -> NDArray[np.void]:
        """The placement identifiers of the namespace, and what room is left where each writes to: a structured array
        (I/O Management Receive, NVM Express Base Specification 2.1, section 7.3).

        Its fields: pid; ruhid, the reclaim unit handle; earutr, for how many seconds more the reclaim unit stays active (0: not
        reported); and ruamw, how many logical blocks more can be written there. A Write with directive type 2 and the pid as its
        directive specific field goes there.
        """
        nruhsd, found = await self._handles(DESCRIPTORS)
        return found if nruhsd <= DESCRIPTORS else (await self._handles(nruhsd))[1]

    async def update_reclaim_unit_handles(self, pids: Iterable[SupportsIndex]) -> None:
        """Have the reclaim unit handles of these placement identifiers go on in other reclaim units, empty ones (I/O Management
        Send, section 7.4)."""
        plain = [index(pid) for pid in pids]
        if not 1 <= len(plain) <= 1 << 16 or not all(0 <= pid < 1 << 16 for pid in plain):
            raise UsageError(f"{plain}: it takes 1 to 65536 placement identifiers, each from 0 to 65535")
        data = np.array(plain, "<u2")
        await self._complete(fdp.reclaim_unit_handle_update(len(plain)), span_of(data, writable=False))

    async def _handles(self, n: int) -> tuple[int, NDArray[np.void]]:
        start, size = fdp.RECLAIM_UNIT_HANDLE_STATUS_HEADER_LEN_BYTES, fdp.RECLAIM_UNIT_HANDLE_STATUS.itemsize
        buffer = np.zeros(start + n * size, np.uint8)
        await self._complete(fdp.reclaim_unit_handle_status(buffer.size), span_of(buffer, writable=True))
        return fdp.parse_reclaim_unit_handle_status(buffer)

    @abstractmethod
    async def _complete(self, command: Command, span: Span = NOTHING) -> Completion:
        """Carry out one command; raises for any status but success."""
