"""A controller's identify structures, log pages and features, opened for itself or through a namespace."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest

import aionvme
from aionvme import Command, Completion, Controller, admin_commands
from aionvme.nvme.admin import get_log_page
from aionvme.nvme.features import Fid
from aionvme.nvme.identify import IdentifyController
from aionvme.nvme.logs import Lid
from aionvme.vectored import Data
from tests.conftest import IN_VM, Place, controller_node
from tests.vm.devices import CONTROLLERS

pytestmark = [pytest.mark.anyio, pytest.mark.feature("identify, log pages and features")]


def controller_of(place: Place) -> str:
    """The controller of the place's zoned namespace."""
    return place.zns if place.queue == "emulated" else controller_node("nvme0")


@pytest.fixture
async def controller(place: Place) -> AsyncIterator[Controller]:
    """The controller of the place's zoned namespace."""
    async with aionvme.open_controller(controller_of(place)) as controller:
        yield controller


def nsid_of(place: Place) -> int:
    """The zoned namespace."""
    return 1 if place.queue == "emulated" else 2


async def test_a_namespace_has_its_controller(place: Place) -> None:
    """What the controller says through a namespace is what the namespace was opened with."""
    async with place.open(place.zns) as ns:
        for seen in (ns, ns.limited(aionvme.Limiter(depth=1))):
            admin = seen.admin
            assert isinstance(admin, Controller)
            assert admin.identify is ns.controller
            assert await admin.identify_controller() == ns.controller
            assert await admin.identify_namespace(ns.nsid) == ns.identify
            assert await admin.identify_zoned_namespace(ns.nsid) == ns.identify_zoned
            assert (await admin.namespace_descriptors(ns.nsid)).csi == 2
            assert ns.nsid in await admin.namespaces()
            assert (await admin.identify_zoned_controller()).zasl_bytes() == ns.max_append_bytes
            assert admin.target == f"the controller of {ns.target}"


async def test_a_controller_of_its_own(controller: Controller, place: Place) -> None:
    """It needs no namespace, and tells which there are: 1-based identifiers, by command set."""
    assert controller.identify.mdts == 7  # 512 KiB
    assert controller.target == controller_of(place)
    assert controller.identify.sn in repr(controller)
    (made,) = (made.namespaces for made in CONTROLLERS if made.name == "nvme0")
    everywhere, zoned_ones = [ns.nsid for ns in made], [ns.nsid for ns in made if ns.zones]
    assert await controller.namespaces() == ([1] if place.queue == "emulated" else everywhere)
    assert await controller.namespaces(csi=2) == ([1] if place.queue == "emulated" else zoned_ones)
    zoned = await controller.identify_zoned_namespace(nsid_of(place))
    assert (zoned.mor, zoned.mar) == (6, 8)
    assert (await controller.identify_nvm_controller()).vsl == 7  # as MDTS
    assert (await controller.identify_nvm_namespace(1 if IN_VM else nsid_of(place))).lbstm == 0
    sets = await controller.command_sets()
    assert {0, 2} <= sets[0]


async def test_log_pages(controller: Controller, place: Place) -> None:
    """Health, errors, firmware, commands: what every controller has."""
    smart = await controller.smart_log()
    assert 273 < smart.composite_temperature < 373
    assert (await controller.smart_log(nsid_of(place))).composite_temperature == smart.composite_temperature
    slots = await controller.firmware_slots()
    assert slots.active == 1
    assert slots.revisions[0] is not None
    if place.queue == "emulated":  # which has one namespace for good
        with pytest.raises(aionvme.NvmeError, match=r"GET_LOG_PAGE \(LID 0x04\)"):
            await controller.changed_namespaces()
    else:
        assert await controller.changed_namespaces() == []
    effects = await controller.commands_supported()
    assert effects.acs[0x06].csupp  # Identify
    assert effects.iocs[0x02].csupp  # Read
    assert not effects.iocs[0x7D].csupp
    assert (await controller.commands_supported(2)).iocs[0x7D].csupp  # Zone Append
    assert (await controller.submit(Command(0x90))).status
    errors = [entry.status.name for entry in await controller.error_information()]
    # QEMU's controllers remember none.
    assert errors == (["Invalid Command Opcode", "Invalid Log Page"] if place.queue == "emulated" else [])


