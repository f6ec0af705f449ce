"""`vlrl serve-judge`: a vision-language model behind OpenAI's chat completions, for judging."""

from __future__ import annotations

import argparse
import logging

from vlrl.cli.checks import port
from vlrl.http.access import check_address, read_token, serve_extra


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `vlrl serve-judge`."""
    parser = commands.add_parser(
        "serve-judge", help="serve a judge with log-probs, OpenAI-compatible (see docs/judge.md)"
    )
    parser.add_argument("--model", required=True, metavar="NAME", help="folder or hub name")
    parser.add_argument("--name", help="what clients call it; default: as --model")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    parser.add_argument("--port", type=port, default=8089, help="0 takes a free one")
    parser.add_argument("--token-env", metavar="NAME", help="variable that holds the key")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", choices=("auto", "bf16", "fp32"), default="auto")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    token = read_token(args.token_env)
    check_address(args.host, token)
    with serve_extra("serve-judge"):
        from vlrl.http.serving import make_server, serve
        from vlrl.judge.server import JudgeApp
    from vlrl.judge.local import LocalJudge
    from vlrl.judge.question import template_of

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    template, _ = template_of(args.model)
    judge = LocalJudge.load(args.model, template, device=args.device, precision=args.precision)
    name = args.name or args.model
    serve(make_server(JudgeApp(judge, name, token).app), args.host, args.port, name, "/v1")
    return 0
