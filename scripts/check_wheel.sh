#!/usr/bin/env bash
# Builds the wheel and proves that it works installed, with nothing of the checkout on its path:
# no module is missing, none has two names, a dry run and a training step run from an empty folder.
# Usage: scripts/check_wheel.sh [VENV]. The pinned packages are read from VENV; only vlrl is not.
set -euo pipefail
cd "$(dirname "$0")/.."
checkout=$PWD
venv=$(cd "${1:-.venv}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HF_HUB_OFFLINE=1 DS_ACCELERATOR=cpu TOKENIZERS_PARALLELISM=false OMP_NUM_THREADS=1
unset PYTHONPATH

"$venv/bin/python" -m build --wheel --no-isolation --outdir "$work/wheel" . >"$work/build.log" 2>&1 ||
  { cat "$work/build.log" >&2; exit 1; }

# An environment of its own. What a .pth file adds is only searched, so the .pth of the editable
# install that lies in that folder does nothing here.
"$venv/bin/python" -m venv --without-pip "$work/venv"
python=$work/venv/bin/python
site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
"$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))' >"$site/pinned.pth"
uv pip install --quiet --python "$python" --no-deps --no-index "$work"/wheel/*.whl

mkdir "$work/empty"
cd "$work/empty"
"$python" -I "$checkout/scripts/check_wheel.py" "$checkout" "$work"/wheel/*.whl

recipe=gui_grounding/tiny
data=$checkout/assets/new_screens
overrides=(
  policy.model="$checkout/assets/models/tiny_qwen2_5_vl"
  task.data.train.path="$data/train.jsonl"
  task.data.new_screens.path="$data/held_out.jsonl"
  task.data.held_out.path="$checkout/assets/screens/held_out.jsonl"
  task.data.unseen_apps.path="$checkout/assets/screens/unseen_apps.jsonl"
  dist.precision=fp32 num_steps=1 algo.num_prompts=2 algo.group_size=2
  'eval.splits=[]' log.console=false name=from_wheel
)
"$work/venv/bin/vlrl" train --config "$recipe" --dry-run "${overrides[@]}" >"$work/dry_run.log" ||
  { cat "$work/dry_run.log" >&2; exit 1; }
PATH="$work/venv/bin:$PATH" "$work/venv/bin/vlrl" train --config "$recipe" "${overrides[@]}" \
  >"$work/train.log" 2>&1 || { tail -50 "$work/train.log" >&2; exit 1; }
test "$(wc -l <runs/from_wheel/metrics.jsonl)" -eq 1
echo "check_wheel: done"
