"""The command line as tests run it: in processes of their own, or on a made-up sysfs."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from aionvme import devices

Run = Callable[..., "subprocess.CompletedProcess[str]"]

CONFINED = Path(__file__).with_name("confined.py")


@pytest.fixture
def run() -> Run:
    """Run ``python -m aionvme`` with arguments; ``limits`` are those of confined.py."""

    def run(*arguments: str, limits: str | None = None, **environment: str) -> "subprocess.CompletedProcess[str]":
        module = ["-m", "aionvme"] if limits is None else [str(CONFINED), limits]
        return subprocess.run(
            [sys.executable, "-W", "error", *module, *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            env=os.environ | environment,
        )

    return run


@pytest.fixture
def sysfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A sysfs with one zoned namespace, whose device nodes are missing, or /dev/null where a test says so."""
    root = tmp_path / "sys"
    for path, text in {
        "class/nvme/nvme7/model": "Example ZNS SSD  ",
        "class/nvme/nvme7/serial": "S0123",
        "class/block/nvme7n1/size": str((4 << 30) // 512),
        "class/block/nvme7n1/queue/logical_block_size": "4096",
        "class/block/nvme7n1/queue/zoned": "host-managed",
        "class/block/nvme7n1/queue/max_hw_sectors_kb": "512",
        "class/block/nvme7n1/queue/max_segments": "127",
        "class/block/nvme7n1/queue/nr_requests": "1023",
        "class/block/nvme7n1/queue/io_poll": "0",
        "module/nvme/parameters/poll_queues": "0",
    }.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")
    generic = root / "class/nvme-generic/ng7n1"
    generic.mkdir(parents=True)
    (generic / "device").symlink_to("../../nvme/nvme7")
    monkeypatch.setattr(devices, "SYSFS", root)
    return root


def on_terminal(*arguments: str, **environment: str) -> tuple[int, str]:
    """Run the command on a terminal of 80 columns: exit status and everything it showed."""
    master, slave = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "LINES")}
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "aionvme", *arguments],
        stdout=slave,
        stderr=slave,
        stdin=slave,
        env=clean | {"TERM": "xterm-256color", "COLUMNS": "80"} | environment,
    )
    os.close(slave)
    shown = b""
    try:
        while chunk := os.read(master, 65536):
            shown += chunk
    except OSError:
        pass  # EIO: so Linux says that the other side is closed
    os.close(master)
    return process.wait(timeout=30), shown.decode()
