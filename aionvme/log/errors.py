"""What can go wrong with a log, apart from what its commands raise."""

from aionvme.errors import AionvmeError, UsageError


class LogFullError(UsageError):
    """There is no room for a record: nothing of it was written. Reclaim a zone, or give the log more of them."""


class DamagedRecordError(AionvmeError):
    """What the zones hold is not the record that was written there: its checksum says so."""
