"""vlrl: one DeepSpeed GRPO trainer for vision-language and generative models."""

from pathlib import Path

__version__ = "0.1.0"

# In a bare checkout the plug-in folders lie beside this package, not in it.
# Adding the checkout to the package's search path makes `vlrl.rewards`, `vlrl.tasks`
# and `vlrl.eval` importable there too; in an installed wheel they are already inside.
_checkout = Path(__file__).resolve().parent.parent
if (_checkout / "rewards").is_dir() and (_checkout / "pyproject.toml").is_file():
    __path__.append(str(_checkout))
