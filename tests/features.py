"""``python -m tests.features FILE...``: docs/kernels.md, from the outcomes of the tests that say which feature they are about.

Each file holds the results of a run on one kernel.  With ``--check`` nothing is written: the page must say of these kernels what
their files say; kernels that it does not know are only named.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "kernels.md"

RELEASE = "release"
"""The row with what was booted: not compared, since Debian's newest is another one soon."""

REPEATED = "every test of faults"
"""How the row begins that is about many rounds of them, which `make test` does not run."""

HEAD = """# What works on which kernel

Written by `make kernels` from the outcomes of tests in the virtual machine (`tests/features.py`), not by hand; `make test` holds
it against its own runs. A queue is named where tests of the feature ran on a namespace opened with it, and all of them passed;
"yes" is said of tests that need no particular queue, "from" which Linux brings the feature, "-" of what was not run there.

Two things to know: commands without data take an interrupt driven ring beside the polled one, and admin commands always do, so
there "polled" says that they work beside polling. And not every test of a feature runs on both queues: what is above the queues
(limits, replay, traces, most of protection information) runs on one, and faults not on the polled queue of 6.1, which they can
crash.

Linux 6.1 runs with QEMU's controllers of Debian 12, and for Flexible Data Placement with those of QEMU 10, which the other
kernels have for everything.

"""


def outcomes(files: list[Path]) -> dict[str, dict[str, str]]:
    """What to say of each feature, by kernel; several files may be about one, their names telling which."""
    kernels: dict[str, dict[str, str]] = {}
    for kernel in sorted({_kernel(file) for file in files}, key=_version):
        features: dict[str, dict[str, Counter[str]]] = {}
        needs: dict[str, str] = {}
        for file in files:
            if _kernel(file) != kernel:
                continue
            results = json.loads(file.read_text())
            release = results["release"]
            needs |= results["needs"]
            for name, paths in results["features"].items():
                for path, counts in paths.items():
                    features.setdefault(name, {}).setdefault(path, Counter()).update(counts)
        kernels[kernel] = {
            **{name: _cell(paths) for name, paths in features.items()},
            **{name: f"from {since}" for name, since in needs.items() if name not in features},
            RELEASE: release,
        }
    return kernels


def _cell(paths: dict[str, Counter[str]]) -> str:
    failed = sorted(path for path, counts in paths.items() if set(counts) != {"passed"})
    if failed:
        return "fails: " + ", ".join(failed)
    queues = [path.removesuffix(" queue") for path in ("interrupt queue", "polled queue") if path in paths]
    return ", ".join(queues) or "yes"


def page(kernels: dict[str, dict[str, str]]) -> str:
    """The page for these kernels and what was found on each."""
    features = sorted({name for found in kernels.values() for name in found} - {RELEASE})
    lines = ["| | " + " | ".join(f"Linux {kernel}" for kernel in kernels) + " |", "|---" * (len(kernels) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(found.get(name, "-") for found in kernels.values()) + " |"
        for name in (*features, RELEASE)
    ]
    return HEAD + "\n".join(lines) + "\n"


def parse(text: str) -> dict[str, dict[str, str]]:
    """What a page says of each kernel."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]
    kernels: dict[str, dict[str, str]] = {}
    for column, title in enumerate(rows[0][1:], start=1):
        kernels[title.removeprefix("Linux ")] = {row[0]: row[column] for row in rows[2:] if row[column] != "-"}
    return kernels


def differences(said: dict[str, dict[str, str]], kernels: dict[str, dict[str, str]]) -> list[str]:
    """Where a page and results do not agree."""
    found = []
    for kernel, features in kernels.items():
        if kernel not in said:
            print(f"   docs/kernels.md does not know Linux {kernel}: `make kernels` writes it anew")
            continue
        seldom = {name for name in said[kernel] if name.startswith(REPEATED)} - features.keys()
        for name in sorted((features.keys() | said[kernel].keys()) - seldom - {RELEASE}):
            page_says, tests_say = (says.get(name, "-") for says in (said[kernel], features))
            if page_says != tests_say:
                found.append(f"{name} on Linux {kernel}: the page says {page_says!r}, the tests {tests_say!r}")
    return found


def main(arguments: list[str]) -> Any:
    """Write the page, or check it; give what to exit with."""
    kernels = outcomes([Path(name) for name in arguments if name != "--check"])
    if "--check" not in arguments:
        PAGE.write_text(page(kernels))
        return 0
    wrong = differences(parse(PAGE.read_text()), kernels)
    return "docs/kernels.md is not what the tests found:\n" + "\n".join(wrong) if wrong else 0


def _kernel(file: Path) -> str:
    return file.stem.removeprefix("guest-")


def _version(kernel: str) -> list[int]:
    return [int(part) for part in kernel.split(".")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
