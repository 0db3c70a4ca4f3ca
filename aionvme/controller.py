"""A controller: what it says of itself and its namespaces, its log pages, its features."""

from functools import partial
from operator import index
from typing import NamedTuple, Self, SupportsIndex

import numpy as np
from numpy.typing import NDArray

from aionvme.admin_commands import BROADCAST, AdminCommands, Submit, check_nsid, identify_page
from aionvme.errors import UsageError
from aionvme.nvme import fdp, logs
from aionvme.nvme.features import Fid
from aionvme.nvme.identify import (
    Cns,
    IdentifyController,
    IdentifyNamespace,
    NamespaceDescriptors,
    parse_command_sets,
    parse_namespace_descriptors,
    parse_namespace_list,
)
from aionvme.nvme.identify_nvm import IdentifyNvmController, IdentifyNvmNamespace
from aionvme.nvme.identify_zoned import IdentifyZonedController, IdentifyZonedNamespace
from aionvme.nvme.logs import Lid
from aionvme.nvme.opcodes import CommandSetIdentifier

THIS_CONTROLLER = 0xFFFF
"""CNTID that stands for the controller that is asked."""


class NumberOfQueues(NamedTuple):
    """How many I/O submission and completion queues a controller has allocated, 1-based."""

    nsqa: int
    ncqa: int


