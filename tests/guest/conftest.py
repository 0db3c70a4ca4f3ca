"""Nothing here runs outside of the guest, nor what its machine has no device for."""

from tests.conftest import IN_VM, controller_node

if not IN_VM:
    collect_ignore_glob = ["test_*.py"]
else:
    try:
        controller_node("fdp")
    except LookupError:  # QEMU has it from 8.0 on
        collect_ignore = ["test_fdp.py"]
