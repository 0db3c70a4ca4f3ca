"""What a driver's life is made of; the values are the words of its messages."""

from enum import Enum


class State(Enum):
    """Where a driver is."""

    OPEN = "open"
    CLOSING = "closing"
    BROKEN = "broken"
    CLOSED = "closed"
    FORKED = "left behind by a fork"


RUNNING = (State.OPEN, State.CLOSING)
"""Completions are still being taken in."""
