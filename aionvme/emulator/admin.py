"""The admin commands of the emulated controller (Base 2.0, section 5): Identify, Get Log Page, Get and Set Features."""

from collections.abc import Callable

from aionvme.emulator import identify_pages, log_pages
from aionvme.emulator.completions import (
    DONE,
    INVALID_FIELD,
    INVALID_LOG_PAGE,
    INVALID_NAMESPACE_OR_FORMAT,
    INVALID_OPCODE,
    StatusError,
    to_host,
)
from aionvme.emulator.counters import Counters
from aionvme.emulator.features import Features
from aionvme.emulator.nvm import Handler, NvmNamespace
from aionvme.emulator.zoned import ZonedNamespace
from aionvme.nvme.command import Command
from aionvme.nvme.identify import Cns
from aionvme.nvme.logs import Lid
from aionvme.nvme.opcodes import AdminOpcode, CommandSetIdentifier
from aionvme.nvme.status import SUCCESS, Completion

_NSID = 1
_BROADCAST = 0xFFFF_FFFF
_RETAIN_ASYNCHRONOUS_EVENT = 1 << 15

_OF_A_NAMESPACE = frozenset(
    {Cns.NAMESPACE, Cns.NAMESPACE_DESCRIPTORS, Cns.CSI_NAMESPACE, Cns.CSI_INDEPENDENT_NAMESPACE}
)
_OF_A_COMMAND_SET = frozenset({Cns.CSI_NAMESPACE, Cns.CSI_CONTROLLER})


class AdminCommands:
    """The admin queue's end of a controller with one namespace."""

    def __init__(self, namespace: NvmNamespace, counters: Counters) -> None:
        """``counters`` are those that the namespace keeps."""
        self._namespace = namespace
        self._counters = counters
        self._features = Features(namespace)
        self._errors = log_pages.ErrorLog()
        self.log_error = self._errors.add
        self._handlers: dict[int, Handler] = {
            AdminOpcode.IDENTIFY: self._identify,
            AdminOpcode.GET_LOG_PAGE: self._get_log_page,
            AdminOpcode.GET_FEATURES: self._get_features,
            AdminOpcode.SET_FEATURES: self._set_features,
        }
        self._pages = _identify_pages(namespace)
        self._logs: dict[int, Callable[[Command], bytes]] = {
            Lid.ERROR_INFORMATION: lambda _: self._errors.page(),
            Lid.SMART: self._smart,
            Lid.FIRMWARE_SLOT: lambda _: log_pages.firmware_slot(),
            Lid.COMMANDS_SUPPORTED_AND_EFFECTS: self._commands_supported,
        }
        if isinstance(namespace, ZonedNamespace):
            self._zones = namespace.zones
            self._logs[Lid.CHANGED_ZONE_LIST] = self._changed_zones

    def execute(self, command: Command, data: memoryview) -> Completion:
        """Carry out one admin command, or raise the StatusError that ends it."""
        handler = self._handlers.get(command.opcode)
        if handler is None:
            raise StatusError(INVALID_OPCODE)
        return handler(command, data)

    def _identify(self, command: Command, data: memoryview) -> Completion:
        """Section 5.17."""
        page = self._identify_page(command)
        to_host(data, len(page))[:] = page
        return DONE

    def _identify_page(self, command: Command) -> bytes:
        cns, csi = command.cdw10 & 0xFF, command.cdw11 >> 24
        if cns == Cns.ACTIVE_NAMESPACE_LIST:
            return self._namespace_list(command, None)
        if cns == Cns.CSI_ACTIVE_NAMESPACE_LIST:
            return self._namespace_list(command, csi)
        if cns in _OF_A_NAMESPACE:
            _require_namespace(command)
        page = self._pages.get((cns, csi if cns in _OF_A_COMMAND_SET else None))
        if page is None:
            raise StatusError(INVALID_FIELD)
        return page

    def _namespace_list(self, command: Command, csi: int | None) -> bytes:
        """Namespaces above NSID, of one command set or of any."""
        if command.nsid is None or command.nsid >= _BROADCAST - 1:
            raise StatusError(INVALID_NAMESPACE_OR_FORMAT)
        if csi not in (None, CommandSetIdentifier.NVM, CommandSetIdentifier.ZONED):
            raise StatusError(INVALID_FIELD)
        listed = command.nsid < _NSID and csi in (None, self._namespace.csi)
        return identify_pages.namespace_list([_NSID] if listed else [])

    def _get_log_page(self, command: Command, data: memoryview) -> Completion:
        """Section 5.16; what is asked for past the end of a log page reads as zeroes."""
        make = self._logs.get(command.cdw10 & 0xFF)
        if make is None:
            raise StatusError(INVALID_LOG_PAGE)
        length = ((command.cdw10 >> 16) + ((command.cdw11 & 0xFFFF) << 16) + 1) * 4
        offset = command.cdw12 | command.cdw13 << 32
        if length > self._namespace.spec.mdts_bytes or offset % 4:
            raise StatusError(INVALID_FIELD)
        view = to_host(data, length)
        page = make(command)
        if offset >= len(page):
            raise StatusError(INVALID_FIELD)
        part = page[offset : offset + length]
        view[: len(part)] = part
        view[len(part) :] = bytes(length - len(part))
        return DONE

    def _smart(self, command: Command) -> bytes:
        """Of the controller, or of the namespace, which has the same to say."""
        if command.nsid not in (None, 0, _NSID, _BROADCAST):
            raise StatusError(INVALID_NAMESPACE_OR_FORMAT)
        features, temperature = self._features, log_pages.COMPOSITE_TEMPERATURE
        too_warm = not features.under_temperature < temperature < features.over_temperature
        return log_pages.smart(self._counters, self._errors.count, too_warm)

    def _commands_supported(self, command: Command) -> bytes:
        csi = command.cdw14 >> 24
        if csi == CommandSetIdentifier.ZONED:
            # Both command sets are the controller's, whichever its one namespace has.
            opcodes = ZonedNamespace.METHODS
        elif csi == CommandSetIdentifier.NVM:
            opcodes = NvmNamespace.METHODS
        else:
            raise StatusError(INVALID_FIELD)
        return log_pages.commands_supported(self._handlers, opcodes)

    def _changed_zones(self, command: Command) -> bytes:
        _require_namespace(command)
        page = log_pages.changed_zones([index * self._zones.zsze for index in self._zones.changed])
        if not command.cdw10 & _RETAIN_ASYNCHRONOUS_EVENT:
            self._zones.changed.clear()
        return page

    def _get_features(self, command: Command, data: memoryview) -> Completion:
        return Completion(SUCCESS, self._features.get(command))

    def _set_features(self, command: Command, data: memoryview) -> Completion:
        return Completion(SUCCESS, self._features.set(command))


