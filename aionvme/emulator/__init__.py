"""A small NVMe namespace in this process, with the NVM and Zoned command sets, for tests to trust.

The device is a function from a command and its data to a completion and a new state: no event loop, no thread, and a
clock only to count by. When commands happen is reckoned beside it (timing.py), and is up to the transport that calls
:meth:`Device.execute`. Commands are taken apart as the specifications write them (Base 2.0, NVM Command Set 1.0, Zoned
Namespace Command Set 1.1), and where those leave a choice the device does what QEMU's controller does, so that the two
can be compared command by command.
"""

from aionvme.emulator.device import Device
from aionvme.emulator.spec import DeviceSpec, parse_spec

__all__ = ["Device", "DeviceSpec", "parse_spec"]
