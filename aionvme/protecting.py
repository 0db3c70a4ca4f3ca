"""What goes beside the data of blocks: metadata, and who looks after the protection information in it.

The blocks of a command become a :class:`Transfer`: which memory moves, what the command says of protection information, and what
is left to do when the data has come. A data buffer has the same blocks in any case (:attr:`Geometry.block_bytes`).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from operator import index
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aionvme._core import ffi
from aionvme.buffers import NOTHING, Buffer, Span, span_of
from aionvme.errors import ProtectionError, UsageError
from aionvme.geometry import Geometry
from aionvme.nvme.command import Command
from aionvme.nvme.nvm import split_lba, wire_nlb
from aionvme.nvme.opcodes import NvmOpcode
from aionvme.nvme.protection import PIREMAP, PRACT, PRCHK_APP_TAG, PRINFO_MASK, ProtectionFormat
from aionvme.vectored import Memory, Vector, cut

REF_TAG_MAX = 0xFFFF_FFFF

PRINFOR_BELOW = 14
"""How much lower the PRINFO for reading is than the one for writing, in dword 12 of Copy."""


@dataclass(frozen=True)
class Protection:
    """The host makes protection information and checks it, end to end, instead of leaving both to the controller.

    ``app_tag`` is written as application tag (0 for None), and checked on reads, where it is not None, in the bits of
    ``app_tag_mask``. ``ref_tag`` is the reference tag of the first block: with type 2 yours to choose, None for the low half of
    its address; with type 1 it is always that; with type 3 it is written (0 for None) and not checked. A block with an
    application tag of FFFFh (type 3: and a reference tag of FFFFFFFFh) is not checked at all: such are those never written.

    With ``prchk`` the controller checks, too, and a mismatch that it finds is the :class:`NvmeError` of its status; without, only
    the host does, and :class:`ProtectionError` says which block it is. (NVM Command Set Specification 1.0, section 5.2.)
    """

    app_tag: int | None = None
    app_tag_mask: int = 0xFFFF
    ref_tag: int | None = None
    prchk: bool = True

    def __post_init__(self) -> None:
        """Raise UsageError for a tag that does not fit."""
        for name, most in (("app_tag", 0xFFFF), ("app_tag_mask", 0xFFFF), ("ref_tag", REF_TAG_MAX)):
            value = getattr(self, name)
            if value is None and name != "app_tag_mask":
                continue
            if not hasattr(value, "__index__") or not 0 <= index(value) <= most:
                raise UsageError(f"{name} = {value!r}: it takes an integer from 0 to {most:#x}")
            object.__setattr__(self, name, index(value))

    @property
    def tags(self) -> tuple[int, int]:
        """The application tag, and which bits of it are checked."""
        return (0, 0) if self.app_tag is None else (self.app_tag, self.app_tag_mask)

    def dwords(self, command: Command, form: ProtectionFormat) -> Command:
        """The command with what the controller is to check, and against what."""
        app_tag, mask = self.tags
        prchk = (form.prchk | (PRCHK_APP_TAG if mask else 0)) if self.prchk else 0
        return command._replace(
            cdw12=command.cdw12 & ~PRINFO_MASK | prchk,
            cdw14=self.first_ref_tag(command, form),
            cdw15=app_tag | mask << 16,
        )

    def first_ref_tag(self, command: Command, form: ProtectionFormat) -> int:
        """The reference tag of a command's first block. Raises UsageError where the format leaves no choice."""
        self.check_ref_tag(range(command.slba, command.slba + 1), form)
        own = command.slba & REF_TAG_MAX if form.counts else 0
        return own if self.ref_tag is None else self.ref_tag

    def check_ref_tag(self, first: range, form: ProtectionFormat) -> None:
        """Raise UsageError where the reference tag is that of none of these addresses, and the format leaves no choice."""
        if form.type == 1 and self.ref_tag is not None and self.ref_tag - first[0] & REF_TAG_MAX >= len(first):
            own = " to ".join(f"{lba & REF_TAG_MAX:#x}" for lba in dict.fromkeys((first[0], first[-1])))
            raise UsageError(
                f"ref_tag = {self.ref_tag:#x}: with protection information of type 1 it is the low half of the address, {own}"
            )


class Part(NamedTuple):
    """One command with its memory."""

    command: Command
    span: Memory = NOTHING
    metadata: Span = NOTHING


@dataclass(frozen=True)
class Transfer:
    """Blocks to be moved by ``command``, whose nlb is yet to be filled in, and the memory that they are in.

    ``block_bytes`` and ``ms`` are the bytes of a block in ``span`` and in ``metadata``; ``counts`` says whether dword 14 goes up
    with the blocks; ``finish``, where there is something to be done, takes in what was read.
    """

    command: Command
    span: Memory
    block_bytes: int
    metadata: Span = NOTHING
    ms: int = 0
    counts: bool = False
    finish: Callable[[], None] | None = None

    def parts(self, most: int) -> Iterator[Part]:
        """The commands, of at most so many blocks each."""
        first = 0
        for span in cut(self.span, most * self.block_bytes, self.block_bytes):
            yield self._part(first, span)
            first += span.len_bytes // self.block_bytes

    def whole(self) -> Part:
        """One command for all of it."""
        return self._part(0, self.span)

    def _part(self, first: int, span: Memory) -> Part:
        command, metadata = self.command, self.metadata
        nlb = span.len_bytes // self.block_bytes
        low, high = split_lba(command.slba + first)
        cdw14 = (command.cdw14 + first) & REF_TAG_MAX if self.counts else command.cdw14
        return Part(
            command._replace(cdw10=low, cdw11=high, cdw12=command.cdw12 | wire_nlb(nlb), cdw14=cdw14),
            span,
            Span(metadata.addr + first * self.ms, nlb * self.ms, metadata.owner) if self.ms else NOTHING,
        )


