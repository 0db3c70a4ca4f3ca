"""What aionvme needs of a machine and of a device, looked at one thing at a time, and what to do where it is missing.

Whatever can be tried is tried: a ring is set up, a device is opened and read. Where a thing failed, those that need it are not
failures of their own: they are absent, and name what comes first.
"""

import os
from pathlib import Path

from aionvme import devices
from aionvme.doctor.check import Check, Diagnosis, TargetDiagnosis, one_line
from aionvme.doctor.machine import machine
from aionvme.doctor.target import diagnose_target

__all__ = ["Check", "Diagnosis", "TargetDiagnosis", "diagnose", "one_line"]


async def diagnose(target: str | Path | None = None) -> Diagnosis:
    """Look at this machine and at ``target``, or where that is None at every namespace there is.

    A namespace is opened and its first block read; nothing is written. Never raises for what it finds.
    """
    targets = [device.path for device in devices.generic_devices()] if target is None else [target]
    checks = tuple(machine())
    broken = [check.name for check in checks if check.verdict == "fail"]
    return Diagnosis(checks, tuple([await diagnose_target(os.fspath(name), broken) for name in targets]))
