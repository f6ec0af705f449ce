#!/usr/bin/env bash
# The quick suite in two processes, every other file each: one alone leaves a core idle.
# Usage: scripts/test.sh [PYTHON [PYTEST OPTIONS]]
set -u
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
shift || true
files=(tests/test_*.py)
odd=() even=()
for i in "${!files[@]}"; do
  if ((i % 2)); then odd+=("${files[i]}"); else even+=("${files[i]}"); fi
done
log=$(mktemp)
"$python" -m pytest -m "not slow" --durations=10 "$@" "${odd[@]}" >"$log" 2>&1 &
other=$!
"$python" -m pytest -m "not slow" --durations=10 "$@" "${even[@]}"
first=$?
wait "$other"
second=$?
cat "$log"
rm -f "$log"
exit $((first > second ? first : second))
