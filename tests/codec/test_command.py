"""The 72 bytes of ``struct nvme_uring_cmd``, checked against the kernel's header and against bytes written by hand."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aionvme.nvme.command import (
    NO_DATA,
    Command,
    DataPointers,
    data_len_of,
    decode,
    encode,
    fit,
    is_vectored,
    vectored,
)

COMMAND_FIELDS = ("opcode", "nsid", "cdw2", "cdw3", *(f"cdw{n}" for n in range(10, 16)), "timeout_ms")
POINTER_FIELDS = ("addr", "data_len", "metadata", "metadata_len")
RESERVED_FIELDS = ("flags", "rsvd1", "rsvd2")
WIDTH = {"opcode": 8, "addr": 64, "metadata": 64}

dword = st.integers(0, 2**32 - 1)
qword = st.integers(0, 2**64 - 1)
commands = st.builds(Command, st.integers(0, 255), st.none() | dword, **dict.fromkeys(COMMAND_FIELDS[2:], dword))
pointers = st.builds(DataPointers, addr=qword, data_len=dword, metadata=qword, metadata_len=dword, iovecs=dword)


@pytest.fixture(scope="module")
def kernel_layout(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, int]]:
    """Offset and size of every field in the kernel's own header, by the compiler."""
    folder: Path = tmp_path_factory.mktemp("layout")
    lines = (
        f'printf("{name} %zu %zu\\n", offsetof(struct nvme_uring_cmd, {name}), sizeof(probe.{name}));'
        for name in (*COMMAND_FIELDS, *POINTER_FIELDS, *RESERVED_FIELDS)
    )
    source = folder / "layout.c"
    source.write_text(
        "#include <linux/nvme_ioctl.h>\n#include <stddef.h>\n#include <stdio.h>\n"
        "int main(void)\n{\n    struct nvme_uring_cmd probe;\n"
        + "\n".join(lines)
        + '\n    printf("total 0 %zu\\n", sizeof probe);\n}\n'
    )
    subprocess.run(["gcc", "-o", folder / "layout", source], check=True)
    printed = subprocess.run([folder / "layout"], check=True, capture_output=True, text=True).stdout
    return {name: (int(offset), int(size)) for name, offset, size in map(str.split, printed.splitlines())}


def test_every_field_is_where_the_kernel_reads_it(kernel_layout: dict[str, tuple[int, int]]) -> None:
    """A field filled with ones sets the bytes the header gives it, and no others."""
    for name in (*COMMAND_FIELDS, *POINTER_FIELDS):
        ones: dict[str, Any] = {name: 2 ** WIDTH.get(name, 32) - 1}
        in_command = {"opcode": 0, "nsid": 0} | ones if name in COMMAND_FIELDS else {"opcode": 0, "nsid": 0}
        entry = encode(Command(**in_command), 0, DataPointers(**ones) if name in POINTER_FIELDS else NO_DATA)
        offset, size = kernel_layout[name]
        assert entry == bytes(offset) + b"\xff" * size + bytes(72 - offset - size), name
    assert kernel_layout["total"] == (0, 72)


def test_hand_written_entry() -> None:
    """Distinct values in all fields come out little-endian, in the order of the header, reserved fields zero."""
    command = Command(
        0x5A, 0x01020304, 0x11121314, 0x21222324,
        0xA0A1A2A3, 0xB0B1B2B3, 0xC0C1C2C3, 0xD0D1D2D3, 0xE0E1E2E3, 0xF0F1F2F3, 0x00007530,
    )  # fmt: skip
    data = DataPointers(addr=0x7FFF_1234_5678_9000, data_len=0x1000, metadata=0x7FFF_0000_0000_0008, metadata_len=0x40)
    expected = bytes.fromhex(
        "5a 00 0000 04030201"  # opcode, flags, rsvd1, nsid
        "14131211 24232221"  # cdw2, cdw3
        "080000000000ff7f"  # metadata
        "009078563412ff7f"  # addr
        "40000000 00100000"  # metadata_len, data_len
        "a3a2a1a0 b3b2b1b0 c3c2c1c0 d3d2d1d0 e3e2e1e0 f3f2f1f0"  # cdw10 to cdw15
        "30750000 00000000"  # timeout_ms, rsvd2
    )
    assert encode(command, nsid=9, pointers=data) == expected
    assert decode(expected) == (command, data)


