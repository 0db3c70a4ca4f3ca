"""What goes into commands on namespaces with metadata, of formats that the test bed's controllers do not have, too."""

import struct
from typing import Any

import numpy as np
import pytest

from aionvme.buffers import BufferPool, span_of
from aionvme.errors import UsageError
from aionvme.geometry import Geometry
from aionvme.guard import Guard
from aionvme.nvme import nvm, zoned
from aionvme.nvme.identify import IDENTIFY_CONTROLLER, IDENTIFY_NAMESPACE, IdentifyController, IdentifyNamespace
from aionvme.nvme.protection import ProtectionFormat
from aionvme.prepare import prepare_io
from aionvme.protecting import Protection, by_the_controller, copying, plan

POOL = BufferPool(lambda *_: None, lambda _: None, 1 << 20)

PRACT, GUARD, APP, REF = 1 << 29, 1 << 28, 1 << 27, 1 << 26  # dword 12 (figure 11)
PIREMAP = 1 << 25  # of Zone Append


def geometry(type_: int, ms: int = 8, *, extended: bool = False, no_metadata: str = "", **form: int) -> Geometry:
    """A namespace of 512-byte blocks."""
    page = np.zeros((), IDENTIFY_NAMESPACE)
    page["nsze"] = page["ncap"] = 1 << 40
    page["flbas"], page["dps"] = extended << 4, type_
    page["lbaf"][0] = (ms, 9, 0)
    namespace = IdentifyNamespace.parse(page.tobytes())
    assert namespace.dps == type_
    protection = ProtectionFormat.of(type_, ms, **form)
    controller = IdentifyController.parse(np.zeros((), IDENTIFY_CONTROLLER).tobytes())
    return Geometry(1, controller, namespace, None, 1 << 17, 1 << 17, Guard("it"), None, protection, no_metadata)


@pytest.mark.parametrize(
    ("command", "types", "bits"),
    [
        (nvm.read(0x1_2345_6789, 1), (1, 2), PRACT | GUARD | REF),
        (nvm.read(0x1_2345_6789, 1), (3,), PRACT | GUARD),
        (nvm.write(0x1_2345_6789, 1), (1, 2, 3), PRACT),
        (nvm.write_zeroes(0x1_2345_6789, 1, deac=True), (1, 2, 3), PRACT | 1 << 25),
        (nvm.verify(0x1_2345_6789, 1), (1, 2), GUARD | REF),
        (nvm.verify(0x1_2345_6789, 1), (3,), GUARD),
        (zoned.zone_append(0x1_2345_6789, 1), (1, 2), PRACT | PIREMAP),
        (zoned.zone_append(0x1_2345_6789, 1), (3,), PRACT),
        (nvm.compare(0x1_2345_6789, 1), (1, 2, 3), 0),
        (nvm.write_uncorrectable(0x1_2345_6789, 1), (1, 2, 3), 0),
        (nvm.flush(), (1, 2, 3), 0),
    ],
    ids=lambda value: value.opcode.name if hasattr(value, "opcode") else None,
)
def test_the_controller_is_told_what_to_do(command: Any, types: tuple[int, ...], bits: int) -> None:
    """PRINFO in bits 29:26 of dword 12; the first reference tag, the low half of the address, in dword 14."""
    for type_ in types:
        told = by_the_controller(command, geometry(type_))
        assert told.cdw12 == bits
        assert told.cdw14 == (0x2345_6789 if bits and type_ < 3 else 0)
        assert told.cdw15 == 0
    assert by_the_controller(command, geometry(0)) == command


def test_copies_are_checked_and_made_anew() -> None:
    """PRINFOR in bits 15:12 of dword 12; each range names the reference tag that its first block has (figure 34)."""
    told = copying(nvm.copy(0x1_0000_0007, 2), geometry(1))
    assert (told.cdw12, told.cdw14) == (1 | PRACT | (PRACT | GUARD | REF) >> 14, 7)
    ranges = nvm.copy_ranges([(0x2_0000_0003, 4)], ref_tags=True)
    assert struct.unpack("<8xQH6xIHH", ranges) == (0x2_0000_0003, 3, 3, 0, 0)


