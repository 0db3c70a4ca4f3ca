"""``aionvme info``: what a namespace and its controller say of themselves."""

import argparse
import asyncio
from collections import Counter
from dataclasses import asdict
from typing import Any

from aionvme.cli.arguments import add_form, add_target
from aionvme.cli.health import health, health_rows
from aionvme.cli.render import Answer, facts, plural, section, sections, size
from aionvme.doctor import one_line
from aionvme.errors import NvmeError
from aionvme.namespace import Namespace
from aionvme.nvme.opcodes import ZoneState
from aionvme.opening import open_namespace
from aionvme.zones.display import state_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    add_form(parser)
    add_target(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """Answer the command."""
    document = asyncio.run(_ask(arguments.target))
    zones, smart = document["zones"], document["smart"]
    page = sections(
        section("Namespace", facts(_namespace_rows(document))),
        section("Controller", facts(_controller_rows(document["controller"]))),
        *([section("Zones", facts(_zone_rows(zones)))] if zones else []),
        section("Health", facts(health_rows(smart) if smart else [("not available", document["smart_error"])])),
    )
    return Answer(document, page)


async def _ask(target: str) -> dict[str, Any]:
    async with open_namespace(target, readonly=True) as ns:
        smart, smart_error = await _smart(ns)
        identity, controller = ns.identify, ns.controller
        return {
            "target": ns.target,
            "queue": asdict(ns.queue),
            "namespace": {
                "nsid": ns.nsid,
                "nsze": ns.nsze,
                "ncap": identity.ncap,
                "nuse": identity.nuse,
                "lba_size": ns.lba_size,
                "size_bytes": ns.nsze * ns.lba_size,
                "ms": identity.ms,
                "zoned": ns.zoned,
                "nguid": identity.nguid and identity.nguid.hex(),
                "eui64": identity.eui64 and identity.eui64.hex(),
            },
            "limits": {"max_transfer_bytes": ns.max_transfer_bytes, "max_append_bytes": _max_append(ns)},
            "controller": {
                "mn": controller.mn,
                "sn": controller.sn,
                "fr": controller.fr,
                "ver": f"{controller.ver >> 16}.{controller.ver >> 8 & 0xFF}.{controller.ver & 0xFF}",
                "cntlid": controller.cntlid,
                "mdts": controller.mdts,
                "mdts_bytes": controller.mdts_bytes(),
                "vwc": controller.vwc,
                "oncs": [flag.name for flag in controller.oncs],
                "subnqn": controller.subnqn,
            },
            "zones": await _zones(ns) if ns.zoned else None,
            "smart": smart,
            "smart_error": smart_error,
        }


def _max_append(ns: Namespace) -> int | None:
    return ns.max_append_bytes if ns.zoned else None


async def _zones(ns: Namespace) -> dict[str, Any]:
    report = await ns.report_zones()
    states = Counter(report["zs"].tolist())
    zcaps = sorted(set(report["zcap"].tolist()))
    zasl = await ns.admin.identify_zoned_controller()
    return {
        "zsze": ns.zsze,
        "zcap_min": zcaps[0],
        "zcap_max": zcaps[-1],
        "nr_zones": ns.nr_zones,
        "mar": ns.mar,
        "mor": ns.mor,
        "zasl": zasl.zasl,
        "zasl_bytes": zasl.zasl_bytes(),
        "states": {zs.name: states[zs] for zs in ZoneState},
    }


async def _smart(ns: Namespace) -> tuple[dict[str, Any] | None, str | None]:
    try:
        return health(await ns.admin.smart_log()), None
    except NvmeError as error:
        return None, f"the controller does not give its SMART log: {error.status.name}"
    except PermissionError as error:  # which a user without privileges gets for every log page
        return None, one_line(error)


def _namespace_rows(document: dict[str, Any]) -> list[tuple[str, Any]]:
    namespace, limits, queue = document["namespace"], document["limits"], document["queue"]
    append = limits["max_append_bytes"]
    return [
        ("target", document["target"]),
        ("nsid", namespace["nsid"]),
        ("size", f"{size(namespace['size_bytes'])}, {plural(namespace['nsze'], 'block')}"),
        (
            "block",
            f"{namespace['lba_size']} bytes" + (f" and {namespace['ms']} of metadata" if namespace["ms"] else ""),
        ),
        ("kind", "zoned" if namespace["zoned"] else "conventional"),
        ("nguid", namespace["nguid"]),
        ("eui64", namespace["eui64"]),
        ("transfer", f"at most {size(limits['max_transfer_bytes'])} a command"),
        ("append", append and f"at most {size(append)} a command"),
        ("queue", f"{queue['kind']}; {queue['detour']}" if queue["detour"] else queue["kind"]),
        *((f"not {kind}", reason) for kind, reason in queue["why_not"].items()),
    ]


def _controller_rows(controller: dict[str, Any]) -> list[tuple[str, Any]]:
    mdts = controller["mdts_bytes"]
    return [
        ("model (mn)", controller["mn"]),
        ("serial (sn)", controller["sn"]),
        ("firmware (fr)", controller["fr"]),
        ("NVMe (ver)", controller["ver"]),
        ("mdts", f"{controller['mdts']}, {size(mdts)}" if mdts else "0, no limit"),
        ("write cache", "volatile (vwc)" if controller["vwc"] else "none that is volatile"),
        ("optional", ", ".join(name.replace("_", " ").lower() for name in controller["oncs"]) or None),
        ("subnqn", controller["subnqn"] or None),
    ]


def _zone_rows(zones: dict[str, Any]) -> list[tuple[str, Any]]:
    least, most = zones["zcap_min"], zones["zcap_max"]
    states = {state_name(ZoneState[name]): count for name, count in zones["states"].items() if count}
    return [
        ("zones", zones["nr_zones"]),
        ("zsze", plural(zones["zsze"], "block")),
        ("zcap", plural(most, "block") if least == most else f"{least} to {most} blocks"),
        ("mar", _limit(zones["mar"], "active")),
        ("mor", _limit(zones["mor"], "open")),
        ("zasl", f"{zones['zasl']}, {size(zones['zasl_bytes'])}" if zones["zasl"] else "0, as mdts"),
        ("states", ", ".join(f"{count} {name}" for name, count in states.items())),
    ]


def _limit(limit: int | None, adjective: str) -> str:
    return "no limit" if limit is None else f"at most {plural(limit, 'zone')} {adjective}"