def by_the_controller(command: Command, geometry: Geometry) -> Command:
    """A command on blocks with what it takes for the controller to make protection information, check it and strip it.

    Raises UsageError where its format is none that this library knows. Compare has no such way: the command stays as it is.
    """
    form = geometry.protection
    if form is None:
        return command
    _check_known(form)
    prinfos: dict[int, int] = {
        NvmOpcode.READ: PRACT | form.prchk,
        NvmOpcode.WRITE: PRACT,
        NvmOpcode.WRITE_ZEROES: PRACT,
        NvmOpcode.VERIFY: form.prchk,
        NvmOpcode.ZONE_APPEND: PRACT | (PIREMAP if form.counts else 0),
    }
    prinfo = prinfos.get(command.opcode)
    if prinfo is None:
        return command
    rest = command.cdw12 & ~(PRINFO_MASK | (PIREMAP if command.opcode == NvmOpcode.ZONE_APPEND else 0))
    return command._replace(cdw12=rest | prinfo, cdw14=command.slba & REF_TAG_MAX if form.counts else 0)


def copying(command: Command, geometry: Geometry) -> Command:
    """A copy that has protection information checked where it comes from, and made anew where it goes to."""
    form = geometry.protection
    if form is None:
        return command
    _check_known(form)
    prinfor = (PRACT | form.prchk) >> PRINFOR_BELOW
    return command._replace(
        cdw12=command.cdw12 | PRACT | prinfor, cdw14=command.slba & REF_TAG_MAX if form.counts else 0
    )


def verifying(command: Command, geometry: Geometry, protection: Protection | None) -> Command:
    """A command that moves no data, and has blocks checked."""
    if protection is None:
        return by_the_controller(command, geometry)
    form = _form(geometry, protection)
    _check_known(form)
    return protection.dwords(command, form)


def plan(
    command: Command,
    span: Memory,
    geometry: Geometry,
    metadata: Buffer | None = None,
    protection: Protection | None = None,
) -> Transfer:
    """How the blocks of a buffer are moved by a command whose nlb is yet to be filled in.

    Raises UsageError where metadata or protection do not suit the namespace's format, or are missing.
    """
    transfer = Transfer(command, span, geometry.block_bytes)
    form = geometry.protection if protection is None else _form(geometry, protection)
    if form is not None and (protection is not None or command.opcode == NvmOpcode.COMPARE):
        return _by_the_host(transfer, geometry, form, metadata, protection or Protection())
    if metadata is None and not geometry.namespace.ms:
        return transfer
    beside = beside_blocks(
        span.len_bytes // geometry.block_bytes, geometry, metadata, reads=command.opcode == NvmOpcode.READ
    )
    return replace(
        transfer,
        command=by_the_controller(command, geometry),
        metadata=beside,
        ms=geometry.namespace.ms if beside.len_bytes else 0,
        counts=form is not None and form.counts,
    )


def beside_blocks(blocks: int, geometry: Geometry, metadata: Buffer | None, *, reads: bool) -> Span:
    """The buffer of metadata that goes with so many blocks, where protection information is the controller's.

    Raises UsageError where there is one and should be none, or the other way round, or it has another size.
    """
    form = geometry.protection
    if form is None or not form.all_of_it:
        return _beside(blocks, geometry, metadata, reads=reads)
    if metadata is not None:
        raise UsageError(
            "metadata=: the controller makes and strips it, for all of it is protection information; with "
            "protection=aionvme.Protection() a read gives it"
        )
    return NOTHING


def check_written(
    blocks: int, geometry: Geometry, first: range, metadata: Buffer | None, protection: Protection | None
) -> None:
    """Raise what :func:`plan` would for writing so many blocks whichever address is their ``first``: before somebody waits for
    which."""
    form = geometry.protection if protection is None else _form(geometry, protection)
    if form is not None:
        _check_known(form)
    if form is not None and protection is not None:
        protection.check_ref_tag(first, form)
        _beside_the_hosts(blocks, geometry, form, metadata)
    else:
        beside_blocks(blocks, geometry, metadata, reads=False)


