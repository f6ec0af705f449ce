"""`vlrl serve-judge`: a vision-language model behind OpenAI's chat completions, for judging."""

from __future__ import annotations

import argparse
import contextlib
import logging

from vlrl.cli.checks import port
from vlrl.errors import ConfigError, MissingExtraError
from vlrl.http.access import is_loopback, read_token


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
    if token is None and not is_loopback(args.host):
        raise ConfigError(f"--host {args.host} reaches other machines: set --token-env")
    try:
        from vlrl.judge.server import JudgeApp, make_server
        from vlrl.reward.server.app import listen
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise MissingExtraError(
            "`vlrl serve-judge` needs starlette and uvicorn: uv pip install -e '.[serve]'"
        ) from error
    from vlrl.judge.local import LocalJudge
    from vlrl.judge.question import template_of

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    template, _ = template_of(args.model)
    judge = LocalJudge.load(args.model, template, device=args.device, precision=args.precision)
    server = make_server(JudgeApp(judge, args.name or args.model, token))
    listener = listen(args.host, args.port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {args.name or args.model} on http://{shown}:{port}/v1", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0
