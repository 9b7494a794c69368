"""``python -m fcdd_dist.cli`` is ``fcdd-dist``."""

import sys

from . import main

sys.exit(main())