async def test_what_there_is_not(controller: Controller) -> None:
    """The controller's own answer is an exception that names the command; that for nobody's namespace is all zeroes."""
    with pytest.raises(aionvme.InvalidFieldError, match=r"IDENTIFY \(CNS 0x05\) on"):
        await controller._identified(lambda page: page, 0x05, 1, 0x77)  # type: ignore[arg-type]
    with pytest.raises(aionvme.NvmeError, match=r"GET_LOG_PAGE \(LID 0xc7\) on"):
        await controller.get_log_page(0xC7, 64)
    with pytest.raises(aionvme.InvalidFieldError, match=r"GET_FEATURES \(FID 0xf0\) on"):
        await controller.get_features(0xF0)
    with pytest.raises(
        (aionvme.NvmeError, aionvme.UsageError), match=r"\(CNS 0x00\)|CNS 0x00 of namespace 200: no block size"
    ):
        await controller.identify_namespace(200)


REFUSED: dict[str, tuple[Callable[[Controller], Awaitable[Any]], str]] = {
    "nsid 0": (lambda c: c.identify_namespace(0), "nsid = 0: namespaces have identifiers from 1"),
    "nsid broadcast": (lambda c: c.smart_log(0xFFFF_FFFF), "nsid = 4294967295"),
    "nsid negative": (lambda c: c.namespace_descriptors(-1), "nsid = -1"),
    "nsid of zones": (lambda c: c.changed_zones(0), "nsid = 0"),
    "endgid 0": (lambda c: c.fdp_statistics(0), "endgid = 0: endurance groups have"),
    "endgid large": (lambda c: c.fdp_configurations(1 << 16), "endgid = 65536"),
    "csi": (lambda c: c.commands_supported(256), "csi = 256 does not fit its 8 bits"),
    "lid": (lambda c: c.get_log_page(256, 64), "lid = 256 does not fit"),
    "lsi": (lambda c: c.get_log_page(2, 64, lsi=1 << 16), "lsi = 65536 does not fit"),
    "log of 0": (lambda c: c.get_log_page(2, 0), "len_bytes = 0"),
    "log of 6": (lambda c: c.get_log_page(2, 6), "len_bytes = 6"),
    "log from 2": (lambda c: c.get_log_page(2, 64, offset_bytes=2), "offset_bytes = 2"),
    "log past the end of the end": (lambda c: c.get_log_page(2, 64, offset_bytes=1 << 64), "offset_bytes = "),
    "fid": (lambda c: c.get_features(256), "fid = 256 does not fit"),
    "fid float": (lambda c: c.set_features(6.0, 0), "float"),  # type: ignore[arg-type]
    "sel": (lambda c: c.get_features(6, sel=8), "sel = 8 does not fit"),
    "value": (lambda c: c.set_features(6, 1 << 32), "cdw11 = 4294967296 does not fit"),
    "value negative": (lambda c: c.set_features(6, -1), "cdw11 = -1 does not fit"),
    "no buffer": (lambda c: c.get_features(Fid.TIMESTAMP), "moves 8 bytes, and its buffer holds 0"),
    "long buffer": (
        lambda c: c.get_features(Fid.TIMESTAMP, into=bytearray(9)),
        "moves 8 bytes, and its buffer holds 9",
    ),
    "read-only": (lambda c: c.get_features(Fid.TIMESTAMP, into=bytes(8)), "read-only"),
    "data for none": (lambda c: c.set_features(6, 1, data=bytes(4)), "moves 0 bytes, and its buffer holds 4"),
    "short data": (lambda c: c.set_features(Fid.HOST_IDENTIFIER, 1, data=bytes(8)), "moves 16 bytes"),
    "submit": (lambda c: c.submit(Command(0x06), into=bytearray(512)), "moves 4096 bytes"),
    "data the wrong way": (lambda c: c.submit(Command(0x02), data=bytes(4)), "GET_LOG_PAGE sends no data"),
}


@pytest.mark.once
async def test_bad_input_is_refused(place: Place) -> None:
    """Nothing is submitted, and the message says what was wrong."""
    async with place.open(place.zns) as ns:
        before = ns._admin.submitted
        for name, (call, message) in REFUSED.items():
            with pytest.raises(aionvme.UsageError) as refusal:
                await call(ns.admin)
            assert message in str(refusal.value), name
        assert ns._admin.submitted == before


async def test_identifiers_of_placement_are_refused(place: Place) -> None:
    """What is none never gets to a ring, whether the namespace has Flexible Data Placement or not."""
    async with place.open(place.nvm_512) as ns:
        before = ns._io.submitted
        for pids, message in (
            ([], "0 placement identifiers: one command takes 1 to 65536"),
            ([0] * 65537, "65537 placement identifiers"),
            ([1, -1], "pid = -1: a placement identifier has 16 bits"),
            ([1 << 16], "pid = 65536"),
        ):
            with pytest.raises(aionvme.UsageError, match=message):
                await ns.update_reclaim_unit_handles(pids)
        assert ns._io.submitted == before
        with pytest.raises(aionvme.NvmeError, match="IO_MANAGEMENT_RECEIVE"):
            await ns.reclaim_unit_handle_status()


