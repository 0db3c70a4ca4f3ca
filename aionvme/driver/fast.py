"""Which implementation of the hot path is used: the one in C where it was built, else the one in Python.

``AIONVME_PURE=1`` in the environment asks for the latter, which is how the tests run on both.
"""

import os
from typing import TYPE_CHECKING


def pure_wanted() -> bool:
    """Whether the one in Python is asked for."""
    return os.environ.get("AIONVME_PURE") == "1"


IN_C = False

if TYPE_CHECKING or pure_wanted():
    from aionvme.driver.flight import Flight, InFlight
else:
    try:
        from aionvme._flight import Flight, InFlight

        IN_C = True
    except ImportError:
        from aionvme.driver.flight import Flight, InFlight

__all__ = ["IN_C", "Flight", "InFlight", "pure_wanted"]
