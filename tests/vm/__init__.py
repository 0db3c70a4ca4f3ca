"""A real Linux kernel with real (QEMU) NVMe controllers, for a command of the host's.

``python -m tests.vm -- COMMAND...`` boots a Debian kernel, or with ``--kernel raw`` the one with raw
queues (``_native/kernel``), and runs COMMAND in it, with the host's files (read-only) and the
project root as working directory.  From Python: `tests.vm.bed.run_in_vm`.

- `devices`   the NVMe controllers and their namespaces: the place to look at first
- `kernel`    gets the kernel and what it boots with: `debian` fetches Debian's into the cache, from
              whatever suite of its `archive`; `vmlinux` takes the image apart, `modules` the rest
- `initramfs` busybox, ``init.sh``, which is all that runs before the command, and a few modules
- `emulator`  which QEMU runs it, and `qemu` its command line
- `bed`       puts these together: boot, stream the output, hand back the exit code
- `console`   the kernel's log, in which a warning is a failure

The guest can write below ``$TMPDIR``, ``$HOME`` (both in memory) and ``$AIONVME_VM_RESULTS``, which
is a folder on the host: ``.cache/vm/results``, or what that variable says there.  Everything that
is kept between runs is below ``.cache/vm`` (or ``$AIONVME_VM_CACHE``) and may be deleted; doing so
is also the way to get a newer kernel.  Kernels that are built here are kept below ``.cache/kernel``
(or ``$AIONVME_KERNEL_CACHE``).
"""
