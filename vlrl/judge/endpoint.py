"""An OpenAI-compatible endpoint that returns log-probs as a judge: vLLM, `vlrl serve-judge`, ...

One call per question, several at once. A failed call is retried; one that fails for good is an
error, and so is a word that the response does not list: neither becomes a score of 0.
"""

from __future__ import annotations

import base64
import io
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from PIL import Image
from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveInt

from vlrl.config.section import Section
from vlrl.errors import RewardError
from vlrl.http.address import check_address_text
from vlrl.http.client import CallError, Client
from vlrl.judge.question import Ask, ImageBook, JudgeTemplate, ReasoningOptions
from vlrl.judge.yes_token import MAX_LOGPROB, MAX_MASS, Reading, log_sum, problem_of, spellings

FILTERED_LOGPROB = -9000.0
"""Servers report less (-9999) for tokens that their sampling filter has removed."""


class EndpointJudgeOptions(Section):
    """How an endpoint is called."""

    url: Annotated[str, AfterValidator(check_address_text)] = Field(pattern="^https?://[^/]")
    """Base address, e.g. http://127.0.0.1:8000/v1."""
    model: str
    """The model's name on the server."""
    api_key_env: str | None = None
    """Environment variable that holds the key."""
    top_logprobs: PositiveInt = 20
    """How many tokens the server lists at each position; most servers allow 20."""
    concurrency: PositiveInt = 16
    timeout_s: float = Field(120.0, gt=0)
    max_tries: PositiveInt = 6
    backoff_s: NonNegativeFloat = 1.0
    """Pause before the second try; doubled before each further one, give or take a half."""


class MissingWordError(RewardError):
    """The server's list has no spelling of yes or of no."""


