"""Kernel modules in the order to load them, without depmod."""

from __future__ import annotations

import lzma
import re
from collections.abc import Iterator
from pathlib import Path

from .errors import VmError


class Modules:
    """The modules of the kernel unpacked in ``tree``; each is handed out once."""

    def __init__(self, tree: Path) -> None:
        (release,) = (path for lib in ("lib", "usr/lib") for path in tree.glob(f"{lib}/modules/*"))
        self._files = {_name(path): path for path in (release / "kernel").rglob("*.ko*")}
        built_in = (release / "modules.builtin").read_text().split()
        self._done = {_name(Path(line)) for line in built_in}

    def __contains__(self, name: str) -> bool:
        return name in self._files

    def closure(self, name: str) -> Iterator[tuple[str, bytes]]:
        """Yield name and contents of what ``name`` depends on, then of ``name`` itself."""
        if name in self._done:
            return
        self._done.add(name)
        if name not in self._files:
            raise VmError(f"the kernel has no module {name}")
        file = self._files[name]
        module = file.read_bytes()
        if file.suffix == ".xz":
            module = lzma.decompress(module)
        for dependency in _dependencies(module):
            yield from self.closure(dependency)
        yield name, module


def _name(file: Path) -> str:
    """Return the name as the kernel spells it; files are named with either dash."""
    return file.name.partition(".")[0].replace("-", "_")


def _dependencies(module: bytes) -> list[str]:
    """Return the names that the .modinfo section lists, as depmod would."""
    found = re.search(rb"\0depends=([^\0]+)\0", module)
    return found[1].decode().replace("-", "_").split(",") if found else []
