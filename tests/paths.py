"""``python -m tests.paths FILE...``: how many tests ran on which path, by the counts that runs left in files."""

import json
import sys
from pathlib import Path

WHERE = {
    "host": "on this machine",
    "pure": "on this machine",
    "raw": "in the virtual machine, kernel with raw queues",
}


def where(file: Path) -> str:
    """Where the tests ran whose counts are in a file."""
    return WHERE.get(file.stem) or f"in the virtual machine, Linux {file.stem.removeprefix('guest-')}"


def main(files: list[str]) -> None:
    """Print the counts of each run."""
    for file in map(Path, files):
        for path, counts in sorted(json.loads(file.read_text())["paths"].items()):
            numbers = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
            print(f"   {path:36} {where(file):36} {numbers}")


if __name__ == "__main__":
    main(sys.argv[1:])
