"""The emulated device: one controller with one namespace, a command in and a completion out."""

import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from aionvme.emulator.admin import AdminCommands
from aionvme.emulator.completions import (
    INTERNAL_ERROR,
    INVALID_FIELD,
    INVALID_NAMESPACE_OR_FORMAT,
    INVALID_OPCODE,
    StatusError,
)
from aionvme.emulator.counters import Counters
from aionvme.emulator.image import Image
from aionvme.emulator.nvm import NvmNamespace
from aionvme.emulator.spec import DeviceSpec
from aionvme.emulator.zone_counters import ZoneCounters
from aionvme.emulator.zoned import ZonedNamespace
from aionvme.nvme.command import Command
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.nvme.status import Completion

NSID = 1
"""The one namespace there is."""
_BROADCAST = 0xFFFF_FFFF


class Device:
    """One namespace, identified as 1, and the controller in front of it.

    Commands are carried out one at a time, each to its end: calls from several threads are the caller's to serialize.
    """

    def __init__(self, spec: DeviceSpec, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """Make the namespace, or open the file it is in. ``clock`` tells :meth:`zone_counters` the time in nanoseconds.

        UsageError says why a file is refused: not an emulated device, of another geometry, or in use.
        """
        self.spec = spec
        self._image = Image(spec)
        self.counters = Counters()
        self._zone_counters = ZoneCounters(clock)
        self.namespace: NvmNamespace
        try:
            if spec.zoned:
                self.namespace = ZonedNamespace(spec, self._image, self.counters, self._zone_counters)
            else:
                self.namespace = NvmNamespace(spec, self._image, self.counters)
        except BaseException:
            self._image.close()
            raise
        self._admin = AdminCommands(self.namespace, self.counters)
        self._closed = False

    def execute(self, command: Command, data: memoryview, *, admin: bool = False) -> Completion:
        """Carry out ``command``; ``data`` is the host's memory for it, as long as the data length on the wire.

        Never raises for what a command says: whatever the controller does not accept has a status.
        """
        if data.format != "B" or data.ndim != 1:
            data = data.cast("B")
        if self._closed:
            return Completion(INTERNAL_ERROR, 0)
        try:
            if admin:
                return self._admin.execute(command, data)
            if command.nsid != NSID:
                self._check_namespace(command)
            handler = self.namespace.handlers.get(command.opcode)
            if handler is None:
                raise StatusError(INVALID_OPCODE)
            return handler(command, data)
        except StatusError as error:
            completion = error.completion
        except OSError:
            # The file system refused: full, or failing. The zone table was not touched for what was not stored.
            completion = Completion(INTERNAL_ERROR, 0)
        self._admin.log_error(command, completion.status)
        return completion

    def zone_counters(self) -> NDArray[np.void]:
        """What happened to each zone since the device was made, an array of
        :data:`~aionvme.emulator.zone_counters.ZONE_COUNTERS` with a row for each; no rows where there are no zones."""
        return self._zone_counters.rows(self.spec.zones, self.spec.zone_size // self.spec.lba)

    def close(self) -> None:
        """Give the memory back or close the file; a second time does nothing."""
        if not self._closed:
            self._closed = True
            self._image.close()

    @staticmethod
    def _check_namespace(command: Command) -> None:
        """Section 3.2.1.2 of Base 2.0: only Flush may address all namespaces at once."""
        if command.nsid != _BROADCAST:
            raise StatusError(INVALID_NAMESPACE_OR_FORMAT)
        if command.opcode != NvmOpcode.FLUSH:
            raise StatusError(INVALID_FIELD)
