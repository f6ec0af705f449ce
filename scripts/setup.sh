#!/usr/bin/env bash
# Makes the environment: a virtual environment with the pinned packages and this checkout.
# Usage: [REQUIREMENTS=FILE] scripts/setup.sh [VENV] [PYTHON_VERSION]
# requirements/all.txt pins everything, extras included (tracking, browser, ocr, three_d, serve).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
python_version=${2:-3.11}

if ! command -v uv >/dev/null; then
  echo "uv is missing; installing it with pip" >&2
  python3 -m pip install --quiet uv || {
    echo "setup: install uv first (pip install uv), then run this again" >&2
    exit 1
  }
  python3 -m pyenv rehash 2>/dev/null || true
  hash -r
fi
uv=$(command -v uv || echo "python3 -m uv")

[ -x "$venv/bin/python" ] || $uv venv --quiet --python "$python_version" "$venv"
$uv pip install --quiet --python "$venv/bin/python" --require-hashes \
  -r "${REQUIREMENTS:-requirements/all.txt}"
# Nothing is resolved beyond the pins; the build tool comes from the environment too.
$uv pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation -e .
"$venv/bin/python" scripts/assets/images/draw_references.py
"$venv/bin/python" scripts/assets/clips/draw_clips.py

if ! command -v chromium >/dev/null && ! command -v google-chrome >/dev/null; then
  echo "setup: Chromium is not installed. Only \`vlrl screens\` needs it" \
    "(Debian and Ubuntu: apt-get install chromium)." >&2
fi
echo "setup: done in $venv"
