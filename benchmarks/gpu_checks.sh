#!/usr/bin/env bash
# Everything that only a GPU can show, in order of dependence; about ten minutes on an H200.
# Usage: benchmarks/gpu_checks.sh OUT [STEP...]   (steps: tests attention decode tower step devices flow;
# and engine, only by name: it needs the environment that scripts/setup_vllm.sh makes)
# Each step has its own time limit and writes OUT/STEP.log; table rows are printed at once.
set -uo pipefail
cd "$(dirname "$0")/.."
out=${1:?usage: benchmarks/gpu_checks.sh OUT [STEP...]}
shift
mkdir -p "$out"
export DS_ACCELERATOR=cuda HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 TQDM_DISABLE=1
python=${PYTHON:-python}
started=$(date +%s)

step() { # NAME LIMIT_S COMMAND...
  local name=$1 limit=$2
  shift 2
  timeout "$limit" "$@" >"$out/$name.log" 2>&1
  local code=$?
  grep -E '^\||TFLOP|billion|passed|failed|^(FAILED|ERROR)|Error' "$out/$name.log" | cut -c1-400
  echo "=== $name: exit $code, $(($(date +%s) - started)) s since the start"
}

[ $# -gt 0 ] || set -- tests attention decode tower step devices flow
for one in "$@"; do
  case $one in
    tests) step tests 120 "$python" -m pytest -q -m slow -p no:cacheprovider -n 4 tests/test_cuda.py ;;
    attention) step attention 60 "$python" benchmarks/answer_attention.py --device cuda --flex ;;
    decode) step decode 60 "$python" benchmarks/decode_step.py --device cuda --hidden 3584 \
      --prompt 1024 --group 64 --tokens 128 ;;
    tower) step tower 40 "$python" benchmarks/vision_tower.py --device cuda ;;
    step) step step 140 "$python" benchmarks/grpo_step_gpu.py --repeats 2 ;;
    devices) VLRL_SECOND_DEVICE=cuda step devices 90 "$python" -m pytest -q -m slow \
      -p no:cacheprovider -n 6 tests/test_host_device.py ;;
    flow) step flow 90 "$python" benchmarks/flow_step_gpu.py ;;
    engine) step engine 400 "$python" -m pytest -q -m slow -p no:cacheprovider tests/test_vllm.py &&
      step engine_speed 200 "$python" benchmarks/engine_speed.py --prompts 4 --repeats 2 ;;
    *) echo "unknown step $one" >&2 && exit 2 ;;
  esac
done
