"""Running ``tests.interrupted``, and interrupting it."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Report:
    """How it ended, what it said, and how long after the first signal."""

    returncode: int
    answer: dict[str, Any] | None
    took_s: float


def interrupt(loop: str, target: str, queue: str, times: int = 1) -> Report:
    """Send it SIGINT with commands in flight, several ``times`` if that is asked for; fails where it does not end in a minute."""
    command = [sys.executable, "-m", "tests.interrupted", loop, target, queue]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as victim:
        assert victim.stdout is not None
        try:
            assert victim.stdout.readline() == "ready\n"
            start = time.monotonic()
            for i in range(times):
                time.sleep(0.1 * bool(i))
                victim.send_signal(signal.SIGINT)
            said, _ = victim.communicate(timeout=60)
            took_s = time.monotonic() - start
        finally:
            victim.kill()
    return Report(victim.returncode, json.loads(said) if said else None, took_s)
