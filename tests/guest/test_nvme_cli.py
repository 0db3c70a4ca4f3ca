"""nvme-cli as a witness: what it says of the guest's devices is what the library says, field by field.

Every field of its JSON is compared, by the name that it has in the specification's figure; NAMES lists those that it calls
otherwise. A version that has more to say than the one below may do so.
"""

import json
import re
import struct
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import aionvme
from aionvme import Controller, ReportingOptions, ZoneState
from aionvme.nvme import logs
from aionvme.nvme.features import Fid
from tests.conftest import controller_node, node
from tests.vm import devices

pytestmark = [pytest.mark.anyio, pytest.mark.feature("the same answers as nvme-cli")]

VERSION = "2.3"
"""The version whose fields are all known here."""


@pytest.fixture
def anyio_backend() -> str:
    """What is compared are answers, the same on every event loop."""
    return "asyncio"


@pytest.fixture
async def controller() -> AsyncIterator[Controller]:
    """The one with namespaces of every kind."""
    async with aionvme.open_controller(controller_node("nvme0")) as controller:
        yield controller


def bed() -> Iterator[devices.Controller]:
    """The controllers that this machine has, as the test bed made them."""
    yield from devices.CONTROLLERS
    with suppress(LookupError):
        controller_node(devices.FDP.name)
        yield devices.FDP


class Each(NamedTuple):
    """A controller, and what the test bed made; of one with several paths each of them."""

    controller: Controller
    made: devices.Controller


@pytest.fixture(
    params=[
        pytest.param((made, path), id=f"{made.name} path {path}" if made.paths else made.name)
        for made in bed()
        for path in range(1 + len(made.paths))
    ]
)
async def each(request: pytest.FixtureRequest) -> AsyncIterator[Each]:
    """Every controller that there is."""
    made, path = request.param
    nodes = [
        f"/dev/{entry.name}"
        for entry in sorted(Path("/sys/class/nvme").glob("nvme*"))
        if (entry / "serial").read_text().strip() == made.name
    ]
    assert len(nodes) == 1 + len(made.paths)
    async with aionvme.open_controller(nodes[path]) as controller:
        yield Each(controller, made)


def nvme(*arguments: str) -> bytes:
    """The output of an nvme-cli command."""
    return subprocess.run(["/usr/sbin/nvme", *arguments], check=True, stdout=subprocess.PIPE, timeout=60).stdout


def asked(*arguments: str) -> Any:
    """The JSON document of an nvme-cli command."""
    return json.loads(nvme(*arguments, "-o", "json"))


@cache
def knows_all() -> bool:
    """Whether nvme-cli is the version whose fields are all known here."""
    return nvme("version").split()[2].decode() == VERSION


NAMES = {
    # SMART / Health Information
    "temperature": "composite_temperature",
    "avail_spare": "available_spare",
    "spare_thresh": "available_spare_threshold",
    "percent_used": "percentage_used",
    "endurance_grp_critical_warning_summary": "endurance_group_critical_warning_summary",
    "media_errors": "media_and_data_integrity_errors",
    "num_err_log_entries": "number_of_error_information_log_entries",
    "warning_temp_time": "warning_composite_temperature_time",
    "critical_comp_time": "critical_composite_temperature_time",
    "thm_temp1_trans_count": "thermal_management_temperature_1_transition_count",
    "thm_temp2_trans_count": "thermal_management_temperature_2_transition_count",
    "thm_temp1_total_time": "total_time_for_thermal_management_temperature_1",
    "thm_temp2_total_time": "total_time_for_thermal_management_temperature_2",
    # Error Information
    "cmdid": "cid",
    "parm_error_location": "parameter_error_location",
    "vs": "vendor_specific_information_available",
    "cs": "command_specific_information",
    "trtype_spec_info": "transport_type_specific_information",
}


def plain(raw: np.void, name: str) -> Any:
    """A field of a structure in the form in which nvme-cli has it: identifiers in hexadecimal."""
    value = raw[name]
    if name in ("eui64", "nguid"):
        return value.tobytes().hex()
    if name == "fguid":
        digits = value.tobytes().hex()
        return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
    if name == "ieee":
        return int.from_bytes(value.tobytes(), "little")
    if isinstance(value, np.ndarray) and value.shape == (16,):
        return int.from_bytes(value.tobytes(), "little")
    return value.decode() if isinstance(value, bytes) else int(value)


