"""Sizes as people type them."""

import re

from aionvme.errors import UsageError

_UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_size(text: str) -> int:
    """Bytes, from bytes or a number with KiB, MiB, GiB or TiB. Raises UsageError where it is neither."""
    match = re.fullmatch(r"([0-9]{1,18})(|KiB|MiB|GiB|TiB)", text)
    if not match:
        raise UsageError("it takes bytes or a number with KiB, MiB, GiB or TiB, such as 4MiB")
    return int(match[1]) * _UNITS[match[2]]
