"""The package as its users install it."""

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the sources, so that nothing built before is picked up."""
    source = tmp_path_factory.mktemp("source")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in files.stdout.decode().rstrip("\0").split("\0"):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    out = tmp_path_factory.mktemp("wheel")
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(out),
        str(source),
    ]
    subprocess.run(command, check=True, timeout=300)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_holds_the_library_and_nothing_else(wheel: Path) -> None:
    """One wheel for every Python from 3.11 on, typed, with the native core and without tests."""
    assert "-cp311-abi3-linux_" in wheel.name
    names = zipfile.ZipFile(wheel).namelist()
    assert {
        "aionvme/py.typed",
        "aionvme/_core.abi3.so",
        "aionvme/_flight.abi3.so",
        "aionvme/_core.pyi",
        "aionvme/__init__.py",
    } <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"aionvme"}


def test_an_installed_wheel_works(wheel: Path, tmp_path: Path) -> None:
    """Installed elsewhere, it runs its command line and its library, with no source tree in sight."""
    venv.create(tmp_path / "env", with_pip=False, system_site_packages=False)
    python = tmp_path / "env/bin/python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # Dependencies come from this environment: only aionvme itself is installed anew.
    here = subprocess.run(
        [sys.executable, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", site, str(wheel)]
    subprocess.run(install, check=True, timeout=120)
    program = (
        f"import sys; sys.path.append({here!r}); import asyncio, aionvme\n"
        "assert 'env' in aionvme.__file__, aionvme.__file__\n"
        "async def main():\n"
        "    async with aionvme.open('emu:zns') as ns:\n"
        "        print(await ns.zone_append(0, bytes(ns.lba_size)))\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run(
        [python, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
