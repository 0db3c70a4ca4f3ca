"""Health of a controller, as several commands tell it."""

from typing import Any

from aionvme.cli.render import plural, size
from aionvme.nvme.logs import SmartLog

KELVIN = 273


def health(log: SmartLog) -> dict[str, Any]:
    """The SMART log for a document."""
    document = {name: value for name, value in vars(log).items() if name != "raw"}
    document["critical_warning"] = [flag.name for flag in log.critical_warning]
    return document


def health_rows(smart: dict[str, Any]) -> list[tuple[str, Any]]:
    """The same for people."""
    kelvin = smart["composite_temperature"]
    warnings = ", ".join(name.replace("_", " ").lower() for name in smart["critical_warning"])
    spare, threshold = smart["available_spare"], smart["available_spare_threshold"]
    units = {name: size(smart[f"data_units_{name}"] * 512_000) for name in ("read", "written")}
    return [
        ("warnings", warnings or "none"),
        ("temperature", f"{kelvin - KELVIN} C" if kelvin else None),
        ("spare", f"{spare} %, warns below {threshold} %"),
        ("worn", f"{smart['percentage_used']} %"),
        ("read", f"{units['read']} in {plural(smart['host_read_commands'], 'command')}"),
        ("written", f"{units['written']} in {plural(smart['host_write_commands'], 'command')}"),
        ("powered on", f"{plural(smart['power_on_hours'], 'hour')}, {plural(smart['power_cycles'], 'cycle')}"),
        ("unsafe shutdowns", smart["unsafe_shutdowns"]),
        ("media errors", smart["media_and_data_integrity_errors"]),
        ("errors logged", smart["number_of_error_information_log_entries"]),
    ]
