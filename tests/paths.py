"""``python -m tests.paths RESULTS``: how many tests ran on which path, over the whole of ``make test``."""

import json
import sys
from pathlib import Path


def main(results: Path) -> None:
    """Print the counts that the runs on the host and in the guest left behind."""
    for name, where in (("host.json", "on this machine"), ("guest.json", "in the virtual machine")):
        for path, counts in sorted(json.loads((results / name).read_text()).items()):
            numbers = ", ".join(f"{n} {outcome}" for outcome, n in counts.items())
            print(f"   {path:24} {where:24} {numbers}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