def number(value: Any) -> Any:
    """The same, and a large number as such, which may be text in JSON."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


def compare(theirs: dict[str, Any], raw: np.void, **others: Any) -> None:
    """Each field of ``theirs`` is that of our structure; ``others`` are those that are not a field of it."""
    names = raw.dtype.names or ()
    unknown = [name for name in theirs if name not in others and NAMES.get(name, name) not in names]
    assert not unknown or not knows_all()
    ours = {name: plain(raw, NAMES.get(name, name)) for name in theirs.keys() - others.keys() - set(unknown)} | others
    said = {name: number(theirs[name]) for name in theirs if name not in unknown}
    assert {name: number(value) for name, value in ours.items()} == said


def power_state(data: bytes) -> dict[str, int]:
    """A power state descriptor (Base 2.0, figure 276) as nvme-cli has it, which calls the workload of the active power "work"."""
    mp, flags, enlat, exlat, rrt, rrl, rwt, rwl, idlp, ips, actp, apw = struct.unpack_from("<HxBIIBBBBHBxHB", data)
    return {
        "max_power": mp,
        "flags": flags,
        "entry_lat": enlat,
        "exit_lat": exlat,
        "read_tput": rrt & 0x1F,
        "read_lat": rrl & 0x1F,
        "write_tput": rwt & 0x1F,
        "write_lat": rwl & 0x1F,
        "idle_power": idlp,
        "idle_scale": ips >> 6,
        "active_power": actp,
        "active_power_work": apw & 0x7,
        "active_scale": apw >> 6,
    }


async def test_identify_controller(each: Each) -> None:
    """Every field of each controller, and its power states."""
    controller = each.controller
    ours = await controller.identify_controller()
    states = [power_state(state.tobytes()) for state in ours.raw["psd"][: int(ours.raw["npss"]) + 1]]
    theirs = asked("id-ctrl", controller.target)
    # The serial number is in the structure with the blanks that fill it, which numpy keeps.
    compare(theirs, ours.raw, psds=states)
    assert (ours.sn, ours.mn, ours.fr) == tuple(theirs[name].strip() for name in ("sn", "mn", "fr"))
    assert (ours.mdts, ours.cntlid, ours.ver, ours.nn) == tuple(
        theirs[name] for name in ("mdts", "cntlid", "ver", "nn")
    )
    assert (ours.oncs, ours.vwc, ours.subnqn) == (theirs["oncs"], bool(theirs["vwc"] & 1), theirs["subnqn"])
    assert (ours.sn, ours.mdts) == (each.made.name, each.made.mdts)


async def test_identify_namespaces(each: Each) -> None:
    """Every field of each namespace: of both block sizes, with metadata of either length in either place and without, with each
    type of protection information at either end of it and without, conventional and zoned. It is what the test bed made."""
    controller = each.controller
    assert await controller.namespaces() == [made.nsid for made in each.made.namespaces]
    for made in each.made.namespaces:
        nsid = made.nsid
        ours = await controller.identify_namespace(nsid)
        formats = [{"ms": f.ms, "ds": f.lbads, "rp": f.rp} for f in ours.lba_formats]
        theirs = asked("id-ns", controller.target, "-n", str(nsid))
        compare(theirs, ours.raw, lbafs=formats)
        assert (ours.nsze, ours.ncap, ours.nuse) == tuple(theirs[name] for name in ("nsze", "ncap", "nuse"))
        assert ours.lba_size == 1 << theirs["lbafs"][theirs["flbas"] & 0xF]["ds"] == made.lba_size
        assert ours.ms == theirs["lbafs"][theirs["flbas"] & 0xF]["ms"] == (0 if made.metadata == "none" else made.ms)
        assert ours.extended_lba == bool(theirs["flbas"] & 0x10) == (made.metadata == "extended")
        assert theirs["dps"] == made.protection | (made.pil and 1 << 3)


async def test_lists_of_namespaces(controller: Controller) -> None:
    """All of them, and those of each command set."""
    assert await controller.namespaces() == [n["nsid"] for n in asked("list-ns", controller.target)["nsid_list"]]
    for csi in (0, 2):
        theirs = asked("list-ns", controller.target, "-y", str(csi))["nsid_list"]
        assert await controller.namespaces(csi) == [n["nsid"] for n in theirs] != []


async def test_namespace_descriptors(controller: Controller) -> None:
    """The identifiers of a namespace, and its command set."""
    for nsid in (1, 2):
        ours = await controller.namespace_descriptors(nsid)
        theirs = {d["type"]: d[d["type"]] for d in asked("ns-descs", controller.target, "-n", str(nsid))["ns-descs"]}
        assert int(theirs.pop("csi"), 0) == ours.csi
        shown = {"eui64": ours.eui64 and ours.eui64.hex(), "nguid": ours.nguid and ours.nguid.hex()}
        shown["uuid"] = str(ours.uuid) if ours.uuid else None
        assert {name: value.replace("0x", "") for name, value in theirs.items()} == {
            name: value for name, value in shown.items() if value
        }


async def test_identify_of_the_nvm_command_set(each: Each) -> None:
    """Limits of each controller, and what each conventional namespace has of protection information."""
    controller = each.controller
    compare(asked("nvm-id-ctrl", controller.target), (await controller.identify_nvm_controller()).raw)
    for made in each.made.namespaces:
        if made.zones is None:
            ours = await controller.identify_nvm_namespace(made.nsid)
            theirs = asked("nvm-id-ns", controller.target, "-n", str(made.nsid))
            formats = [{"sts": f.sts, "pif": f.pif} for f in ours.elbafs[: len(theirs["elbafs"])]]
            compare(theirs, ours.raw, elbafs=formats)


@pytest.mark.parametrize(("serial", "nsids"), [("nvme0", (2, 8)), ("nvme2", (8, 9))])
async def test_identify_of_zones(serial: str, nsids: tuple[int, int]) -> None:
    """The zones of every zoned namespace, with metadata and without, in every LBA format, and the limit of an append."""
    target = controller_node(serial)
    async with aionvme.open_controller(target) as controller:
        compare(asked("zns", "id-ctrl", target), (await controller.identify_zoned_controller()).raw)
        found = [(nsid, await controller.identify_zoned_namespace(nsid)) for nsid in nsids]
    for nsid, ours in found:
        theirs = asked("zns", "id-ns", target, "-n", str(nsid))
        formats = [{"zsze": int(f["zsze"]), "zdes": int(f["zdes"])} for f in ours.raw["lbafe"][: len(theirs["lbafe"])]]
        compare(theirs, ours.raw, lbafe=formats)
        # On the wire the limits are 0's based.
        assert (ours.mar, ours.mor) == (theirs["mar"] + 1, theirs["mor"] + 1)
        async with aionvme.open(node(nsid, serial)) as ns:
            assert ns.identify_zoned == ours
            flbas = ns.identify.flbas
        assert ours.zsze == theirs["lbafe"][flbas]["zsze"]
        assert ours.zdes_bytes == 64 * theirs["lbafe"][flbas]["zdes"]


async def test_smart_log(each: Each) -> None:
    """Health of each controller and of each namespace. Counters grow with what others read, the kernel among them: ours are taken
    between two of nvme-cli's, and lie between them."""
    controller = each.controller
    async with aionvme.open(node(1, each.made.name), readonly=True) as ns:
        await ns.read(0, 1)
    for nsid in (None, *(made.nsid for made in each.made.namespaces)):
        target = [controller.target] if nsid is None else [controller.target, "-n", str(nsid)]
        before = asked("smart-log", *target)
        ours = await controller.smart_log(nsid)
        after = asked("smart-log", *target)
        assert before.keys() == after.keys()
        counters = {name for name in before if ours.raw[NAMES.get(name, name)].shape == (16,)}
        assert len(counters) == 10
        for name in counters:
            counter = plain(ours.raw, NAMES.get(name, name))
            assert int(before[name]) <= counter == getattr(ours, NAMES.get(name, name)) <= int(after[name]), name
        compare({name: value for name, value in after.items() if name not in counters}, ours.raw)
        assert ours.host_read_commands > 0 or nsid not in (None, 1)
        assert ours.composite_temperature == after["temperature"]


