"""The options of ``aionvme replay``."""

import argparse
import math
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Have the command take them."""
    pace = parser.add_mutually_exclusive_group()
    pace.add_argument("--speed", type=_speed, default=1.0, metavar="X", help="times as fast as it was; default 1")
    pace.add_argument("--fast", action="store_true", help="as fast as the queue allows")
    parser.add_argument("--overwrite", action="store_true", help="allow commands that destroy what the namespace holds")
    parser.add_argument("--save", type=Path, metavar="NEW.npy", help="keep the new run's trace")


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not 0 < speed < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r}: it takes a number above 0, such as 2")
    return speed
