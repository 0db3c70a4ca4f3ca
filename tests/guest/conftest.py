"""Nothing here runs outside of the guest."""

from tests.conftest import IN_VM

if not IN_VM:
    collect_ignore_glob = ["test_*.py"]
