"""A command, and the 72 bytes in which Linux takes it.

``struct nvme_uring_cmd`` (linux/nvme_ioctl.h, 5.19 and newer) carries every command, whatever its opcode: the kernel
copies the dwords into the submission queue entry and builds the data pointer from ``addr`` and ``data_len`` itself.
"""

import struct
from operator import index
from typing import NamedTuple

import numpy as np

NVME_URING_CMD = struct.Struct("<BBHIIIQQIIIIIIIIII")
assert NVME_URING_CMD.size == 72


NVME_URING_CMD_DTYPE = np.dtype(
    [
        ("opcode", "u1"), ("flags", "u1"), ("rsvd1", "<u2"), ("nsid", "<u4"), ("cdw2", "<u4"), ("cdw3", "<u4"),
        ("metadata", "<u8"), ("addr", "<u8"), ("metadata_len", "<u4"), ("data_len", "<u4"),
        *((f"cdw{i}", "<u4") for i in range(10, 16)), ("timeout_ms", "<u4"), ("rsvd2", "<u4"),
    ]
)  # fmt: skip
"""The same structure for arrays."""
assert NVME_URING_CMD_DTYPE.itemsize == 72

METADATA_OFFSET, ADDR_OFFSET, METADATA_LEN_OFFSET, DATA_LEN_OFFSET = 16, 24, 32, 36
CDW10_OFFSET, CDW12_OFFSET, CDW14_OFFSET = 40, 48, 56
TIMEOUT_MS_OFFSET, RSVD2_OFFSET = 64, 68
"""Where fields are in it."""


class Command(NamedTuple):
    """An NVMe command without its data: opcode, namespace, the command dwords, and how long it may take.

    ``nsid`` None stands for the namespace the command is submitted to. ``timeout_ms`` 0 asks for the kernel's own limit
    (30 s unless configured). Dwords 0 and 1 and the data pointer (6 to 9) are not the caller's to set. Numbers of
    logical blocks inside the dwords are 0's based, as on the wire; the builders beside this module take them 1-based.
    """

    opcode: int
    nsid: int | None = None
    cdw2: int = 0
    cdw3: int = 0
    cdw10: int = 0
    cdw11: int = 0
    cdw12: int = 0
    cdw13: int = 0
    cdw14: int = 0
    cdw15: int = 0
    timeout_ms: int = 0

    @property
    def slba(self) -> int:
        """Dwords 10 and 11 as one 64-bit number: where an I/O command that addresses logical blocks starts."""
        return self.cdw10 | self.cdw11 << 32


class DataPointers(NamedTuple):
    """Where a command's data and metadata are in the memory of the process, and how many bytes of each there are.

    With ``iovecs`` the data is in so many pieces, and ``addr`` is that of an array of :data:`IOVEC`. Linux wants their number as
    data_len, and another operation of the ring; everybody else wants to know the length. So an entry has the number in rsvd2,
    until :func:`vectored` makes of it what Linux takes.
    """

    addr: int = 0
    data_len: int = 0
    metadata: int = 0
    metadata_len: int = 0
    iovecs: int = 0


NO_DATA = DataPointers()

IOVEC = struct.Struct("<QQ")
"""``struct iovec``: address and length of one piece of a command's data."""


def encode(command: Command, nsid: int, pointers: DataPointers = NO_DATA) -> bytes:
    """The ``nvme_uring_cmd`` of a command; ``nsid`` is used where the command names no namespace itself.

    Raises ValueError naming the field that does not fit its width.
    """
    opcode, own_nsid, cdw2, cdw3, *dwords, timeout_ms = command
    addr, data_len, metadata, metadata_len, iovecs = pointers
    try:
        return NVME_URING_CMD.pack(
            opcode, 0, 0, nsid if own_nsid is None else own_nsid, cdw2, cdw3,
            metadata, addr, metadata_len, data_len, *dwords, timeout_ms, iovecs,
        )  # fmt: skip
    except (struct.error, TypeError):
        raise ValueError(_unfit_field(command, nsid, pointers)) from None


def decode(entry: bytes) -> tuple[Command, DataPointers]:
    """Take an ``nvme_uring_cmd`` apart; the namespace is always explicit in the answer."""
    (
        opcode, _flags, _rsvd1, nsid, cdw2, cdw3,
        metadata, addr, metadata_len, data_len, *dwords, timeout_ms, iovecs,
    ) = NVME_URING_CMD.unpack(entry)  # fmt: skip
    command = Command._make((opcode, nsid, cdw2, cdw3, *dwords, timeout_ms))
    return command, DataPointers(addr, data_len, metadata, metadata_len, iovecs)


def normalized(command: Command) -> Command:
    """The same command in plain integers; ValueError naming the field that is none or does not fit its width.

    What a command transfers is computed from its fields, and numpy's integers wrap in arithmetic: a dword of type uint8 would
    make a long transfer look short.
    """
    if not isinstance(command, Command):
        raise ValueError(f"{command!r} is not a Command")
    plain: dict[str, int | None] = {}
    for name, value in command._asdict().items():
        if name == "nsid" and value is None:
            plain[name] = None
            continue
        try:
            plain[name] = fit(name, value, 8 if name == "opcode" else 32)
        except TypeError:
            raise ValueError(f"{name} = {value!r} is not an integer") from None
    return Command(**plain)  # type: ignore[arg-type]  # only nsid may be None, and opcode is there


def data_len_of(entry: bytes) -> int:
    """How many bytes of data the command of an ``nvme_uring_cmd`` moves."""
    return int.from_bytes(entry[DATA_LEN_OFFSET : DATA_LEN_OFFSET + 4], "little")


def is_vectored(entry: bytes) -> bool:
    """Whether the data of an ``nvme_uring_cmd`` is in several pieces of memory."""
    return entry[RSVD2_OFFSET:] != b"\0\0\0\0"


def vectored(entry: bytes) -> bytes:
    """Such an ``nvme_uring_cmd`` as Linux takes it with NVME_URING_CMD_IO_VEC: data_len is the number of pieces."""
    return b"".join(
        (entry[:DATA_LEN_OFFSET], entry[RSVD2_OFFSET:], entry[DATA_LEN_OFFSET + 4 : RSVD2_OFFSET], b"\0\0\0\0")
    )


def timeout_ms_of(entry: bytes) -> int:
    """The time limit in an ``nvme_uring_cmd``, 0 for the kernel's own."""
    return int.from_bytes(entry[TIMEOUT_MS_OFFSET : TIMEOUT_MS_OFFSET + 4], "little")


def fit(name: str, value: int, bits: int) -> int:
    """``value`` as the integer of a field of ``bits`` bits; ValueError naming the field where it does not fit.

    A builder that shifts fields together must check them here: once combined, one has already overwritten another.
    """
    value = index(value)
    if not 0 <= value < 1 << bits:
        raise ValueError(f"{name} = {value} does not fit its {bits} bits")
    return value


def _unfit_field(command: Command, nsid: int, pointers: DataPointers) -> str:
    fields = command._asdict() | pointers._asdict()
    if command.nsid is None:
        fields["nsid"] = nsid
    limits = dict.fromkeys(fields, 2**32 - 1) | {"opcode": 2**8 - 1, "addr": 2**64 - 1, "metadata": 2**64 - 1}
    unfit = (n for n, value in fields.items() if not hasattr(value, "__index__") or not 0 <= index(value) <= limits[n])
    name = next(unfit)
    return f"{name} = {fields[name]!r} is not an integer between 0 and {limits[name]:#x}"