class EndpointJudge:
    """A judge over HTTP; raises RewardError where it cannot get an answer."""

    def __init__(
        self,
        options: EndpointJudgeOptions,
        template: JudgeTemplate,
        *,
        reasoning: ReasoningOptions | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.options, self.template, self.reasoning = options, template, reasoning
        self.yes = frozenset(spellings(template.yes))
        self.no = frozenset(spellings(template.no))
        if self.yes & self.no:
            raise RewardError(f"{sorted(self.yes & self.no)} mean both yes and no")
        self._client = Client(
            options.url,
            options.timeout_s,
            options.max_tries,
            options.backoff_s,
            key=_key(options.api_key_env),
            name="judge",
            sleep=sleep,
        )

    def ask(self, book: ImageBook, asks: Sequence[Ask]) -> list[Reading]:
        """One reading per question, in order."""
        if not asks:
            return []
        self._client.connect()
        urls = [data_url(image) for image in book.images]
        pool = ThreadPoolExecutor(self.options.concurrency, thread_name_prefix="judge")
        try:
            calls = [pool.submit(self._one, urls, ask) for ask in asks]
            return [call.result() for call in calls]
        finally:
            # After an error the other calls are not awaited: the run is about to stop.
            pool.shutdown(wait=False, cancel_futures=True)

    def _one(self, urls: Sequence[str], ask: Ask) -> Reading:
        answer = self._post(self.body(urls, ask), ask)
        try:
            content = answer["choices"][0]["logprobs"]["content"]
            places = [(str(token["token"]), _by_text(token["top_logprobs"])) for token in content]
        except _NoLogProbsError as error:
            raise self._error(str(error), ask) from error
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise self._error(
                f"the answer has no log-probs ({type(error).__name__}); the server must support "
                "`logprobs: true` and `top_logprobs`",
                ask,
            ) from error
        reading = self._reading(places, ask)
        problem = problem_of(reading)
        if problem is not None:
            raise self._error(problem, ask)
        return reading

    def body(self, urls: Sequence[str], ask: Ask) -> dict[str, Any]:
        """The request: temperature 1 and no filter, so that log-probs are the model's own."""
        content: list[dict[str, Any]] = [
            {"type": "text", "text": part}
            if isinstance(part, str)
            else {"type": "image_url", "image_url": {"url": urls[part]}}
            for part in ask.parts
        ]
        return {
            "model": self.options.model,
            "messages": [{"role": "user", "content": content}],
            # With reasoning the word comes one or two tokens after the cue.
            "max_tokens": 1 if self.reasoning is None else self.reasoning.max_tokens + 8,
            "temperature": 1.0,
            "top_p": 1.0,
            "seed": 0,
            "logprobs": True,
            "top_logprobs": self.options.top_logprobs,
        }

    def _reading(self, places: Sequence[tuple[str, Mapping[str, float]]], ask: Ask) -> Reading:
        """What the server lists at the position of the word, and the reasoning before it."""
        if not places:
            raise self._error("an answer without tokens", ask)
        if self.reasoning is None:
            return Reading(*self._words(places[0][1], ask))
        text = ""
        for i, (token, _) in enumerate(places):
            text += token
            if self.template.cue in text and i + 1 < len(places):
                listed = places[i + 1][1]
                if not self._said(listed) and i + 2 < len(places):
                    listed = places[i + 2][1]  # the cue was followed by a token of white space
                reasoning = text.partition(self.template.cue)[0].strip()
                return Reading(*self._words(listed, ask), reasoning)
        raise MissingWordError(
            str(
                self._error(
                    f"no {self.template.cue!r} in {len(places)} tokens: {text[-80:]!r}", ask
                )
            )
        )

    def _said(self, listed: Mapping[str, float]) -> bool:
        return bool(self.yes & listed.keys()) and bool(self.no & listed.keys())

    def _words(self, listed: Mapping[str, float], ask: Ask) -> tuple[float, float]:
        """Log-probs of yes and of no; MissingWordError where one of them is not listed."""
        found = []
        for name, forms in (("yes", self.yes), ("no", self.no)):
            logs = [
                listed[form]
                for form in sorted(forms & listed.keys())
                if listed[form] > FILTERED_LOGPROB
            ]
            if not logs:
                likeliest = sorted(listed, key=lambda token: -listed[token])[:5]
                problem = (
                    f"no spelling of {name!r} among the {len(listed)} tokens the server lists, "
                    f"{likeliest} first; raise `top_logprobs` here and on the server, switch its "
                    "sampling filters off, or correct the template's words"
                )
                raise MissingWordError(str(self._error(problem, ask)))
            found.append(log_sum(logs))
        return found[0], found[1]

    def _post(self, body: dict[str, Any], ask: Ask) -> Any:
        try:
            response = self._client.call("POST", "/chat/completions", json=body)
        except CallError as error:
            raise self._error(str(error), ask) from error
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise self._error(f"no JSON: {response.text[:200]!r}", ask) from None

    def _error(self, message: str, ask: Ask) -> RewardError:
        return RewardError(f"judge {self.options.url}, {ask.where}: {message}")


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "")
    if not key:
        raise RewardError(f"the environment variable {variable!r}, which holds a key, is not set")
    return key


class _NoLogProbsError(ValueError):
    """A server lists what is no distribution over tokens."""


def _by_text(listed: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Log-probs by text; several tokens may read alike, and then count together.

    Raises _NoLogProbsError for what cannot be log-probs of different tokens.
    """
    shares: dict[str, list[float]] = {}
    for one in listed:
        logp = one["logprob"]
        if isinstance(logp, bool) or not isinstance(logp, int | float) or not math.isfinite(logp):
            raise _NoLogProbsError(f"the server gives the log-prob {logp!r}, which is no number")
        if logp > MAX_LOGPROB:
            raise _NoLogProbsError(f"the server gives the log-prob {logp:g}, which is above 0")
        shares.setdefault(str(one["token"]), []).append(min(float(logp), 0.0))
    mass = sum(math.exp(logp) for own in shares.values() for logp in own)
    if mass > MAX_MASS:
        raise _NoLogProbsError(
            f"the tokens that the server lists have the probability {mass:g} together, above 1"
        )
    return {text: log_sum(own) for text, own in shares.items()}


def data_url(image: Image.Image) -> str:
    """The image as a PNG in a data URL; the server resizes it as its own processor does."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
