"""A process killed with SIGKILL while it writes to a device in a file: nothing that was acknowledged is lost.

The process writes down each operation before it asks the device for it, and again when the device has completed it. What
the file holds afterwards must be what was acknowledged, with or without the one operation that was under way.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from aionvme.emulator import Device

from .ledger import SPEC, ZONES, Zone, apply, stored

Open = Callable[[str], Device]

WORKER = """
import os, random, sys
from aionvme.emulator import Device, parse_spec
from aionvme.nvme import zoned

device, seed, log = Device(parse_spec(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3])
source, tag = random.Random(seed), seed << 32
while True:
    tag += 1
    zone, nlb, kind = source.randrange(8), source.randrange(1, 9), source.choice("aaaaaaaaaaaarfc")
    if kind == "a":
        command = zoned.zone_append(zone * 64, nlb)
        data = b"".join((tag << 8 | block).to_bytes(8, "little") * 512 for block in range(nlb))
    else:
        command = zoned.zone_management_send({"r": 4, "f": 2, "c": 1}[kind], zone * 64)
        data = b""
    os.write(log, b"%c %d %d %d\\n" % (ord(kind), zone, nlb, tag))
    completion = device.execute(command._replace(nsid=1), memoryview(data))
    os.write(log, b"done %d\\n" % completion.status)
"""


def replay(before: list[Zone], log: str) -> tuple[list[Zone], list[Zone]]:
    """The zones after everything acknowledged, and after the operation under way as well."""
    zones = list(before)
    pending: tuple[int, Zone] | None = None
    for line in log.splitlines():
        word, *numbers = line.split()
        if word == "done":
            assert pending is not None
            if numbers == ["0"]:
                zones[pending[0]] = pending[1]
            pending = None
        else:
            zone, nlb, tag = map(int, numbers)
            pending = zone, apply(zones[zone], word, nlb, tag)
    perhaps = list(zones)
    if pending is not None:
        perhaps[pending[0]] = pending[1]
    return zones, perhaps


def kill_while_it_writes(spec: str, seed: int, log_path: Path, *, at_least: int) -> str:
    """Run the worker until it has logged that much, kill it somewhat later; what it logged."""
    with log_path.open("wb") as log:
        worker = subprocess.Popen([sys.executable, "-c", WORKER, spec, str(seed), str(log.fileno())],
                                  pass_fds=[log.fileno()])  # fmt: skip
        try:
            deadline = time.monotonic() + 20
            while os.fstat(log.fileno()).st_size < at_least:
                assert worker.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.001)
            time.sleep(random.Random(seed).random() * 0.01)
        finally:
            worker.send_signal(signal.SIGKILL)
            assert worker.wait() == -signal.SIGKILL
    return log_path.read_text()


def test_nothing_acknowledged_is_lost(open_device: Open, tmp_path: Path) -> None:
    """Twelve times in a row, each going on from what the one before left."""
    spec = f"{SPEC}{tmp_path}/image"
    zones: list[Zone] = [(False, ())] * ZONES
    operations = 0
    for seed in range(1, 13):
        log = kill_while_it_writes(spec, seed, tmp_path / "log", at_least=seed * 300)
        operations += log.count("done 0")
        device = open_device(spec)
        found = stored(device)
        device.close()
        assert found in replay(zones, log)
        zones = found
    assert operations > 500
