"""`vlrl COMMAND`: one table of the commands; each is imported on use."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from vlrl.cli.checks import interrupted, told
from vlrl.cli.options import parse
from vlrl.errors import VlrlError, did_you_mean

COMMANDS = {
    "train": ("train a policy (one process; see scripts/)", "vlrl.cli.train:add_arguments"),
    "sft": (
        "teach a policy the right answers of its task (docs/supervised.md)",
        "vlrl.cli.supervised:add_sft",
    ),
    "dpo": (
        "teach a policy the better of two answers (docs/supervised.md)",
        "vlrl.cli.supervised:add_dpo",
    ),
    "eval": ("evaluate a model on a benchmark", "vlrl.eval.command:add_arguments"),
    "compare": (
        "compare two evaluations item by item",
        "vlrl.eval.gui.compare_command:add_arguments",
    ),
    "describe": (
        "print what a reward, combinator, task or policy is, and its options",
        "vlrl.cli.describe:add_arguments",
    ),
    "recipes": (
        "list the recipes that come with vlrl, or print one",
        "vlrl.cli.recipes:add_arguments",
    ),
    "schema": (
        "print the JSON schema of a config file, for editors",
        "vlrl.cli.schema:add_arguments",
    ),
    "merge": ("write a whole model from a run's adapter", "vlrl.cli.merge:add_arguments"),
    "audit": (
        "compare rewards on a run's answers, or on those in a file",
        "vlrl.cli.audit:add_arguments",
    ),
    "report": ("write report.html of a run again", "vlrl.cli.report:add_arguments"),
    "serve-rewards": (
        "put reward trees behind HTTP (see docs/reward_server.md)",
        "vlrl.reward.server.command:add_arguments",
    ),
    "train-judge": ("train a judge (see docs/judge.md)", "vlrl.judge.command.train:add_arguments"),
    "judge-bench": (
        "agreement of a judge with known preferences",
        "vlrl.eval.judge.command:add_arguments",
    ),
    "serve-judge": (
        "serve a judge with log-probs, OpenAI-compatible (see docs/judge.md)",
        "vlrl.judge.command.serve:add_arguments",
    ),
    "serve-vllm": (
        "serve a checkpoint by vLLM for rollouts (see docs/engines.md)",
        "vlrl.policy.vision_language.samplers.command:add_arguments",
    ),
    "references": (
        "make reference images with the untrained policy (see docs/judge.md)",
        "vlrl.judge.command.references:add_arguments",
    ),
    "screens": (
        "make a grounding data set from web pages",
        "vlrl.gui.capture.command:add_arguments",
    ),
}
"""Name -> what it does, and the function that adds its arguments to a parser."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; a user's mistake is one clear message and exit status 2."""
    words = sys.argv[1:] if argv is None else list(argv)
    if not words or words[0] in ("-h", "--help"):
        print(usage(), file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    name = words[0]
    if name not in COMMANDS:
        print(f"vlrl: no command {name!r}; {did_you_mean(name, COMMANDS)}", file=sys.stderr)
        return 2
    help_text, target = COMMANDS[name]
    module, _, function = target.partition(":")
    parser = argparse.ArgumentParser(prog=f"vlrl {name}", description=help_text)
    try:
        getattr(importlib.import_module(module), function)(parser)
        args = parse(parser, words[1:])
        status: int = args.run(args)
        sys.stdout.flush()
        return status
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (VlrlError, OSError) as error:
        print(told(error), file=sys.stderr)
        return error.exit_status if isinstance(error, VlrlError) else 2
    except KeyboardInterrupt:
        return interrupted()


def usage() -> str:
    """The commands, one per line."""
    lines = [f"  {name:<14} {text}" for name, (text, _) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: vlrl COMMAND ...",
            "",
            *lines,
            "",
            "`vlrl COMMAND --help` lists a command's options.",
        ]
    )
