"""`vlrl serve-judge`: a vision-language model behind OpenAI's chat completions, for judging."""

from __future__ import annotations

import argparse
import logging
from typing import Literal

from pydantic import Field

from vlrl.cli.options import add_section, section
from vlrl.config.section import AddressSection
from vlrl.http.access import check_address, read_token, serve_extra


class ServeJudgeOptions(AddressSection):
    """The judge."""

    model: str = Field(description="folder or hub name")
    name: str | None = Field(None, description="what clients call it; default: as --model")
    port: int = Field(8089, ge=0, le=65_535, description="0 picks a free one")
    max_tokens: int = Field(
        16_384,
        ge=1,
        description="of a question with its images and answer; longer requests are refused",
    )
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
    check_address(options.host, token)
    with serve_extra("serve-judge"):
        from vlrl.http.serving import make_server, serve
        from vlrl.judge.server import JudgeApp
    from vlrl.judge.local import LocalJudge
    from vlrl.judge.question import template_of

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    name, model = options.name or options.model, options.model
    template, _ = template_of(model)
    judge = LocalJudge.load(model, template, device=options.device, precision=options.precision)
    app = JudgeApp(judge, name, token, hosts=options.hosts, max_tokens=options.max_tokens).app
    serve(make_server(app), options.host, options.port, name, "/v1")
    return 0
