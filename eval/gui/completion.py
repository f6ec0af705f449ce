"""What an OpenAI-compatible server answered, as the text that the model wrote.

A completion is an answer whatever its content: null, or a tool call where the family writes none,
is a text in which nothing can be read (wrong_format), and asking again would give the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2

from vlrl.data.json_file import clean_text
from vlrl.families.profiles import Profile
from vlrl.gui.syntax import syntax_of


def read_completion(
    response: httpx2.Response, profile: Profile
) -> tuple[str | None, int, str | None]:
    """(text, tokens written, error): the text is None only where there is no completion."""
    try:
        data = response.json()
        message = data["choices"][0]["message"]
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        return None, 0, f"not a chat completion: {type(error).__name__}: {response.text[:200]}"
    if not isinstance(message, Mapping):
        return None, 0, f"not a chat completion: its message is {str(message)[:200]!r}"
    text = _joined(message.get("content"))
    if syntax_of(profile).is_json:
        text = "\n".join([*([text] if text else []), *_tool_calls(message.get("tool_calls"))])
    return clean_text(text), _num_tokens(data.get("usage")), None


def _joined(content: object) -> str:
    """A message's content: a text, or the texts of a list of parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
    return "".join(text for text in texts if isinstance(text, str))


def _tool_calls(calls: object) -> Iterator[str]:
    """Tool calls as models with one of their own write them in their text."""
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            continue
        arguments: Any = function.get("arguments")
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments)
            except (ValueError, RecursionError):
                yield arguments
                continue
        written = json.dumps(
            {"name": function.get("name"), "arguments": arguments}, ensure_ascii=False
        )
        yield f"<tool_call>\n{written}\n</tool_call>"


def _num_tokens(usage: object) -> int:
    """Tokens written; 0 where the server does not say so in a whole number."""
    number = usage.get("completion_tokens") if isinstance(usage, Mapping) else None
    return number if type(number) is int and 0 <= number < 2**53 else 0