def _by_the_host(
    transfer: Transfer,
    geometry: Geometry,
    form: ProtectionFormat,
    metadata: Buffer | None,
    protection: Protection,
) -> Transfer:
    _check_known(form)
    command, span = transfer.command, transfer.span
    blocks, reads = span.len_bytes // transfer.block_bytes, command.opcode == NvmOpcode.READ
    lba_size, ms = geometry.namespace.lba_size, geometry.namespace.ms
    ref_tag = protection.first_ref_tag(command, form)
    app_tag, mask = protection.tags
    flat = _contiguous(span, empty=reads)
    bare = flat.reshape(blocks, -1)
    if not isinstance(span, Span):
        transfer = replace(transfer, span=span_of(flat, writable=reads))
    transfer = replace(transfer, command=protection.dwords(command, form), counts=form.counts)
    if command.opcode == NvmOpcode.ZONE_APPEND and form.counts:
        transfer = replace(transfer, command=transfer.command._replace(cdw12=transfer.command.cdw12 | PIREMAP))
    if geometry.namespace.extended_lba:
        _beside(blocks, geometry, metadata, reads=reads)
        whole = bare
        if not reads or form.all_of_it:
            whole = np.zeros((blocks, lba_size + ms), np.uint8)
            transfer = replace(transfer, span=span_of(whole, writable=True), block_bytes=lba_size + ms)
        if not reads:
            whole[:, : bare.shape[1]] = bare
        data, tuples = whole[:, :lba_size], whole[:, lba_size:]
    else:
        if reads:
            beside = _beside(blocks, geometry, metadata, reads=True)
        else:
            own = _beside_the_hosts(blocks, geometry, form, metadata)
            made = _bytes(own).copy() if own.len_bytes else np.zeros(blocks * ms, np.uint8)
            beside = span_of(made, writable=True)
        data, tuples = bare, _bytes(beside).reshape(blocks, ms)
        transfer = replace(transfer, metadata=beside, ms=ms)
    if not reads:
        form.generate(data, tuples, app_tag, ref_tag)
        return transfer

    def finish() -> None:
        if data is not bare and form.all_of_it:
            bare[:] = data
        if not isinstance(span, Span):
            _scatter(flat, span)
        wrong = form.check(data, tuples, ref_tag, app_tag, mask)
        if wrong is not None:
            raise ProtectionError(command.slba + wrong.block, wrong.tag, wrong.expected, wrong.found)

    return replace(transfer, finish=finish)


def _beside_the_hosts(blocks: int, geometry: Geometry, form: ProtectionFormat, metadata: Buffer | None) -> Span:
    """What a write has of metadata where the host makes protection information: nothing, where that is all of it."""
    if geometry.namespace.extended_lba or not form.all_of_it:
        return _beside(blocks, geometry, metadata, reads=False)
    if metadata is not None:
        raise UsageError("metadata=: all of it is protection information, which protection= makes")
    return NOTHING


def _beside(blocks: int, geometry: Geometry, metadata: Buffer | None, *, reads: bool) -> Span:
    """The buffer of metadata that goes with blocks of data: the caller's, or for a read memory that nobody else looks at.

    A command must never go without: the controller would move metadata all the same, to or from address 0.
    """
    ms = geometry.namespace.ms
    if not geometry.separate_metadata:
        if metadata is not None:
            where = f"have theirs in the data buffer, {ms} bytes behind each block" if ms else "have none"
            raise UsageError(f"metadata=: this namespace's blocks {where}")
        return NOTHING
    needed = blocks * ms
    what = f"{ms} bytes of metadata for each block, in a buffer of their own"
    if metadata is None:
        if not reads:
            raise UsageError(f"the namespace keeps {what}: pass metadata=, {needed} bytes here")
        return span_of(np.empty(needed, np.uint8), writable=True)
    span = span_of(metadata, writable=reads)
    if span.len_bytes != needed:
        raise UsageError(f"metadata= holds {span.len_bytes} bytes; the namespace keeps {what}: {needed} here")
    return span


def _form(geometry: Geometry, protection: Protection) -> ProtectionFormat:
    if not isinstance(protection, Protection):
        raise UsageError(f"protection={protection!r}: it takes an aionvme.Protection")
    if geometry.protection is None:
        raise UsageError("protection=: the namespace is formatted without protection information (DPS)")
    return geometry.protection


def _check_known(form: ProtectionFormat) -> None:
    if not form.known:
        raise UsageError(
            "the namespace's protection information is not the one with a 16-bit guard and no storage tag: only submit() moves "
            "its blocks, and it is yours to say how"
        )


def _contiguous(memory: Memory, *, empty: bool) -> NDArray[np.uint8]:
    """The bytes of memory as one array: its own, or where it is in several pieces another one, with what they hold unless that is
    to be ``empty``."""
    if isinstance(memory, Span):
        return _bytes(memory)
    return np.empty(memory.len_bytes, np.uint8) if empty else np.concatenate([_bytes(part) for part in memory.parts])


def _scatter(flat: NDArray[np.uint8], vector: Vector) -> None:
    """Put bytes into the pieces they belong to."""
    start = 0
    for part in vector.parts:
        _bytes(part)[:] = flat[start : start + part.len_bytes]
        start += part.len_bytes


def _bytes(span: Span) -> NDArray[np.uint8]:
    return np.frombuffer(ffi.buffer(ffi.cast("char *", span.addr), span.len_bytes), np.uint8)