def test_a_transfer_is_cut_with_its_metadata_and_tags() -> None:
    """The reference tags of a part go on where those of the one before ended; tags to be checked are in dword 15."""
    data = span_of(np.zeros(10 * 512, np.uint8), writable=True)
    protection = Protection(app_tag=0x1234, app_tag_mask=0xFF00, ref_tag=0xFFFF_FFFE)
    transfer = plan(nvm.write(100, 1), data, geometry(2), None, protection)
    parts = list(transfer.parts(4))
    assert [part.command.slba for part in parts] == [100, 104, 108]
    assert [part.command.cdw14 for part in parts] == [0xFFFF_FFFE, 2, 6]
    assert {part.command.cdw15 for part in parts} == {0xFF00_1234}
    assert [part.command.cdw12 for part in parts] == [n | GUARD | APP | REF for n in (3, 3, 1)]
    assert [part.metadata.addr - transfer.metadata.addr for part in parts] == [0, 32, 64]
    assert [part.metadata.len_bytes for part in parts] == [32, 32, 16]
    for part in parts:
        prepare_io(part.command, part.span, geometry(2), POOL, part.metadata)


def test_the_host_alone_checks_on_request() -> None:
    """Without prchk the controller is asked for nothing."""
    data = span_of(np.zeros(512, np.uint8), writable=True)
    transfer = plan(nvm.read(5, 1), data, geometry(1), None, Protection(prchk=False))
    assert transfer.command.cdw12 == 0


def test_protection_information_that_is_not_known_is_left_alone() -> None:
    """A guard of 64 bits, or a storage tag: lengths are known, so that submit() works; nothing else is."""
    data = span_of(np.zeros(512, np.uint8), writable=True)
    for shape in (geometry(1, 16, pif=2), geometry(1, 8, sts=16)):
        for protection in (None, Protection()):
            with pytest.raises(UsageError, match=r"only submit\(\) moves its blocks"):
                plan(nvm.read(0, 1), data, shape, None, protection)
        command = nvm.read(0, 1)
        command = command._replace(cdw12=command.cdw12 | PRACT)
        prepare_io(command, data, shape, POOL)
        with pytest.raises(UsageError, match="metadata= was not passed"):
            prepare_io(nvm.read(0, 1), data, shape, POOL)


def test_metadata_is_refused_where_the_kernel_passes_none() -> None:
    """What the controller makes and strips goes all the same."""
    shape = geometry(1, no_metadata="Linux shows no integrity")
    data = span_of(np.zeros(512, np.uint8), writable=True)
    (part,) = plan(nvm.read(0, 1), data, shape).parts(1)
    prepare_io(part.command, part.span, shape, POOL, part.metadata)
    (part,) = plan(nvm.read(0, 1), data, shape, None, Protection()).parts(1)
    with pytest.raises(UsageError, match="cannot be passed: Linux shows no integrity"):
        prepare_io(part.command, part.span, shape, POOL, part.metadata)


@pytest.mark.parametrize(
    ("type_", "ms", "extended", "pract", "data_len", "metadata_len"),
    [
        (0, 8, False, False, 512, 8),
        (0, 8, True, False, 520, 0),
        (1, 8, False, False, 512, 8),
        (1, 8, False, True, 512, 0),
        (1, 8, True, False, 520, 0),
        (1, 8, True, True, 512, 0),
        (1, 16, False, True, 512, 16),
        (1, 16, True, True, 528, 0),
    ],
)
def test_lengths_go_by_the_format_and_pract(
    type_: int, ms: int, extended: bool, pract: bool, data_len: int, metadata_len: int
) -> None:
    """Metadata that is nothing but protection information is not transferred with PRACT (section 5.2.2)."""
    shape = geometry(type_, ms, extended=extended)
    command = nvm.read(0, 3)
    command = command._replace(cdw12=command.cdw12 | PRACT * pract)
    assert (shape.data_len(command), shape.metadata_len(command)) == (3 * data_len, 3 * metadata_len)
    assert (shape.data_len(nvm.flush()), shape.metadata_len(nvm.flush())) == (0, 0)
