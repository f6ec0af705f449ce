"""`deepspeed --num_gpus N scripts/train_sft.py --config FILE [KEY=VALUE ...]`."""

import sys
from pathlib import Path

# So that it also runs from a checkout without an install.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vlrl.cli.supervised import main

if __name__ == "__main__":
    sys.exit(main("sft"))