def _require_namespace(command: Command) -> None:
    if command.nsid != _NSID:
        raise StatusError(INVALID_NAMESPACE_OR_FORMAT)


def _identify_pages(namespace: NvmNamespace) -> dict[tuple[int, int | None], bytes]:
    """Every data structure that does not depend on the command, by CNS, and by CSI where there is one for each."""
    spec, image = namespace.spec, namespace.image
    nvm, zoned = CommandSetIdentifier.NVM, CommandSetIdentifier.ZONED
    pages: dict[tuple[int, int | None], bytes] = {
        (Cns.CONTROLLER, None): identify_pages.controller(image, spec),
        (Cns.NAMESPACE, None): identify_pages.namespace(spec),
        (Cns.NAMESPACE_DESCRIPTORS, None): identify_pages.namespace_descriptors(image, namespace.csi),
        (Cns.CSI_INDEPENDENT_NAMESPACE, None): identify_pages.independent_namespace(),
        (Cns.IO_COMMAND_SETS, None): identify_pages.io_command_sets(),
        # Without protection information the NVM Command Set has nothing of its own to say of a namespace.
        (Cns.CSI_NAMESPACE, nvm): bytes(4096),
        (Cns.CSI_CONTROLLER, nvm): identify_pages.nvm_controller(spec),
        (Cns.CSI_CONTROLLER, zoned): identify_pages.zoned_controller(spec),
    }
    if spec.zoned:
        pages[Cns.CSI_NAMESPACE, zoned] = identify_pages.zoned_namespace(spec)
    return pages
