"""vlrl: one DeepSpeed GRPO trainer for vision-language and generative models."""

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

__version__ = "0.1.0"

_CHECKOUT = Path(__file__).resolve().parent.parent
_PLUGINS = ("vlrl.rewards", "vlrl.tasks", "vlrl.eval")


class _CheckoutPlugins(MetaPathFinder):
    """Finds the three plug-in packages of a checkout, which lie beside `vlrl`.

    In a wheel they are inside the package. Only these three: the checkout itself is never on the
    package's path, so that no module can be imported under two names.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in _PLUGINS:
            return None
        return PathFinder.find_spec(fullname, [str(_CHECKOUT)])


if (_CHECKOUT / "rewards").is_dir() and (_CHECKOUT / "pyproject.toml").is_file():
    sys.meta_path.insert(0, _CheckoutPlugins())
