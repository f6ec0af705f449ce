"""`vlrl serve-rewards`: reward trees behind HTTP, for `use: remote` in other machines' runs."""

from __future__ import annotations

import argparse
import logging

from vlrl import __version__
from vlrl.cli.checks import port
from vlrl.config.loader import read_yaml
from vlrl.config.resolve import check
from vlrl.http.access import check_address, read_token, serve_extra
from vlrl.reward.server.settings import ServeConfig, build_rewards


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add `vlrl serve-rewards`."""
    parser = commands.add_parser(
        "serve-rewards", help="put reward trees behind HTTP (see docs/reward_server.md)"
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="YAML with `rewards:`")
    parser.add_argument("--host", default="127.0.0.1", help="default: this machine only")
    parser.add_argument("--port", type=port, default=8088, help="0 takes a free one")
    parser.add_argument(
        "--token-env", metavar="NAME", help="environment variable that holds the token"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    config = check(ServeConfig, read_yaml(args.config))
    token = read_token(args.token_env)
    check_address(args.host, token)
    rewards = build_rewards(config.rewards)
    with serve_extra("serve-rewards"):
        from vlrl.http.serving import make_server, serve
        from vlrl.reward.server.app import RewardApp
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    app = RewardApp(rewards, config, __version__, token).app
    serve(make_server(app, config.max_connections), args.host, args.port, ", ".join(rewards))
    return 0
