"""NVMe commands, statuses and data structures, with no I/O in them.

Everything below this package is encoding and decoding as the NVM Express specifications write it: the Base
Specification 2.0, the NVM Command Set Specification 1.0 and the Zoned Namespace Command Set Specification 1.1. Nothing
here opens a file, knows an event loop or imports another layer of the library, so one codec serves every queue: the
io_uring paths put these bytes into a submission queue entry, the emulated device takes them apart again.
"""
