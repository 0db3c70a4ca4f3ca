"""The host's side of the emulated device's tests: commands on namespace 1, and what can be asked about zones."""

from aionvme.emulator import Device
from aionvme.emulator.zone_states import Event
from aionvme.emulator.zoned import ZonedNamespace
from aionvme.nvme.command import Command
from aionvme.nvme.status import Completion

REPORT_ALL = Command(0x7A, nsid=1, cdw12=1023)
"""Zone Management Receive from address 0: a report of all zones into 4096 bytes."""


def run(device: Device, command: Command, data: bytes | bytearray = b"") -> Completion:
    """Carry out an I/O command on namespace 1."""
    return device.execute(command._replace(nsid=1), memoryview(data))


def zones(device: Device) -> list[tuple[int, int]]:
    """State and write pointer of every zone, taken from where figure 37 has them."""
    report = bytearray(4096)
    assert device.execute(REPORT_ALL, memoryview(report)) == (0, 0)
    count = int.from_bytes(report[:8], "little")
    descriptors = [report[at : at + 64] for at in range(64, 64 + 64 * count, 64)]
    return [(each[1] >> 4, int.from_bytes(each[24:32], "little")) for each in descriptors]


def strike(device: Device, zone: int, event: Event) -> None:
    """Let something happen to a zone that no command can bring about."""
    assert isinstance(device.namespace, ZonedNamespace)
    device.namespace.zones.fire(zone, event)