async def test_firmware_slots(controller: Controller) -> None:
    """Which slot is active, and the revisions, which nvme-cli shows as numbers."""
    ours = await controller.firmware_slots()
    (theirs,) = asked("fw-log", controller.target).values()
    assert theirs.pop("Active Firmware Slot (afi)") == int(ours.raw["afi"]) == ours.active
    found = {int(re.findall(r"\d+$", name)[0]): int(value.split()[0]) for name, value in theirs.items()}
    revisions = [int.from_bytes(frs.ljust(8, b"\0"), "little") for frs in ours.raw["frs"].tolist()]
    assert found == {slot: revision for slot, revision in enumerate(revisions, 1) if revision}
    assert [slot for slot, revision in enumerate(ours.revisions, 1) if revision] == sorted(found)


async def test_error_information(controller: Controller) -> None:
    """Every entry, also those that say nothing: QEMU's controllers remember no errors."""
    theirs = asked("error-log", controller.target)["errors"]
    octets = await controller.get_log_page(1, 64 * len(theirs))
    for entry, ours in zip(theirs, octets.view(logs.ERROR_INFORMATION), strict=True):
        status = int(ours["status_field"])
        compare(entry, ours, status_field=status >> 1, phase_tag=status & 1)
    assert len(await controller.error_information()) == sum(bool(entry["error_count"]) for entry in theirs)