class Witness:
    """A controller's ``submit`` that takes note of the commands."""

    def __init__(self, ns: aionvme.Namespace) -> None:
        self._ns = ns
        self.seen: list[Command] = []

    async def __call__(self, command: Command, data: Data | None = None, into: Data | None = None) -> Completion:
        """Take note, and submit it."""
        self.seen.append(command)
        return await self._ns.submit_admin(command, data, into)


async def test_a_long_log_page_is_read_in_pieces(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each piece from where the last one ended; only the last gives the asynchronous event back, unless none is to."""
    async with place.open(place.zns) as ns:
        whole = await ns.admin.get_log_page(Lid.COMMANDS_SUPPORTED_AND_EFFECTS, 4096)
        assert whole.any()
        monkeypatch.setattr(admin_commands, "PIECE_BYTES", 1536)
        witness = Witness(ns)
        admin = Controller("it", witness, ns.controller)
        page = await admin.get_log_page(Lid.COMMANDS_SUPPORTED_AND_EFFECTS, 4096 - 8, offset_bytes=8)
        assert (page == whole[8:]).all()
        expected = [(1536, 8, True), (1536, 1544, True), (1016, 3080, False)]
        make = get_log_page
        assert witness.seen == [make(5, n, rae=rae, offset_bytes=at) for n, at, rae in expected]
        await admin.get_log_page(Lid.COMMANDS_SUPPORTED_AND_EFFECTS, 1536, rae=True)
        assert witness.seen[3:] == [make(5, 1536, rae=True)]


async def test_a_controller_without_offsets(place: Place) -> None:
    """Where LPA bit 2 is 0 a log page is one command of 16 KiB at most, from its start."""
    async with place.open(place.zns) as ns:
        octets = bytearray(ns.controller.raw.tobytes())
        octets[261] = 0b011  # LPA
        admin = Controller("it", Witness(ns), IdentifyController.parse(octets))
        assert (await admin.smart_log()).composite_temperature
        for len_bytes, offset_bytes in ((16388, 0), (64, 4)):
            with pytest.raises(
                aionvme.UsageError, match=r"it takes no offsets \(LPA bit 2\), and gives at most the first 16384"
            ):
                await admin.get_log_page(Lid.SMART, len_bytes, offset_bytes=offset_bytes)


async def test_features(controller: Controller) -> None:
    """The write cache can be switched off and on; a feature says what may be done with it."""
    assert (await controller.get_features(Fid.VOLATILE_WRITE_CACHE, sel=3)) & 4  # changeable
    try:
        await controller.set_volatile_write_cache(False)
        assert await controller.volatile_write_cache() is False
        assert await controller.get_features(np.uint8(6)) == 0
    finally:
        await controller.set_volatile_write_cache(True)
    assert await controller.volatile_write_cache() is True
    assert await controller.get_features(Fid.NUMBER_OF_QUEUES) == 63 << 16 | 63
    assert await controller.number_of_queues() == (64, 64)


async def test_any_command(controller: Controller) -> None:
    """An error status does not raise, and comes as it is."""
    page = bytearray(4096)
    done = await controller.submit(Command(0x06, cdw10=1), into=page)
    assert done == (0, 0)
    assert page[77] == 7  # MDTS
    assert (await controller.submit(Command(0x90))).status.name == "Invalid Command Opcode"


async def test_a_namespace_stands_for_its_controller(place: Place) -> None:
    """Either name opens the same."""
    async with aionvme.open_controller(place.zns) as controller:
        assert controller.target == controller_of(place)


async def test_it_is_closed_when_it_is_left(place: Place) -> None:
    """As a namespace is: entered once, and not usable afterwards."""
    opening = aionvme.open_controller(controller_of(place))
    with pytest.raises(AttributeError, match=r"aionvme.open_controller\(...\) as controller"):
        opening.smart_log  # type: ignore[attr-defined]  # noqa: B018
    async with opening as controller:
        await controller.smart_log()
    with pytest.raises(aionvme.ClosedError):
        await controller.smart_log()
    with pytest.raises(aionvme.UsageError, match="entered once"):
        async with opening:
            pass


@pytest.mark.once
@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        ("", aionvme.UsageError, "empty string"),
        ("/dev/null", aionvme.UsageError, "not the character device of an NVMe controller, such as /dev/nvme0, nor"),
        ("/dev/nvme77", FileNotFoundError, "aionvme list"),
        ("emu-zns", aionvme.UsageError, "written emu:nvm"),
        ("emu:zns?zones=0", aionvme.UsageError, "zones"),
    ],
)
async def test_what_is_no_controller(target: str, error: type[Exception], message: str) -> None:
    """A target that is none is refused with the reason."""
    with pytest.raises(error, match=message):
        async with aionvme.open_controller(target):
            pass
