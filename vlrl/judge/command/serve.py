"""`vlrl serve-judge`: a vision-language model behind OpenAI's chat completions, for judging."""

from __future__ import annotations

import argparse
import contextlib
import logging
from typing import Literal

from pydantic import Field

from vlrl.cli.options import add_section, section
from vlrl.config.section import AddressSection
from vlrl.errors import ConfigError, MissingExtraError
from vlrl.http.access import is_loopback, read_token


class ServeJudgeOptions(AddressSection):
    """The judge."""

    model: str = Field(description="folder or hub name")
    name: str | None = Field(None, description="what clients call it; default: as --model")
    port: int = Field(8089, ge=0, le=65_535, description="0 takes a free one")
    device: str = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `vlrl serve-judge`."""
    add_section(parser, ServeJudgeOptions)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted."""
    options = section(ServeJudgeOptions, args)
    token = read_token(options.token_env)
    if token is None and not is_loopback(options.host):
        raise ConfigError(f"--host {options.host} reaches other machines: set --token-env")
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
    name, model = options.name or options.model, options.model
    template, _ = template_of(model)
    judge = LocalJudge.load(model, template, device=options.device, precision=options.precision)
    server = make_server(JudgeApp(judge, name, token))
    listener = listen(options.host, options.port)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"serving {name} on http://{shown}:{port}/v1", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0