@pytest.mark.parametrize("csi", [0, 2])
async def test_commands_supported(controller: Controller, csi: int) -> None:
    """Every command that there is, with what it changes."""
    ours = await controller.commands_supported(csi)
    (theirs,) = asked("effects-log", controller.target, "-c", str(csi))
    assert theirs.pop("command_set_identifier") == csi
    for name, effects in (("admin_cmd_set", ours.acs), ("io_cmd_set", ours.iocs)):
        found = {int(re.findall(r"_(\d+)", key)[0]): value for key, value in theirs[name].items()}
        assert found == {opcode: int(effect) for opcode, effect in enumerate(effects) if effect}


async def test_changed_namespaces(controller: Controller) -> None:
    """None have changed."""
    theirs = asked("changed-ns-list-log", controller.target)
    (shown,) = [value for value in theirs.values() if isinstance(value, dict)]
    assert (await controller.changed_namespaces(), shown) == ([], {})


async def test_features(controller: Controller) -> None:
    """Value, default and capabilities of each feature that is a number; the time is between two of nvme-cli's."""
    for fid in (0x01, 0x02, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x19):
        nsid = int(fid == Fid.ERROR_RECOVERY)
        for sel in (0, 1, 3) if fid == Fid.NUMBER_OF_QUEUES else (0,):
            arguments = ("-f", str(fid), "-s", str(sel), "-n", str(nsid))
            shown = re.findall(rb"value: ?(?:0x)?([0-9a-f]{8})", nvme("get-feature", controller.target, *arguments))
            assert await controller.get_features(fid, sel=sel, nsid=nsid) == int(shown[0], 16), (fid, sel)

    def milliseconds(timestamp: bytes | bytearray) -> int:
        return int.from_bytes(timestamp[:6], "little")

    before = nvme("get-feature", controller.target, "-f", "0xe", "-b")
    ours = bytearray(8)
    assert await controller.get_features(Fid.TIMESTAMP, into=ours) == 0
    after = nvme("get-feature", controller.target, "-f", "0xe", "-b")
    assert milliseconds(before) <= milliseconds(ours) <= milliseconds(after)
    assert before[6:] == ours[6:] == after[6:]


STATES = {
    ZoneState.EMPTY: "EMPTY",
    ZoneState.IMPLICITLY_OPENED: "IMP_OPENED",
    ZoneState.EXPLICITLY_OPENED: "EXP_OPENED",
    ZoneState.CLOSED: "CLOSED",
    ZoneState.READ_ONLY: "RDONLY",
    ZoneState.FULL: "FULL",
    ZoneState.OFFLINE: "OFFLINE",
}


