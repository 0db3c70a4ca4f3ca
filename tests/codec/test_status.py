"""Statuses as Linux hands them over, and the names of their codes."""

import ast
import inspect
import pickle

import pytest

from aionvme.nvme import status as status_module
from aionvme.nvme.status import STATUS_NAMES, SUCCESS, Completion, Status, StatusCodeType

# res, SCT, SC, More, DNR, name: as QEMU's controller gave them, the host itself in a reset, and the kernel's nvmet.
SEEN = [
    (0x4285, 2, 0x85, False, True, "Compare Failure"),
    (0x4080, 0, 0x80, False, True, "LBA Out of Range"),
    (0x4001, 0, 0x01, False, True, "Invalid Command Opcode"),
    (0x41BC, 1, 0xBC, False, True, "Zone Invalid Write"),
    (0x4002, 0, 0x02, False, True, "Invalid Field in Command"),
    (0x41B9, 1, 0xB9, False, True, "Zone Is Full"),
    (0x41BE, 1, 0xBE, False, True, "Too Many Open Zones"),
    (0x400F, 0, 0x0F, False, True, "Data SGL Length Invalid"),
    (0x0371, 3, 0x71, False, False, "Command Aborted By Host"),
    (0x6006, 0, 0x06, True, True, "Internal Error"),
    (0x6001, 0, 0x01, True, True, "Invalid Command Opcode"),
    (0x600F, 0, 0x0F, True, True, "Data SGL Length Invalid"),
]

# Names out of the figures, at least one of every table.
NAMED = {
    (0, 0x00): "Successful Completion",
    (0, 0x0B): "Invalid Namespace or Format",
    (0, 0x1D): "Sanitize In Progress",
    (0, 0x20): "Namespace is Write Protected",
    (0, 0x83): "Reservation Conflict",
    (1, 0x02): "Invalid Queue Size",
    (1, 0x09): "Invalid Log Page",
    (1, 0x29): "I/O Command Set Not Supported",
    (1, 0x82): "Attempted Write to Read Only Range",
    (1, 0x83): "Command Size Limit Exceeded",
    (1, 0xB8): "Zone Boundary Error",
    (1, 0xB9): "Zone Is Full",
    (1, 0xBA): "Zone Is Read Only",
    (1, 0xBB): "Zone Is Offline",
    (1, 0xBC): "Zone Invalid Write",
    (1, 0xBD): "Too Many Active Zones",
    (1, 0xBE): "Too Many Open Zones",
    (1, 0xBF): "Invalid Zone State Transition",
    (2, 0x80): "Write Fault",
    (2, 0x81): "Unrecovered Read Error",
    (2, 0x87): "Deallocated or Unwritten Logical Block",
    (3, 0x02): "Asymmetric Access Inaccessible",
    (3, 0x60): "Controller Pathing Error",
}


@pytest.mark.parametrize(("res", "sct", "sc", "more", "dnr", "name"), SEEN)
def test_statuses_seen_on_controllers(res: int, sct: int, sc: int, more: bool, dnr: bool, name: str) -> None:
    """A status comes apart into the fields it was put together from, and has the specification's name."""
    status = Status(res)
    assert (status.sct, status.sc, status.crd, status.more, status.dnr) == (sct, sc, 0, more, dnr)
    assert status.name == name
    assert Status.of(sct, sc, more=more, dnr=dnr) == res


def test_command_retry_delay() -> None:
    """CRD is bits 12:11, between the code type and More."""
    assert [Status(n << 11).crd for n in range(4)] == [0, 1, 2, 3]
    assert Status(0x1821).crd == 3
    assert Status(0x1821).name == "Command Interrupted"
    assert Status.of(0, 0x21, crd=3) == 0x1821


def test_all_15_bits_round_trip() -> None:
    """Every value of the field is its own parts put together again."""
    for value in range(1 << 15):
        status = Status(value)
        assert Status.of(status.sct, status.sc, crd=status.crd, more=status.more, dnr=status.dnr) == value


def test_success_is_false() -> None:
    """Only the status of success is zero, so a status tests as an error."""
    assert not SUCCESS
    assert Status(0x4285)
    assert not Completion(SUCCESS, 0x4000).status


def test_names_of_the_figures() -> None:
    """Codes have the names of the specifications' tables."""
    assert {code: STATUS_NAMES[code] for code in NAMED} == NAMED


def test_status_code_types() -> None:
    """The types between path related and vendor specific are reserved."""
    assert [int(sct) for sct in StatusCodeType] == [0, 1, 2, 3, 7]


def test_unknown_code_is_given_in_numbers() -> None:
    """A code no specification here names is shown as its numbers."""
    assert Status(0x47C5).name == "status code type 0x7, status code 0xc5"


def test_repr_has_number_name_and_flags() -> None:
    """A status shows what it is without a table at hand."""
    assert repr(Status(0x6006)) == "<Status 0x6006: Internal Error, more, dnr>"
    assert repr(Status(0)) == "<Status 0x0000: Successful Completion>"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_status_is_a_status(protocol: int) -> None:
    """A status survives the way to another process."""
    restored = pickle.loads(pickle.dumps(Status(0x4285), protocol))
    assert isinstance(restored, Status)
    assert restored == 0x4285


def test_codes_are_written_once() -> None:
    """No code appears twice in the source of the table, where the second would replace the first unseen."""
    assignments = [node for node in ast.parse(inspect.getsource(status_module)).body if isinstance(node, ast.AnnAssign)]
    (table,) = [node.value for node in assignments if ast.unparse(node.target) == "STATUS_NAMES"]
    assert isinstance(table, ast.Dict)
    assert len(table.keys) == len(STATUS_NAMES) > 100


def test_names_are_unique_and_well_formed() -> None:
    """A name stands for one code, starts with a capital and has no stray blanks; codes fit their fields."""
    names = list(STATUS_NAMES.values())
    assert len(set(names)) == len(names)
    for (sct, sc), name in STATUS_NAMES.items():
        assert sct in list(StatusCodeType)
        assert 0 <= sc <= 0xFF
        assert name.isascii()
        assert name[0].isupper()
        assert name == " ".join(name.split())
        assert not name.endswith(".")
