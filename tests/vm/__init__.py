"""A real Linux kernel with a real (QEMU) NVMe controller, for a command of the host's.

``python -m tests.vm -- COMMAND...`` boots a Debian kernel and runs COMMAND in it, with the host's
files (read-only) and the project root as working directory.  From Python: `tests.vm.bed.run_in_vm`.

- `devices`   the NVMe controller and its namespaces: the place to look at first
- `kernel`    fetches a Debian kernel into the cache; `vmlinux` takes its image apart
- `initramfs` busybox, a few modules and ``init.sh``, which is all that runs before the command
- `qemu`      the emulator's command line
- `bed`       puts these together: boot, stream the output, hand back the exit code

The guest can write below ``$TMPDIR``, ``$HOME`` (both in memory) and ``$AIONVME_VM_RESULTS``, which
is a folder on the host: ``.cache/vm/results``, or what that variable says there.  Everything that
is kept between runs is below ``.cache/vm`` (or ``$AIONVME_VM_CACHE``) and may be deleted; doing so
is also the way to get a newer kernel.
"""
