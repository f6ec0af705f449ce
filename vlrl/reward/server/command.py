"""`vlrl serve-rewards`: reward trees behind HTTP, for `use: remote` in other machines' runs."""

from __future__ import annotations

import argparse
import contextlib
import logging

from vlrl import __version__
from vlrl.cli.options import add_section, section
from vlrl.errors import MissingExtraError
from vlrl.http.access import read_token
from vlrl.reward.server.settings import ServeConfig, build_rewards, check_address


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
    try:
        from vlrl.reward.server.app import RewardApp, listen, make_server
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise MissingExtraError(
            "`vlrl serve-rewards` needs starlette and uvicorn: uv pip install -e '.[serve]'"
        ) from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    server = make_server(RewardApp(rewards, config, __version__, token))
    listener = listen(config.host, config.port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {', '.join(rewards)} on http://{shown}:{port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0
