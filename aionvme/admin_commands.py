"""Admin commands: how one gets to the controller, and those that take any page or feature."""

from collections.abc import Callable, Coroutine
from functools import partial
from operator import index
from typing import Any, Protocol, SupportsIndex, TypeVar

import numpy as np
from numpy.typing import NDArray

from aionvme.driver.driver import Driver
from aionvme.driver.request import Group
from aionvme.errors import UsageError, nvme_error
from aionvme.guard import Guard
from aionvme.nvme import admin
from aionvme.nvme.command import Command
from aionvme.nvme.effects import admin_destroys, admin_only_reads, changes_formats
from aionvme.nvme.identify import Cns, IdentifyController
from aionvme.nvme.opcodes import CommandSetIdentifier
from aionvme.nvme.status import Completion
from aionvme.prepare import buffer_of, describe, plain, prepare_admin
from aionvme.vectored import Data

BROADCAST = 0xFFFF_FFFF
"""NSID that stands for the whole controller."""

PIECE_BYTES = 64 << 10
"""Most of a log page that one command reads: less than any kernel takes, however its memory is scattered."""

UNEXTENDED_BYTES = 16 << 10
"""Most of a log page where Get Log Page has neither offsets nor the upper half of the length, which came with NVMe 1.2.1."""

_EXTENDED = 1 << 2
"""Log Page Attributes, LPA: Get Log Page has both."""

Parsed = TypeVar("Parsed")


class Submit(Protocol):
    """How an admin command gets to the controller: as :meth:`Controller.submit`."""

    def __call__(
        self, command: Command, data: Data | None = None, into: Data | None = None
    ) -> Coroutine[Any, Any, Completion]:
        """Submit it and wait for its completion."""


async def submit_admin(
    driver: Driver,
    guard: Guard,
    command: Command,
    data: Data | None = None,
    into: Data | None = None,
    *,
    io: Driver | None = None,
) -> Completion:
    """Submit an admin command to the queue of ``driver``, if ``guard`` has nothing against it.

    ``io`` is the queue of a namespace whose blocks it may give another size.
    """
    driver.check_usable()
    command = plain(command)
    if guard.readonly and not admin_only_reads(command.opcode):
        raise guard.error(describe(command, admin=True))
    if admin_destroys(command.opcode):
        guard.look_around(describe(command, admin=True))
    submission = prepare_admin(command, buffer_of(command, data, into, admin=True))
    retired = io is not None and changes_formats(command.opcode) and await io.retire()
    group = Group()
    try:
        return (await driver.run([submission], group=group))[0]
    except BaseException as error:
        if io is not None and retired and (not group.sent or isinstance(error, PermissionError)):
            io.reinstate()  # the controller has not seen it
        raise