def shown(zones: np.ndarray) -> list[dict[str, Any]]:
    """A zone report of ours as nvme-cli shows one."""
    return [
        {
            "slba": int(zone["zslba"]),
            "wp": int(zone["wp"]),
            "cap": int(zone["zcap"]),
            "state": STATES[ZoneState(zone["zs"])],
            "type": "SEQWRITE_REQ",
            **attributes(zone),
        }
        for zone in zones
    ]


def attributes(zone: np.void) -> dict[str, int]:
    """Zone Attributes and Zone Attributes Information: nvme-cli 2.3 gives both the same name, by which there is only the second;
    later versions call that attrs_info."""
    za, zai = int(zone["za"]), int(zone["zai"])
    return {"attrs": zai} if knows_all() else {"attrs": za, "attrs_info": zai}


def reported(*arguments: str) -> dict[str, Any]:
    """nvme-cli's zone report."""
    report: dict[str, Any] = asked("zns", "report-zones", *arguments)
    return report


async def test_report_zones() -> None:
    """All zones in all states that a host can bring them to, from any of them on, and those of one state only."""
    async with aionvme.open(node(2)) as ns:
        await ns.reset_zone(select_all=True)
        zslba = [index * ns.zsze for index in range(7)]
        await ns.open_zone(zslba[0])
        await ns.finish_zone(zslba[1])
        await ns.zone_append(zslba[2], bytes(3 * ns.lba_size))
        await ns.close_zone(zslba[2])
        await ns.zone_append(zslba[3], bytes(2 * ns.lba_size))
        await ns.write(zslba[4], bytes(768 * ns.lba_size))  # all of its capacity
        await ns.open_zone(zslba[5])
        await ns.write(zslba[5], bytes(ns.lba_size))
        theirs = reported(node(2))
        ours = await ns.report_zones()
        assert theirs == {"nr_zones": ns.nr_zones, "zone_list": shown(ours)}
        states = [zone["state"] for zone in theirs["zone_list"][:7]]
        assert states == ["EXP_OPENED", "FULL", "CLOSED", "IMP_OPENED", "FULL", "EXP_OPENED", "EMPTY"]
        assert {zone["cap"] for zone in theirs["zone_list"]} == {768}

        full = reported(node(2), "-S", str(int(ReportingOptions.FULL)))
        assert full == {"nr_zones": 2, "zone_list": shown(await ns.report_zones(options=ReportingOptions.FULL))}
        some = reported(node(2), "-s", str(zslba[3]), "-d", "5")["zone_list"]
        assert some == shown(await ns.report_zones(zslba[3], nr_zones=5))
        await ns.reset_zone(select_all=True)


async def test_attributes_and_extensions_of_zones() -> None:
    """A zone with a random write area, one with a descriptor extension, and one with neither."""
    extension = np.arange(128, dtype=np.uint8)
    async with aionvme.open(node(8)) as ns:
        await ns.reset_zone(select_all=True)
        await ns.open_zone(0, zrwa=True)
        await ns.set_zone_descriptor_extension(ns.zsze, extension)
        ours = await ns.report_zones()
        text = nvme("zns", "report-zones", node(8), "-e").decode()
        assert reported(node(8))["zone_list"] == shown(ours)
        in_text = [[int(n, 0) for n in pair] for pair in re.findall(r"Attrs: (\w+) +AttrsInfo: (\w+)", text)]
        assert in_text == [[int(zone["za"]), int(zone["zai"])] for zone in ours]
        assert in_text[:3] == [[0x08, 0], [0x80, 0], [0, 0]]
        (lines,) = [part for part in text.split("SLBA:") if "Extension Data" in part]
        octets = bytes.fromhex("".join(re.findall(r"^[0-9a-f]{4}:((?: [0-9a-f]{2}){16})", lines, re.MULTILINE)))
        assert octets == extension.tobytes()
        assert (await ns.zone_descriptor_extension(ns.zsze) == extension).all()  # type: ignore[union-attr]
        await ns.reset_zone(select_all=True)
