"""A timer finer than an event loop's own, which are rounded up to the milliseconds of epoll: a timerfd, which is readable when it
is time (timerfd_create(2))."""

import os

from aionvme._core import ffi, lib
from aionvme.errors import os_error

NS_PER_S = 1_000_000_000


class Timer:
    """One time on the clock of ``time.monotonic_ns()``, at which the file descriptor becomes readable."""

    def __init__(self) -> None:
        """Raises OSError where the process may have no more file descriptors."""
        self.fd: int = lib.timerfd_create(lib.CLOCK_MONOTONIC, lib.TFD_NONBLOCK | lib.TFD_CLOEXEC)
        if self.fd < 0:
            raise os_error(ffi.errno, "a timer for the emulated device")
        self._spec = ffi.new("struct itimerspec *")
        self.at = 0
        """When it goes off or has gone off, 0 where it will not."""

    def set(self, at: int) -> None:
        """Go off at that time, at once if it has passed, or with 0 not at all; it is readable no more before that."""
        self.at = at
        self._spec.it_value.tv_sec, self._spec.it_value.tv_nsec = divmod(at, NS_PER_S)
        lib.timerfd_settime(self.fd, lib.TFD_TIMER_ABSTIME, self._spec, ffi.NULL)

    def close(self) -> None:
        """Give the file descriptor back; a second time does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1  # the number may soon be another file's
