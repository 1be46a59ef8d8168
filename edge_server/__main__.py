"""``python -m edge_server`` is the ``edge-server`` command."""

import sys

from edge_server.cli import main

sys.exit(main())
