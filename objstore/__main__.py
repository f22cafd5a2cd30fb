"""`python -m objstore`: the same as the command `objstore`."""

from __future__ import annotations

import sys

from objstore.cli.main import main

sys.exit(main())
