"""What has to be known before a log writes to zones, or takes what they hold for its own."""

from aionvme.errors import UsageError
from aionvme.namespace import Namespace
from aionvme.prepare_batch import refuse_metadata


def check_format(ns: Namespace) -> None:
    """Raise UsageError where the namespace's blocks take metadata, which a log does not have."""
    refuse_metadata(ns._geometry)
    if ns.block_bytes != ns.lba_size:
        raise UsageError(f"blocks of {ns.target} have metadata, of which a log has none: format it without")
