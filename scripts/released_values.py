"""Makes the tables of tests/released/ again, from fetched repositories.

python scripts/released_values.py FOLDER [NAME ...]

FOLDER holds a clone of each repository as OWNER+NAME (or OWNER+NAME/repo, a bare git directory).
The released code is run as it is and is not part of this project; run it where you would run a
stranger's code.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import sys
from pathlib import Path

import released
from released.comparison import Comparison

TABLES = Path(__file__).resolve().parent.parent / "tests" / "released" / "tables"

FRAMEWORK = ("comparison", "source")
"""The modules of scripts/released/ that hold no comparisons."""


def comparisons() -> dict[str, Comparison]:
    """All comparisons by name, from the modules of scripts/released/."""
    found: dict[str, Comparison] = {}
    for module in pkgutil.iter_modules(released.__path__):
        if module.name in FRAMEWORK:
            continue
        try:
            listed = importlib.import_module(f"released.{module.name}").COMPARISONS
        except ImportError as error:
            print(f"{module.name}: left out: {error}", file=sys.stderr)
            continue
        found |= {entry.name: entry for entry in listed}
    return found


def git_dir(folder: Path, repository: str) -> Path:
    """Where a repository's git directory is; a package has none.

    Raises:
        FileNotFoundError: it is not in the folder.
    """
    if "/" not in repository:
        return folder  # a package, which is imported
    place = folder / repository.replace("/", "+")
    for candidate in (place / ".git", place / "repo", place):
        if (candidate / "objects").is_dir():
            return candidate
    raise FileNotFoundError(f"no clone of {repository} at {place}: fetch it there")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the clones are")
    parser.add_argument("names", nargs="*", help="tables to make (all of them if none is named)")
    args = parser.parse_args()
    known = comparisons()
    if unknown := [name for name in args.names if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
    TABLES.mkdir(exist_ok=True)
    for name in args.names or sorted(known):
        entry = known[name]
        try:
            path = entry.write(git_dir(args.folder, entry.repository), TABLES)
        except (FileNotFoundError, ImportError, LookupError) as error:
            sys.exit(f"{name}: {error}")
        print(f"{path.name}: from {entry.repository}, {entry.file}")


if __name__ == "__main__":
    main()
