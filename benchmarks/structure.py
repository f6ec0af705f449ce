"""The structure of the code in numbers: rooms, imports between them, types, lines, files of a step.

    python benchmarks/structure.py            # the rooms and what they import
    python benchmarks/structure.py --trace    # files run between the YAML file and the gradient

Reads the checkout it is started in (`--root` for another one) as text; --trace trains one step of
the embedded GUI model.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

PRODUCT = ("vlrl", "rewards", "tasks", "eval")
DOMAINS = ("gui", "video", "image", "mesh", "judge", "reasoning")
POLICIES = {"flow": "image", "image_tokens": "image", "voxel_tokens": "mesh"}
TASKS = {
    "gui_grounding": "gui", "video_grounding": "video", "text_to_image": "image",
    "text_to_3d": "mesh", "preference_judgement": "judge",
    "visual_reasoning": "reasoning",
}  # fmt: skip


def tracked(root: Path, *places: str) -> list[Path]:
    """Python files that git tracks."""
    command = ["git", "ls-files", *(f"{place}/*.py" for place in places)]
    found = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return [root / line for line in found.splitlines() if (root / line).is_file()]


def domain_of(parts: tuple[str, ...]) -> str:
    """The domain of a file by its path; empty for ground and core."""
    stem = parts[-1].removesuffix(".py")
    if parts[0] == "tasks":
        return TASKS.get(stem, "")
    if parts[:2] == ("vlrl", "policy") and len(parts) > 3:
        return POLICIES.get(parts[2], "")
    inner = parts[1] if len(parts) > 2 else stem
    return inner if inner in DOMAINS else ""


def module_parts(module: str) -> tuple[str, ...]:
    """A module's name as the parts of its path in the checkout."""
    parts = module.split(".")
    inner = parts[1:] if len(parts) > 1 and parts[1] in PRODUCT[1:] else parts
    return (*inner[:-1], f"{inner[-1]}.py") if len(inner) > 1 else (f"{inner[0]}.py",)


def describe(root: Path) -> dict[str, Any]:
    """The table."""
    files = tracked(root, *PRODUCT)
    rooms: dict[str, set[Path]] = {domain: set() for domain in DOMAINS}
    crossing: Counter[str] = Counter()
    params = loose = probes = 0
    for path in files:
        parts = path.relative_to(root).parts
        own = domain_of(parts)
        if own:
            rooms[own].add(path)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module[:5] == "vlrl.":
                other = domain_of(module_parts(node.module))
                if other and other != own:
                    crossing["core to domain" if not own else "domain to domain"] += 1
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                for arg in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
                    params += arg.annotation is not None
                    loose += isinstance(arg.annotation, ast.Name) and arg.annotation.id == "Any"
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                probes += node.func.id in ("getattr", "hasattr")
    table: dict[str, Any] = {
        f"{domain}: files, folders": f"{len(own)}, {len({p.parent for p in own})}"
        for domain, own in rooms.items()
    }
    table |= {name: crossing[name] for name in ("core to domain", "domain to domain")}
    table["bare Any, of typed parameters"] = f"{loose} of {params} ({100 * loose / params:.1f} %)"
    table["getattr, hasattr"] = probes
    for name, places in (("product", PRODUCT), ("scripts", ("scripts",)), ("tests", ("tests",))):
        table[f"lines of {name}"] = sum(
            len(path.read_text(encoding="utf-8").splitlines()) for path in tracked(root, *places)
        )
    return table


def trace(root: Path) -> dict[str, Any]:
    """Files and folders of the product that one training step of the embedded GUI model runs."""
    sys.path.insert(0, str(root))
    seen: set[str] = set()

    def note(frame: FrameType, event: str, arg: object) -> None:
        if event == "call":
            seen.add(frame.f_code.co_filename)

    from vlrl.build import build_trainer
    from vlrl.config.resolve import load_run_config

    overrides = [
        "out=/tmp/structure", "num_steps=1", "algo.num_prompts=1", "algo.group_size=2",
        "eval.splits=[]", "checkpoint.at_end=false", "log.console=false", "dist.precision=fp32",
    ]  # fmt: skip

    def step() -> None:
        config = load_run_config([str(root / "configs/gui_grounding/tiny.yaml")], overrides)
        build_trainer(config, None).train_step()

    step()  # imports everything, so that only calls are counted
    sys.setprofile(note)
    step()
    sys.setprofile(None)
    own = {Path(name) for name in seen if str(name).startswith(str(root))}
    inside = {p for p in own if p.relative_to(root).parts[0] in PRODUCT}
    return {"files run": len(inside), "in folders": len({p.parent for p in inside})}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--trace", action="store_true")
    args = parser.parse_args()
    table = trace(args.root.resolve()) if args.trace else describe(args.root.resolve())
    for name, value in table.items():
        print(f"{name:<32} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