class AdminCommands:
    """What is common to all admin commands of a controller."""

    def __init__(self, target: str, submit: Submit, identify: IdentifyController) -> None:
        self._target = target
        self._submit = submit
        self._identify = identify

    @property
    def target(self) -> str:
        """What was opened."""
        return self._target

    @property
    def identify(self) -> IdentifyController:
        """The controller's identify structure, as it was at the opening."""
        return self._identify

    async def submit(self, command: Command, data: Data | None = None, into: Data | None = None) -> Completion:
        """Submit any admin command and wait for its completion, status and result; an error status does not raise.

        ``data`` is sent, ``into`` is filled; which of them an opcode takes is in its bits 1:0. The length must be the one the
        command moves. The library knows it of Identify, Get Log Page, the features of the specification, directives, Security
        Send and Receive, Firmware Image Download, Namespace Management and Attachment, and Get LBA Status; of any other command
        it is yours to get right, since a device that moves more writes past the buffer, and to address 0 where there is none.

        Raises UsageError where command and buffer do not agree, ReadOnlyError and NamespaceInUseError where it may destroy what
        must not be, all with nothing submitted; OSError where the operating system ended it, which is PermissionError where the
        kernel keeps it from this user.
        """
        return await self._submit(command, data, into)

    async def get_log_page(
        self,
        lid: SupportsIndex,
        len_bytes: SupportsIndex,
        *,
        nsid: SupportsIndex = BROADCAST,
        lsp: SupportsIndex = 0,
        lsi: SupportsIndex = 0,
        rae: bool = False,
        offset_bytes: SupportsIndex = 0,
        csi: SupportsIndex = CommandSetIdentifier.NVM,
    ) -> NDArray[np.uint8]:
        """``len_bytes`` of any log page from ``offset_bytes`` on, both multiples of 4 (Get Log Page, section 5.16).

        What exceeds one command is read in pieces, one after the other; whether they belong together, the page itself must say.
        ``lsp`` and ``lsi`` are the log page's own parameters, ``csi`` the command set of one that depends on it. ``rae`` keeps
        the asynchronous event that announced it. Raises UsageError where the page is longer than one command reads, or not read
        from its start, and the controller has no offsets.
        """
        piece = self._piece(len_bytes := index(len_bytes), offset_bytes := index(offset_bytes))
        make = partial(_built, admin.get_log_page, lid, nsid=nsid, lsp=lsp, lsi=lsi, csi=csi)
        make(len_bytes, rae=rae, offset_bytes=offset_bytes)  # refused as a whole, if at all
        page = np.zeros(len_bytes, np.uint8)
        for at in range(0, len_bytes, piece):
            part = page[at : at + piece]
            # The event is done with when all of the page has been read.
            command = make(part.size, rae=rae or at + part.size < len_bytes, offset_bytes=offset_bytes + at)
            await self._succeed(command, _lid(lid), into=part)
        return page

    async def get_features(
        self,
        fid: SupportsIndex,
        *,
        sel: SupportsIndex = 0,
        nsid: SupportsIndex = 0,
        cdw11: SupportsIndex = 0,
        into: Data | None = None,
    ) -> int:
        """The value of a feature: dword 0 of the completion (Get Features, section 5.15).

        ``sel`` asks for the current value (0), the default (1), the saved one (2), or what is supported (3): bit 0 saveable, 1
        for each namespace, 2 changeable. ``nsid`` and ``cdw11`` are for features that take them. A feature with data fills
        ``into``.
        """
        command = _built(admin.get_features, fid, sel=sel, nsid=nsid, cdw11=cdw11)
        return (await self._succeed(command, _fid(fid), into=into)).result & 0xFFFF_FFFF

    async def set_features(
        self,
        fid: SupportsIndex,
        value: SupportsIndex,
        *,
        save: bool = False,
        nsid: SupportsIndex = 0,
        cdw12: SupportsIndex = 0,
        data: Data | None = None,
    ) -> int:
        """Set a feature, until the next reset or with ``save`` for good, and give dword 0 of the completion, where some features
        say more (Set Features, section 5.27).

        ``value`` is command dword 11. Linux is not told: what it has set up itself (queues, interrupts, asynchronous events,
        power states, the keep alive timer) it goes on to use as it was.
        """
        command = _built(admin.set_features, fid, value, save=save, nsid=nsid, cdw12=cdw12)
        return (await self._succeed(command, _fid(fid), data=data)).result & 0xFFFF_FFFF

    async def _identified(
        self,
        parse: Callable[[NDArray[np.uint8]], Parsed],
        cns: Cns,
        nsid: int = 0,
        csi: SupportsIndex = CommandSetIdentifier.NVM,
        cntid: int = 0,
    ) -> Parsed:
        page = await identify_page(self.target, self._submit, cns, nsid=nsid, csi=csi, cntid=cntid)
        return self._parsed(parse, page, f"{_cns(cns)} of namespace {nsid}" if nsid else _cns(cns))

    async def _logged(
        self,
        parse: Callable[[NDArray[np.uint8]], Parsed],
        lid: int,
        len_bytes: int,
        *,
        nsid: SupportsIndex = BROADCAST,
        lsp: SupportsIndex = 0,
        lsi: SupportsIndex = 0,
        csi: SupportsIndex = CommandSetIdentifier.NVM,
    ) -> Parsed:
        page = await self.get_log_page(lid, len_bytes, nsid=nsid, lsp=lsp, lsi=lsi, csi=csi)
        return self._parsed(parse, page, _lid(lid))

    def _piece(self, len_bytes: int, offset_bytes: int) -> int:
        """How much of a log page one command reads."""
        mdts = self.identify.mdts_bytes()
        if self.identify.raw["lpa"] & _EXTENDED:
            return min(PIECE_BYTES, mdts or PIECE_BYTES)
        most = min(UNEXTENDED_BYTES, mdts or UNEXTENDED_BYTES)
        if len_bytes > most or offset_bytes:
            raise UsageError(
                f"{len_bytes} bytes of a log page from {offset_bytes} on: {self.target} takes no offsets (LPA bit 2), and gives "
                f"at most the first {most} bytes"
            )
        return most

    def _parsed(self, parse: Callable[[NDArray[np.uint8]], Parsed], page: NDArray[np.uint8], what: str) -> Parsed:
        try:
            return parse(page)
        except ValueError as error:
            raise UsageError(f"{self.target}, {what}: {error}") from None

    async def _succeed(
        self, command: Command, what: str, data: Data | None = None, into: Data | None = None
    ) -> Completion:
        return _succeeded(await self._submit(command, data, into), command, what, self.target)


async def identify_page(
    target: str, submit: Submit, cns: Cns, *, nsid: int = 0, csi: SupportsIndex = 0, cntid: int = 0
) -> NDArray[np.uint8]:
    """One of Identify's data structures."""
    page = np.zeros(admin.IDENTIFY_LEN_BYTES, np.uint8)
    command = _built(admin.identify, cns, nsid=nsid, csi=csi, cntid=cntid)
    _succeeded(await submit(command, None, page), command, _cns(cns), target)
    return page


def _succeeded(completion: Completion, command: Command, what: str, target: str) -> Completion:
    if completion.status:
        raise nvme_error(completion.status, f"{describe(command, admin=True)} ({what}) on {target}")
    return completion


def _built(make: Callable[..., Command], *fields: SupportsIndex, **more: SupportsIndex) -> Command:
    """A command from fields of the caller's: UsageError naming the one that is wrong."""
    try:
        return plain(make(*fields, **more))
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def check_nsid(nsid: SupportsIndex) -> int:
    """The identifier of a single namespace; UsageError where it is none."""
    nsid = index(nsid)
    if not 1 <= nsid < BROADCAST:
        raise UsageError(f"nsid = {nsid}: namespaces have identifiers from 1 to {BROADCAST - 1}")
    return nsid


def _cns(cns: Cns) -> str:
    return f"CNS {cns:#04x}"


def _lid(lid: SupportsIndex) -> str:
    return f"LID {index(lid):#04x}"


def _fid(fid: SupportsIndex) -> str:
    return f"FID {index(fid):#04x}"
