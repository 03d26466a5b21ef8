"""``python -m fnckpt``."""

import sys

from fnckpt.cli import main

sys.exit(main())
