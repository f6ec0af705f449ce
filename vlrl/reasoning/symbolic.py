"""Whether two expressions with unknowns are the same, by math-verify in a process of its own.

There a simplification that does not end is killed, and its alarms, which fail on any thread but a
main one (verl#5635), find one. Without math-verify (the extra `math`) nothing is found to be equal.
"""

from __future__ import annotations

import atexit
import json
import logging
import select
import subprocess
import sys
import threading
from contextlib import suppress
from functools import cache, lru_cache
from importlib.util import find_spec

log = logging.getLogger(__name__)
TIMEOUT_S = 5.0
START_S = 60.0
"""Until the process has imported sympy, on a busy machine."""


@lru_cache(maxsize=4096)
def same_expression(true: str, answer: str) -> bool:
    """Whether an answer is the true expression in another form; False after TIMEOUT_S."""
    return _is_there() and _checker().ask(true, answer)


@cache
def _is_there() -> bool:
    if find_spec("math_verify") is not None:
        return True
    log.warning(
        "math-verify is not installed: expressions without a value are compared as texts; "
        "pip install 'vlrl[math]'"
    )
    return False


@cache
def _checker() -> _Checker:
    made = _Checker()
    atexit.register(made.stop)
    return made


class _Checker:
    """The process, started when it is first asked and again after it was killed."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def ask(self, true: str, answer: str) -> bool:
        with self._turn:
            process = self._process
            limit_s = TIMEOUT_S
            if process is None or process.poll() is not None:
                process, limit_s = self._start(), START_S
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(json.dumps([true, answer]) + "\n")
                process.stdin.flush()
                ready, _, _ = select.select([process.stdout], [], [], limit_s)
                line = process.stdout.readline() if ready else ""
            except OSError:
                line = ""
            if not line:
                self.stop()
                log.debug("no verdict on %r and %r in %g s", true, answer, limit_s)
            return line.strip() == "true"

    def _start(self) -> subprocess.Popen[str]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vlrl.reasoning.symbolic"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self._process

    def stop(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            with suppress(OSError):  # what it was asked is not read any more
                self._process.communicate()
            self._process = None


def serve() -> None:
    """Answer pairs, a line each, until the input ends."""
    from math_verify import parse, verify

    for line in sys.stdin:
        true, answer = json.loads(line)
        # The true one first: the check is not symmetric (Math-Verify#25).
        found = verify(parse(f"${true}$"), parse(f"${answer}$"))
        print("true" if found else "false", flush=True)


if __name__ == "__main__":
    serve()
