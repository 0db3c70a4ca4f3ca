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


class FdpCommands(ABC):
    """What a namespace can do whose controller has Flexible Data Placement; others fail these commands."""

    async def reclaim_unit_handle_status(self) -> NDArray[np.void]:
        """The placement identifiers of the namespace, and what room is left where each writes to: a structured array
        (I/O Management Receive, NVM Express Base Specification 2.1, section 7.3).

        Its fields: pid; ruhid, the reclaim unit handle; earutr, for how many seconds more the reclaim unit stays active (0: not
        reported); and ruamw, how many logical blocks more can be written there. A Write with directive type 2 and the pid as its
        directive specific field goes there.
        """
        # Not more than there is: a controller may fail a command whose buffer is longer (SGLS bit 18).
        header, descriptor = fdp.RECLAIM_UNIT_HANDLE_STATUS_HEADER, fdp.RECLAIM_UNIT_HANDLE_STATUS
        start = await self._status(header.itemsize)
        nruhsd = int(start.view(header)[0]["nruhsd"])
        return fdp.parse_reclaim_unit_handle_status(await self._status(header.itemsize + nruhsd * descriptor.itemsize))

    async def update_reclaim_unit_handles(self, pids: Iterable[SupportsIndex]) -> None:
        """Have the reclaim unit handles of these placement identifiers go on in other reclaim units, empty ones (I/O Management
        Send, section 7.4)."""
        plain = [index(pid) for pid in pids]
        for pid in plain:
            if not 0 <= pid < 1 << 16:
                raise UsageError(f"pid = {pid}: a placement identifier has 16 bits")
        if not 1 <= len(plain) <= 1 << 16:
            raise UsageError(f"{len(plain)} placement identifiers: one command takes 1 to 65536")
        data = np.array(plain, "<u2")
        await self._complete(fdp.reclaim_unit_handle_update(len(plain)), span_of(data, writable=False))

    async def _status(self, len_bytes: int) -> NDArray[np.uint8]:
        buffer = np.zeros(len_bytes, np.uint8)
        await self._complete(fdp.reclaim_unit_handle_status(len_bytes), span_of(buffer, writable=True))
        return buffer

    @abstractmethod
    async def _complete(self, command: Command, span: Span = NOTHING) -> Completion:
        """Carry out one command; raises for any status but success."""
