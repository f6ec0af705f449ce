"""`python -m vlrl`."""

import sys

from vlrl.cli.main import main

sys.exit(main())
