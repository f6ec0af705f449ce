"""Evaluate on a benchmark: `deepspeed scripts/evaluate.py --benchmark NAME --model M --data DATA`.

One process works too: `python scripts/evaluate.py ...`; the arguments are those of `vlrl eval`.
"""

import sys
from pathlib import Path

# So that it also runs from a checkout without an install.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vlrl.eval.command import main

if __name__ == "__main__":
    sys.exit(main())
