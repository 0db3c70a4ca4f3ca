"""The rules of the repository, held by a test."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aionvme

PACKAGE = Path(aionvme.__file__).parent

# Lowest first: a module imports what is on its own line or above, never below.
LAYERS = [
    {
        "aionvme._core",
        "aionvme._flight",
        "aionvme.nvme",
        "aionvme.errors",
        "aionvme.sizes",
        "aionvme.latency",
        "aionvme.trace",
    },
    {"aionvme.emulator", "aionvme.devices", "aionvme.in_use", "aionvme.privileges"},
    {"aionvme.queues"},
    {"aionvme.driver", "aionvme.buffers", "aionvme.vectored", "aionvme.guard", "aionvme.geometry"},
    {"aionvme.prepare", "aionvme.prepare_batch", "aionvme.protecting", "aionvme.mover", "aionvme.zones"},
    {
        "aionvme.admin_commands",
        "aionvme.controller",
        "aionvme.fdp_commands",
        "aionvme.nvm_commands",
        "aionvme.zone_commands",
        "aionvme.batch_commands",
        "aionvme.namespace",
    },
    {"aionvme.entering", "aionvme.opening", "aionvme.doctor", "aionvme.log", "aionvme.replaying"},
    {"aionvme"},
    {"aionvme.cli", "aionvme.__main__"},
]


def rank(module: str) -> int:
    """The layer of a module: that of the longest name in the table that it is, or is inside of."""
    while module:
        for level, names in enumerate(LAYERS):
            if module in names:
                return level
        module = module.rpartition(".")[0]
    raise AssertionError("not a module of the package")


def modules() -> list[tuple[str, Path]]:
    """Every module of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found.append((".".join(parts).removesuffix(".__init__"), path))
    return found


def imports(path: Path) -> Iterator[str]:
    """The package's own modules that a file imports, wherever in the file that is."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] == "aionvme")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "aionvme":
            for name in node.names:
                inner = f"{node.module}.{name.name}"
                is_module = (PACKAGE.parent / inner.replace(".", "/")).with_suffix(".py").exists()
                yield inner if is_module else node.module


@pytest.mark.parametrize(("module", "path"), [pytest.param(*found, id=found[0]) for found in modules()])
def test_a_module_imports_only_what_lies_below_it(module: str, path: Path) -> None:
    """No import goes up, and none is relative (which this test could not follow)."""
    tree = ast.parse(path.read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level]
    upwards = [name for name in imports(path) if rank(name) > rank(module)]
    assert not upwards, f"{module} imports {upwards}"


def test_the_codec_does_no_io() -> None:
    """Nothing in aionvme.nvme imports anything that opens files, waits, or belongs to an event loop."""
    forbidden = {"os", "io", "asyncio", "anyio", "trio", "socket", "time", "threading", "pathlib", "subprocess"}
    for path in (PACKAGE / "nvme").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names.append(node.module)
            assert not forbidden & {name.split(".")[0] for name in names}, path


@pytest.mark.parametrize(("module", "path"), [pytest.param(*found, id=found[0]) for found in modules()])
def test_files_stay_small_and_named_for_a_purpose(module: str, path: Path) -> None:
    """No file of the package is longer than 400 lines, and none is called utils."""
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in ("utils", "util", "helpers", "misc", "common")


def test_every_public_name_is_there_and_explained() -> None:
    """Each name in __all__ exists and has a docstring of its own."""
    for name in aionvme.__all__:
        assert getattr(aionvme, name).__doc__, name
