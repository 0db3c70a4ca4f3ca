"""What a driver's life is made of; the values are the words of its messages."""

from enum import Enum


class State(Enum):
    """Where a driver is."""

    OPEN = "open"
    RETIRED = "perhaps another one, since a Format NVM or a Namespace Management command was sent to its controller"
    CLOSING = "closing"
    BROKEN = "broken"
    CLOSED = "closed"
    FORKED = "left behind by a fork"


RUNNING = (State.OPEN, State.RETIRED, State.CLOSING)
"""Completions are still being taken in."""
