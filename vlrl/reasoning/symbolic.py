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
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, lru_cache
from importlib.util import find_spec

log = logging.getLogger(__name__)
TIMEOUT_S = 5.0
START_S = 60.0
"""Until the process has imported sympy, on a busy machine; no question's time."""
MAX_FAILED_STARTS = 3
"""In a row, after which no process is started again."""
READY = "ready"


COMMAND = (sys.executable, "-m", "vlrl.reasoning.symbolic")


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

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()
        self._failed_starts = 0

    def ask(self, true: str, answer: str) -> bool:
        with self._turn:
            process = self._running()
            if process is None:
                return False
            line = ""
            assert process.stdin is not None
            with suppress(OSError):
                process.stdin.write(json.dumps([true, answer]) + "\n")
                process.stdin.flush()
                line = _line(process, TIMEOUT_S)
            if not line:
                self.stop()
                log.debug("no verdict on %r and %r in %g s", true, answer, TIMEOUT_S)
            return line == "true"

    def _running(self) -> subprocess.Popen[str] | None:
        """The process, which has said that it is ready; None if it does not start."""
        if self._process is not None and self._process.poll() is None:
            return self._process
        if self._failed_starts >= MAX_FAILED_STARTS:
            return None
        self.stop()
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        if _line(self._process, START_S) == READY:
            self._failed_starts = 0
            return self._process
        self.stop()
        self._failed_starts += 1
        if self._failed_starts == MAX_FAILED_STARTS:
            log.warning(
                "math-verify did not start %d times, %g s each at most: expressions without a "
                "value are compared as texts; see `%s`",
                MAX_FAILED_STARTS,
                START_S,
                " ".join(self._command),
            )
        return None

    def stop(self) -> None:
        """Kill the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            with suppress(OSError):  # what it was asked is not read any more
                self._process.communicate()
            self._process = None


def _line(process: subprocess.Popen[str], limit_s: float) -> str:
    """The next line that it writes; empty after the limit, or where it has ended."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], limit_s)
    return process.stdout.readline().strip() if ready else ""


def serve() -> None:
    """Say that it is ready, then answer pairs, a line each, until the input ends."""
    from math_verify import parse, verify

    verify(parse("$x+1$"), parse("$1+x$"))  # the first check loads what all others use
    print(READY, flush=True)
    for line in sys.stdin:
        true, answer = json.loads(line)
        # The true one first: the check is not symmetric (Math-Verify#25).
        found = verify(parse(f"${true}$"), parse(f"${answer}$"))
        print("true" if found else "false", flush=True)


if __name__ == "__main__":
    serve()
