"""The command as a program: exit statuses, what goes to which stream, terminals and pipes."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import aionvme.cli
from aionvme.cli import main
from tests.cli.conftest import on_terminal

Run = Callable[..., "subprocess.CompletedProcess[str]"]

ESCAPE = "\x1b"

COMMANDS = [
    ("demo",),
    ("list",),
    ("info", "emu:zns"),
    ("smart", "emu:nvm"),
    ("doctor", "emu:nvm"),
    ("zones", "emu:zns?zones=100"),
    ("reset", "emu:zns", "--zone", "1"),
    ("bench", "emu:nvm", "--depth", "1", "--seconds", "0.05"),
]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_pipe_gets_plain_text(run: Run, arguments: tuple[str, ...]) -> None:
    """No escape codes, no line wrapped or padded, whatever the environment says of a terminal; nothing on stderr."""
    finished = run(*arguments, COLUMNS="20", TERM="xterm-256color")
    assert finished.stdout
    assert finished.stderr == ""
    assert ESCAPE not in finished.stdout
    assert not [line for line in finished.stdout.splitlines() if line != line.rstrip()]
    narrow = run(*arguments, COLUMNS="200", TERM="dumb")
    assert len(narrow.stdout.splitlines()) == len(finished.stdout.splitlines())


@pytest.mark.parametrize("arguments", COMMANDS)
def test_json_is_one_document(run: Run, arguments: tuple[str, ...]) -> None:
    """stdout is one JSON object and nothing else."""
    finished = run(*arguments, "--json", FORCE_COLOR="1")
    assert isinstance(json.loads(finished.stdout), dict)
    assert finished.stderr == ""


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("/dev/ng99n9", "no such device: `aionvme list`"),
        ("emu:zns?zones=many", "zones=many: it takes a whole number"),
        ("emu:zns?zone=4", "emu:zns takes zones, zone_size"),
        ("emu:tape", "it starts with emu:nvm or emu:zns"),
        ("/dev/null", "not an NVMe namespace"),
        ("/dev", "no device at all"),
        (__file__, "no device at all"),
        ("", "empty string"),
        ("/dev/null/ng0n1", "Not a directory"),
        ("emu:zns?file=/dev/null/x", "Not a directory"),
    ],
)
def test_unusable_target(run: Run, target: str, words: str) -> None:
    """One line on stderr that says what is wrong, nothing on stdout, exit status 1."""
    finished = run("info", target)
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.splitlines()
    assert line.startswith("aionvme: ")
    assert words in line
    assert "Errno" not in line


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("info",),
        ("demo", "extra"),
        ("list", "--colour"),
        ("info", "a", "b"),
        ("bench",),
        ("compare", "a"),
        ("zones", "emu:zns", "--watch", "0"),
        ("zones", "emu:zns", "--watch", "--json"),
        ("report", "emu:zns", "--state", "busy"),
        ("reset", "emu:zns"),
        ("reset", "emu:zns", "--zone", "1", "--all"),
        ("close", "emu:zns", "--zone", "-1"),
        ("append", "emu:zns"),
        ("append", "emu:zns", "--zone", "0", "--size", "0"),
        ("read", "emu:zns", "--lba", "-1", "--blocks", "1"),
        ("read", "emu:zns", "--lba", "0", "--blocks", "0"),
    ],
)
def test_misuse(run: Run, arguments: tuple[str, ...]) -> None:
    """A command line that makes no sense gives the usage and exit status 2."""
    finished = run(*arguments)
    assert finished.returncode == 2
    assert finished.stderr.startswith("usage: aionvme")


def test_help_is_quick() -> None:
    """The list of commands needs neither their modules nor rich, and each command's own help is its own alone."""
    program = (
        "import sys; sys.argv[1:] = {arguments}; import aionvme.cli\n"
        "try: aionvme.cli.main()\n"
        "finally: print(sorted(name for name in sys.modules if name == 'rich' or name.endswith('_command')))"
    )
    for arguments, loaded in ((["--help"], []), (["list", "--help"], ["aionvme.cli.list_command", "rich"])):
        done = subprocess.run(
            [sys.executable, "-c", program.format(arguments=arguments)], capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[-1] == str(loaded)


def test_without_rich(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """rich is an extra: without it a line says how to get it."""
    monkeypatch.setitem(sys.modules, "rich", None)
    assert main(["list"]) == 2
    assert (
        capsys.readouterr().err
        == "aionvme: the command line needs rich: pip install 'aionvme[cli]', or '.[cli]' in a clone\n"
    )


def test_status_of_the_device(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An NVMe status that ends a command is shown by its name and numbers."""

    def refuse(_: object) -> None:
        raise aionvme.ZoneFullError(0x41B9, "WRITE of 1 block at LBA 0x0")

    monkeypatch.setattr("aionvme.cli.list_command.run", refuse)
    assert main(["list"]) == 1
    message = "WRITE of 1 block at LBA 0x0: Zone Is Full (SCT 0x1, SC 0xb9, do not retry)"
    assert capsys.readouterr().err == f"aionvme: {message}\n"


def test_reader_that_leaves() -> None:
    """Nobody reads on: no traceback, the exit status of a SIGPIPE."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "aionvme", "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, stderr = process.communicate(timeout=30)
    assert (process.returncode, stderr) == (128 + signal.SIGPIPE, b"")


def test_full_disk(run: Run) -> None:
    """What could not be written is an error, not a success."""
    with Path("/dev/full").open("w") as full:
        finished = subprocess.run(
            [sys.executable, "-m", "aionvme", "list"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=30
        )
    assert finished.returncode == 1
    assert finished.stderr == f"aionvme: {os.strerror(errno.ENOSPC)} [ENOSPC]\n"


def test_closed_stdout() -> None:
    """A closed stdout is nowhere to write to; the command is carried out, and its exit status counts."""
    finished = subprocess.run(
        ["/bin/sh", "-c", 'exec "$0" -m aionvme info emu:zns >&-', sys.executable],
        stderr=subprocess.PIPE,
        timeout=30,
    )
    assert (finished.returncode, finished.stderr) == (0, b"")


def test_interrupt(tmp_path: Path) -> None:
    """Ctrl-C with a command in flight: it is waited for, and then no traceback, 130."""
    image = tmp_path / "image"
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "aionvme", "info", f"emu:nvm?size=1MiB&latency=1s&file={image}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell ignores SIGINT for what it runs in the background, and its children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    while not image.exists():  # the device is made when it is opened
        assert process.poll() is None
        time.sleep(0.02)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert (process.returncode, stdout, stderr) == (130, b"", b"")


def test_ascii_output(run: Run) -> None:
    """A stream without block characters gets bars it can show."""
    finished = run("demo", PYTHONIOENCODING="ascii")
    assert finished.returncode == 0
    assert "########################" in finished.stdout
    assert finished.stdout.isascii()


def test_terminal_gets_colour() -> None:
    """On a terminal there is colour, and no line is wider than it."""
    status, output = on_terminal("demo")
    assert status == 0
    assert f"{ESCAPE}[1;32m" in output  # the verdict at the end, bold and green
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output)
    assert "All 384 appends" in plain
    assert max(map(len, plain.splitlines())) <= 80


def test_terminal_without_colour() -> None:
    """NO_COLOR is honoured."""
    status, output = on_terminal("list", NO_COLOR="1", TERM="dumb")
    assert status == 0
    assert ESCAPE not in output
