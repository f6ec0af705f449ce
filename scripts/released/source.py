"""Single functions of a fetched repository at a named commit, run as released."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Source:
    """A repository at a commit: a clone, or a bare git directory."""

    git_dir: Path
    commit: str

    def text(self, path: str) -> str:
        """A file at the commit.

        Raises:
            FileNotFoundError: the clone has no such commit or file.
        """
        shown = subprocess.run(
            ["git", f"--git-dir={self.git_dir}", "show", f"{self.commit}:{path}"],
            capture_output=True,
            check=False,
        )
        if shown.returncode:
            raise FileNotFoundError(
                f"{self.git_dir}: {shown.stderr.decode(errors='replace').strip()}"
            )
        return shown.stdout.decode("utf-8")

    def define(
        self, path: str, names: Sequence[str], given: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        """Functions, classes and constants of a file, without the rest of its imports.

        Args:
            given: what the definitions refer to (modules that the file imports).

        Raises:
            LookupError: the file defines no such name.
        """
        tree = ast.parse(self.text(path))
        wanted = [node for node in tree.body if _names(node) & set(names)]
        missing = set(names) - {name for node in wanted for name in _names(node)}
        if missing:
            raise LookupError(f"{path} at {self.commit} defines no {', '.join(sorted(missing))}")
        space: dict[str, object] = dict(given or {})
        # Without this file's own `annotations` import, under which types would stay texts.
        exec(compile(ast.Module(wanted, []), path, "exec", dont_inherit=True), space)
        return {name: space[name] for name in names}


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return set()


class AnyType:
    """Stands for typing's generics in annotations that are never looked at."""

    def __class_getitem__(cls, item: object) -> type[AnyType]:
        return cls