class Controller(AdminCommands):
    """A controller's admin commands; :func:`aionvme.open_controller` makes one, and ``ns.admin`` is that of a namespace.

    A command that the controller fails raises the :class:`~aionvme.NvmeError` of its status, one that the operating system ends
    raises OSError, and a call that makes no sense :class:`~aionvme.UsageError` with nothing submitted: among them an answer that
    is none, such as that for a namespace which is not there. Buffers and cancellation are as those of
    :class:`~aionvme.Namespace`.

    ``nsid`` names a namespace, ``endgid`` an endurance group, ``csi`` a command set: each is 1 or more but for the command set.
    Structures hold every field of the specification in ``raw``. Sections are those of the NVM Express Base Specification 2.0.
    """

    @classmethod
    async def ask(cls, target: str, submit: Submit) -> Self:
        """The controller behind ``submit``, asked what it is; ``target`` names it in messages."""
        return cls(target, submit, IdentifyController.parse(await identify_page(target, submit, Cns.CONTROLLER)))

    def __repr__(self) -> str:
        return f"<Controller {self.target}: {self.identify.mn}, {self.identify.sn}>"

    async def identify_controller(self) -> IdentifyController:
        """The controller's identify structure as it is now (CNS 01h, section 5.17.2.1)."""
        return await self._identified(IdentifyController.parse, Cns.CONTROLLER)

    async def identify_namespace(self, nsid: SupportsIndex) -> IdentifyNamespace:
        """A namespace's size and formats (CNS 00h)."""
        return await self._identified(IdentifyNamespace.parse, Cns.NAMESPACE, check_nsid(nsid))

    async def namespaces(self, csi: SupportsIndex | None = None) -> list[int]:
        """The active namespaces, those of command set ``csi`` where that is given, in order (CNS 02h, 07h)."""
        cns = Cns.ACTIVE_NAMESPACE_LIST if csi is None else Cns.CSI_ACTIVE_NAMESPACE_LIST
        nsids: list[int] = []
        while True:
            above = nsids[-1] if nsids else 0
            nsids += (page := await self._identified(parse_namespace_list, cns, above, csi or 0))
            if len(page) < 1024 or nsids[-1] >= BROADCAST - 2:
                return nsids

    async def namespace_descriptors(self, nsid: SupportsIndex) -> NamespaceDescriptors:
        """A namespace's identifiers and command set (CNS 03h)."""
        return await self._identified(parse_namespace_descriptors, Cns.NAMESPACE_DESCRIPTORS, check_nsid(nsid))

    async def identify_nvm_namespace(self, nsid: SupportsIndex) -> IdentifyNvmNamespace:
        """What a namespace has of the NVM Command Set, protection information above all (CNS 05h, CSI 00h)."""
        return await self._identified(IdentifyNvmNamespace.parse, Cns.CSI_NAMESPACE, check_nsid(nsid))

    async def identify_nvm_controller(self) -> IdentifyNvmController:
        """Limits of the NVM Command Set's commands (CNS 06h, CSI 00h)."""
        return await self._identified(IdentifyNvmController.parse, Cns.CSI_CONTROLLER)

    async def identify_zoned_namespace(self, nsid: SupportsIndex) -> IdentifyZonedNamespace:
        """The zones of a namespace, in the LBA format that it has (CNS 05h, CSI 02h)."""
        nsid = check_nsid(nsid)
        flbas = (await self.identify_namespace(nsid)).flbas
        parse = partial(IdentifyZonedNamespace.parse, flbas=flbas)
        return await self._identified(parse, Cns.CSI_NAMESPACE, nsid, CommandSetIdentifier.ZONED)

    async def identify_zoned_controller(self) -> IdentifyZonedController:
        """The controller's limit of a Zone Append (CNS 06h, CSI 02h)."""
        return await self._identified(IdentifyZonedController.parse, Cns.CSI_CONTROLLER, csi=CommandSetIdentifier.ZONED)

    async def command_sets(self) -> list[frozenset[int]]:
        """The combinations of I/O command sets, each a set of CSI, that may be used at a time, by their index (CNS 1Ch)."""
        return await self._identified(parse_command_sets, Cns.IO_COMMAND_SETS, cntid=THIS_CONTROLLER)

    async def smart_log(self, nsid: SupportsIndex | None = None) -> logs.SmartLog:
        """SMART / Health Information (LID 02h), of the controller, or of a namespace where LPA bit 0 says that it keeps those."""
        nsid = BROADCAST if nsid is None else check_nsid(nsid)
        return await self._logged(logs.SmartLog.parse, Lid.SMART, logs.SMART.itemsize, nsid=nsid)

    async def error_information(self) -> list[logs.ErrorInformation]:
        """The errors that the controller remembers, newest first (Error Information, LID 01h); how many, ELPE says."""
        len_bytes = (int(self.identify.raw["elpe"]) + 1) * logs.ERROR_INFORMATION.itemsize
        return await self._logged(logs.parse_error_information, Lid.ERROR_INFORMATION, len_bytes)

    async def firmware_slots(self) -> logs.FirmwareSlots:
        """The firmware in each slot, and which runs (Firmware Slot Information, LID 03h)."""
        return await self._logged(logs.FirmwareSlots.parse, Lid.FIRMWARE_SLOT, logs.FIRMWARE_SLOT.itemsize)

    async def commands_supported(
        self, csi: SupportsIndex = CommandSetIdentifier.NVM
    ) -> logs.CommandsSupportedAndEffects:
        """Which commands there are, admin ones and those of a command set, and what they change (Commands Supported and Effects,
        LID 05h)."""
        parse, len_bytes = logs.CommandsSupportedAndEffects.parse, logs.COMMANDS_SUPPORTED_AND_EFFECTS.itemsize
        return await self._logged(parse, Lid.COMMANDS_SUPPORTED_AND_EFFECTS, len_bytes, csi=csi)

    async def changed_namespaces(self) -> list[int] | None:
        """The namespaces that have changed since this was asked last (Changed Namespace List, LID 04h), None where they are too
        many to be listed. Linux asks as soon as the controller tells it of one, and so is usually first."""
        len_bytes = logs.CHANGED_NAMESPACES_LEN_BYTES
        return await self._logged(logs.parse_changed_namespaces, Lid.CHANGED_NAMESPACE_LIST, len_bytes)

    async def changed_zones(self, nsid: SupportsIndex) -> NDArray[np.uint64] | None:
        """The zslba of the zones that the controller itself changed since this was asked last (Changed Zone List, LID BFh), None
        where they are too many to be listed."""
        len_bytes = logs.CHANGED_ZONE_LIST.itemsize
        return await self._logged(logs.parse_changed_zone_list, Lid.CHANGED_ZONE_LIST, len_bytes, nsid=check_nsid(nsid))

    async def fdp_configurations(self, endgid: SupportsIndex) -> list[fdp.FdpConfiguration]:
        """How an endurance group may be configured for Flexible Data Placement (FDP Configurations, LID 20h)."""
        lid, group, header = Lid.FDP_CONFIGURATIONS, check_endgid(endgid), fdp.FDP_CONFIGURATIONS
        start = await self.get_log_page(lid, header.itemsize, nsid=0, lsi=group)
        sze = int(start.view(header)[0]["sze"])
        return await self._logged(
            fdp.parse_fdp_configurations, lid, max(sze + 3 & ~3, header.itemsize), nsid=0, lsi=group
        )

    async def fdp_ruh_usage(self, endgid: SupportsIndex) -> tuple[int, ...]:
        """By whom each reclaim unit handle is used, by its number: 0 nobody, 1 a host, 2 the controller (Reclaim Unit Handle
        Usage, LID 21h)."""
        lid, group, header = Lid.RECLAIM_UNIT_HANDLE_USAGE, check_endgid(endgid), fdp.RECLAIM_UNIT_HANDLE_USAGE
        start = await self.get_log_page(lid, header.itemsize, nsid=0, lsi=group)
        nruh = int(start.view(header)[0]["nruh"])
        return await self._logged(
            fdp.parse_reclaim_unit_handle_usage, lid, header.itemsize + 8 * nruh, nsid=0, lsi=group
        )

    async def fdp_statistics(self, endgid: SupportsIndex) -> fdp.FdpStatistics:
        """Bytes written by hosts, written to the media and erased, of an endurance group (FDP Statistics, LID 22h)."""
        len_bytes = fdp.FDP_STATISTICS.itemsize
        return await self._logged(
            fdp.FdpStatistics.parse, Lid.FDP_STATISTICS, len_bytes, nsid=0, lsi=check_endgid(endgid)
        )

    async def fdp_events(self, endgid: SupportsIndex, *, host: bool) -> list[fdp.FdpEvent]:
        """The events of an endurance group, those that concern hosts, or those of the controller (FDP Events, LID 23h).

        Which are recorded, the FDP Events feature (1Eh) says.
        """
        lid, group, header = Lid.FDP_EVENTS, check_endgid(endgid), fdp.FDP_EVENTS
        lsp = int(bool(host))
        start = await self.get_log_page(lid, header.itemsize, nsid=0, lsp=lsp, lsi=group)
        len_bytes = header.itemsize + int(start.view(header)[0]["n"]) * fdp.FDP_EVENT.itemsize
        return await self._logged(fdp.parse_fdp_events, lid, len_bytes, nsid=0, lsp=lsp, lsi=group)

    async def number_of_queues(self) -> NumberOfQueues:
        """How many I/O queues the controller has allocated (feature 07h)."""
        value = await self.get_features(Fid.NUMBER_OF_QUEUES)
        return NumberOfQueues((value & 0xFFFF) + 1, (value >> 16) + 1)

    async def volatile_write_cache(self) -> bool:
        """Whether the volatile write cache is enabled (feature 06h)."""
        return bool(await self.get_features(Fid.VOLATILE_WRITE_CACHE) & 1)

    async def set_volatile_write_cache(self, wce: bool) -> None:
        """Enable or disable the volatile write cache. Linux goes on to send Flush, or not to, as it saw the cache when it found
        the controller."""
        await self.set_features(Fid.VOLATILE_WRITE_CACHE, int(bool(wce)))


def check_endgid(endgid: SupportsIndex) -> int:
    """The identifier of an endurance group; UsageError where it is none."""
    endgid = index(endgid)
    if not 1 <= endgid <= 0xFFFF:
        raise UsageError(f"endgid = {endgid}: endurance groups have identifiers from 1 to 65535")
    return endgid
