"""``python -m aionvme`` is the ``aionvme`` command."""

import sys

from aionvme.cli import main

sys.exit(main())
