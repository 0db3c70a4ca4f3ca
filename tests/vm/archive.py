"""Packages of one suite of Debian's archive, whatever the host is set up for: fetched with apt, and not installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .errors import VmError

_MIRROR = "http://deb.debian.org/debian"
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Suite:
    """A suite, with apt's lists of it below ``root``; ``sources.list`` is our own, so that nothing of the host's changes."""

    def __init__(self, name: str, root: Path) -> None:
        """Fetch the lists. Raises VmError where that fails."""
        folder = root / "apt" / name
        for needed in ("lists/partial", "cache/archives/partial"):
            (folder / needed).mkdir(parents=True, exist_ok=True)
        sources = folder / "sources.list"
        sources.write_text(f"deb [signed-by={_KEYRING}] {_MIRROR} {name} main\n")
        self._options = (
            *("-o", f"Dir::Etc::sourcelist={sources}", "-o", "Dir::Etc::sourceparts=-"),
            *("-o", f"Dir::State::lists={folder / 'lists'}", "-o", f"Dir::Cache={folder / 'cache'}"),
            # What the host has installed must not be preferred to what the suite has.
            *("-o", "Dir::State::status=/dev/null", "-o", "APT::Sandbox::User=root"),
        )
        self._run("apt-get", "update", "--error-on=any")

    def show(self, package: str) -> str:
        """What the suite says of a package, newest version first."""
        return self._run("apt-cache", "show", package)

    def download(self, packages: tuple[str, ...], into: Path) -> None:
        """Put the newest version of each package into a folder."""
        self._run("apt-get", "download", *packages, cwd=into)

    def _run(self, command: str, *arguments: str, cwd: Path | None = None) -> str:
        return run([command, *self._options, *arguments], cwd)


def unpack(packages: Path, into: Path) -> None:
    """Unpack every package in the folder ``packages``."""
    for package in packages.glob("*.deb"):
        run(["dpkg-deb", "--extract", str(package), str(into)])


def run(command: list[str], cwd: Path | None = None) -> str:
    """Run a command of Debian's and return what it prints. Raises VmError where it fails."""
    try:
        done = subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise VmError(f"not in the cache, and no {command[0]} to fetch it with") from None
    except subprocess.CalledProcessError as error:
        raise VmError(f"{' '.join(command)} failed (is there a network?):\n{error.stderr.strip()}") from None
    return done.stdout
