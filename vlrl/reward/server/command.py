"""`vlrl serve-rewards`: reward trees behind HTTP, for `use: remote` in other machines' runs."""

from __future__ import annotations

import argparse
import logging

from vlrl import __version__
from vlrl.cli.options import add_section, section
from vlrl.http.access import check_address, read_token, serve_extra
from vlrl.reward.server.settings import ServeConfig, build_rewards


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl serve-rewards`."""
    add_section(parser, ServeConfig)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    config = section(ServeConfig, args)
    token = read_token(config.token_env)
    check_address(config.host, token)
    rewards = build_rewards(config.rewards)
    with serve_extra("serve-rewards"):
        from vlrl.http.serving import make_server, serve
        from vlrl.reward.server.app import RewardApp
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    app = RewardApp(rewards, config, __version__, token).app
    serve(make_server(app), config.host, config.port, ", ".join(rewards))
    return 0