def test_nsid_of_the_queue_fills_in() -> None:
    """A command that names no namespace gets the one it is submitted to; nsid 0 is a name."""
    assert encode(Command(0), nsid=0x0A0B0C0D)[4:8] == bytes.fromhex("0d0c0b0a")
    assert encode(Command(0, nsid=0), nsid=7)[4:8] == bytes(4)


def test_slba_is_dwords_10_and_11() -> None:
    """The low dword of an address comes first."""
    assert Command(2, cdw10=0x89ABCDEF, cdw11=0x01234567).slba == 0x0123456789ABCDEF


@settings(deadline=None)
@given(commands, dword, pointers)
def test_round_trip(command: Command, nsid: int, data: DataPointers) -> None:
    """What is encoded is decoded again, the namespace made explicit, and reserved fields zero but for the number of pieces."""
    entry = encode(command, nsid, data)
    explicit = command if command.nsid is not None else command._replace(nsid=nsid)
    assert decode(entry) == (explicit, data)
    assert len(entry) == 72
    assert entry[1:4] == bytes(3)
    assert entry[68:] == data.iovecs.to_bytes(4, "little")
    assert is_vectored(entry) == (data.iovecs > 0)


def test_what_linux_takes_for_data_in_pieces() -> None:
    """The number of pieces is in data_len then, and no reserved field has anything in it."""
    command = Command(0x5A, 1, cdw15=0xF0F1F2F3, timeout_ms=30000)
    data = DataPointers(addr=0x7FFF_1234_5678_9000, data_len=0x1000, metadata=8, metadata_len=0x40)
    entry = encode(command, nsid=1, pointers=data._replace(iovecs=5))
    assert vectored(entry) == encode(command, nsid=1, pointers=data._replace(data_len=5))
    assert data_len_of(entry) == 0x1000


@pytest.mark.parametrize("name", COMMAND_FIELDS + POINTER_FIELDS)
@pytest.mark.parametrize("excess", ["negative", "too large", "not an integer"])
def test_unfit_field_is_named(name: str, excess: str) -> None:
    """A value that does not fit, even by one, is refused with the name of its field."""
    value: Any = {"negative": -1, "too large": 2 ** WIDTH.get(name, 32), "not an integer": 1.0}[excess]
    in_command = {"opcode": 0} | ({name: value} if name in COMMAND_FIELDS else {})
    data = DataPointers(**{name: value}) if name in POINTER_FIELDS else NO_DATA
    limit = 2 ** WIDTH.get(name, 32) - 1
    with pytest.raises(ValueError, match=rf"^{name} = {value!r} is not an integer between 0 and {limit:#x}$"):
        encode(Command(**in_command), 1, data)


def test_unfit_nsid_of_the_queue_is_named() -> None:
    """The namespace of the queue is checked as the command's own is."""
    with pytest.raises(ValueError, match=r"^nsid = -1 "):
        encode(Command(0), -1)


def test_numpy_integers_are_integers() -> None:
    """Numpy integers are taken as numbers, and not blamed for another field."""
    assert encode(Command(0, cdw10=np.uint32(5)), 1)[40:44] == bytes.fromhex("05000000")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^cdw11 = "):
        encode(Command(0, cdw10=np.uint32(5), cdw11=2**32), 1)  # type: ignore[arg-type]


def test_fit_takes_exactly_the_width() -> None:
    """A field of n bits takes 0 to 2**n - 1, names itself when it refuses, and takes no fractions."""
    assert fit("sel", 7, 3) == 7
    assert fit("sel", 0, 3) == 0
    with pytest.raises(ValueError, match=r"^sel = 8 does not fit its 3 bits$"):
        fit("sel", 8, 3)
    with pytest.raises(ValueError, match=r"^sel = -1 "):
        fit("sel", -1, 3)
    with pytest.raises(TypeError):
        fit("sel", 1.5, 3)  # type: ignore[arg-type]
