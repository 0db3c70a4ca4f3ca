"""The features of the emulated controller (Base 2.0, section 5.27.1). None of them is saved."""

from collections.abc import Callable

from aionvme.emulator.completions import (
    FEATURE_NOT_NAMESPACE_SPECIFIC,
    FEATURE_NOT_SAVEABLE,
    INVALID_FIELD,
    StatusError,
)
from aionvme.emulator.identify_pages import WARNING_TEMPERATURE
from aionvme.emulator.nvm import NvmNamespace
from aionvme.nvme.command import Command

TEMPERATURE_THRESHOLD = 0x04
VOLATILE_WRITE_CACHE = 0x06
NUMBER_OF_QUEUES = 0x07

_SAVE = 1 << 31
_CHANGEABLE = 1 << 2
_QUEUES = 64
_BROADCAST = 0xFFFF_FFFF


class Features:
    """Get Features and Set Features: each takes a command and gives dword 0 of the completion."""

    def __init__(self, namespace: NvmNamespace) -> None:
        """Every feature starts with its default."""
        self._namespace = namespace
        self.over_temperature = WARNING_TEMPERATURE
        self.under_temperature = 0
        self._get: dict[int, Callable[[Command], int]] = {
            TEMPERATURE_THRESHOLD: self._get_temperature_threshold,
            VOLATILE_WRITE_CACHE: lambda _: int(self._namespace.write_cache),
            NUMBER_OF_QUEUES: lambda _: _queues(),
        }
        self._set: dict[int, Callable[[Command], int]] = {
            TEMPERATURE_THRESHOLD: self._set_temperature_threshold,
            VOLATILE_WRITE_CACHE: self._set_write_cache,
            NUMBER_OF_QUEUES: self._set_number_of_queues,
        }

    def get(self, command: Command) -> int:
        """Get Features (section 5.15): SEL 0 current, 1 default, 2 saved (here the default), 3 capabilities."""
        fid, sel = command.cdw10 & 0xFF, command.cdw10 >> 8 & 0x7
        if fid not in self._get or sel > 3:
            raise StatusError(INVALID_FIELD)
        if sel == 3:
            return _CHANGEABLE
        return self._get[fid](command) if sel == 0 else self._default(fid, command)

    def set(self, command: Command) -> int:
        """Set Features (section 5.27)."""
        if command.cdw10 & 0xFF not in self._set:
            raise StatusError(INVALID_FIELD)
        if command.cdw10 & _SAVE:
            raise StatusError(FEATURE_NOT_SAVEABLE)
        if command.nsid not in (None, 0, _BROADCAST):
            raise StatusError(FEATURE_NOT_NAMESPACE_SPECIFIC)  # all of them are the controller's
        return self._set[command.cdw10 & 0xFF](command)

    def _default(self, fid: int, command: Command) -> int:
        if fid == TEMPERATURE_THRESHOLD:
            return WARNING_TEMPERATURE if _threshold_type(command) == 0 else 0
        return 1 if fid == VOLATILE_WRITE_CACHE else _queues()

    def _get_temperature_threshold(self, command: Command) -> int:
        return self.under_temperature if _threshold_type(command) else self.over_temperature

    def _set_temperature_threshold(self, command: Command) -> int:
        if _threshold_type(command):
            self.under_temperature = command.cdw11 & 0xFFFF
        else:
            self.over_temperature = command.cdw11 & 0xFFFF
        return 0

    def _set_write_cache(self, command: Command) -> int:
        self._namespace.write_cache = bool(command.cdw11 & 1)
        if not self._namespace.write_cache:
            # What the cache holds must be safe before the host stops sending Flush.
            self._namespace.image.media.sync()
        return 0

    def _set_number_of_queues(self, command: Command) -> int:
        if 0xFFFF in (command.cdw11 & 0xFFFF, command.cdw11 >> 16):
            raise StatusError(INVALID_FIELD)
        return _queues()


def _queues() -> int:
    """Numbers of submission and completion queues, 0's based."""
    return _QUEUES - 1 << 16 | _QUEUES - 1


def _threshold_type(command: Command) -> int:
    """THSEL, 0 over and 1 under temperature, of the only sensor there is: the composite temperature."""
    tmpsel, thsel = command.cdw11 >> 16 & 0xF, command.cdw11 >> 20 & 0x3
    if tmpsel not in (0x0, 0xF) or thsel > 1:
        raise StatusError(INVALID_FIELD)
    return thsel
