"""What has to be known before a log destroys what its zones hold."""

from aionvme.errors import UsageError
from aionvme.namespace import Namespace
from aionvme.prepare_batch import refuse_metadata


def check_ready(ns: Namespace) -> None:
    """Raise UsageError where a log cannot be made of the namespace's zones: they are not to be written to, or its blocks take
    metadata that a log does not have."""
    ns.check_writable()
    refuse_metadata(ns._geometry)
    if ns.block_bytes != ns.lba_size:
        raise UsageError(f"blocks of {ns.target} have metadata, of which a log has none: format it without")
