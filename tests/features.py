"""``python -m tests.features FILE...``: docs/kernels.md, from the outcomes of the tests that say which feature they are about.

Each file holds the results of one kernel's run.  With ``--check`` nothing is written: the page must say of these kernels what
their files say; kernels that it does not know are only named.
"""

import json
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "kernels.md"

HEAD = """# What works on which kernel

Written by `make kernels` from the outcomes of tests in the virtual machine (`tests/features.py`), not by hand; `make test` holds
it against its own runs. A queue is named where all of a feature's tests passed on it; limits, replay and traces, which stand
above the queues, are tested on one, and faults not on the polled queue of 6.1, which they can crash. "yes" is said of tests that
need no particular queue, "from" which Linux brings the feature, and "-" of what the machine of that run had no device for: Linux
6.1 runs there with QEMU's controllers of Debian 12, the others with those of QEMU 10.

"""


def outcomes(file: Path) -> tuple[str, dict[str, str]]:
    """The kernel that a file is about, and what to say of each feature there."""
    results = json.loads(file.read_text())
    found = {name: _cell(paths) for name, paths in results["features"].items()}
    return file.stem.removeprefix("guest-"), found | {
        name: f"from {release}" for name, release in results["needs"].items() if name not in found
    }


def _cell(paths: dict[str, dict[str, int]]) -> str:
    failed = sorted(path for path, counts in paths.items() if set(counts) != {"passed"})
    if failed:
        return "fails: " + ", ".join(failed)
    queues = [path.removesuffix(" queue") for path in ("interrupt queue", "polled queue") if path in paths]
    return ", ".join(queues) or "yes"


def page(kernels: dict[str, dict[str, str]]) -> str:
    """The page for these kernels and what was found on each."""
    features = sorted({name for found in kernels.values() for name in found})
    lines = ["| | " + " | ".join(f"Linux {kernel}" for kernel in kernels) + " |", "|---" * (len(kernels) + 1) + "|"]
    lines += [
        f"| {name} | " + " | ".join(found.get(name, "-") for found in kernels.values()) + " |" for name in features
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
        for name in sorted(features.keys() | said[kernel].keys()):
            page_says, tests_say = (says.get(name, "-") for says in (said[kernel], features))
            if page_says != tests_say:
                found.append(f"{name} on Linux {kernel}: the page says {page_says!r}, the tests {tests_say!r}")
    return found


def main(arguments: list[str]) -> Any:
    """Write the page, or check it; give what to exit with."""
    files = sorted(map(Path, (name for name in arguments if name != "--check")), key=_version)
    kernels = dict(map(outcomes, files))
    if "--check" not in arguments:
        PAGE.write_text(page(kernels))
        return 0
    wrong = differences(parse(PAGE.read_text()), kernels)
    return "docs/kernels.md is not what the tests found:\n" + "\n".join(wrong) if wrong else 0


def _version(file: Path) -> list[int]:
    return [int(part) for part in file.stem.removeprefix("guest-").split(".")]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
