"""What the device did so far, for the SMART / Health Information log page (Base 2.0, section 5.16.1.3)."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Bytes and commands since the device was made.

    Bytes read are those of Read, Compare and Verify, bytes written those of Write and Zone Append; the commands counted
    are Read and Compare, and Write and Zone Append.
    """

    bytes_read: int = 0
    bytes_written: int = 0
    host_reads: int = 0
    host_writes: int = 0

    def count_read(self, length: int) -> None:
        """One more command that read ``length`` bytes."""
        self.bytes_read += length
        self.host_reads += 1

    def count_write(self, length: int) -> None:
        """One more command that wrote ``length`` bytes."""
        self.bytes_written += length
        self.host_writes += 1
