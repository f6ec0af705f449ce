#!/usr/bin/env bash
# Serves a checkpoint for rollouts with what vlrl needs of vLLM: log-probs of the distribution that
# answers are drawn from, requests by token ids, and the reloading of weights. On 127.0.0.1 only:
# whoever reaches its port can have it read files.
# Usage: [VENV=.venv-vllm] scripts/serve_vllm.sh MODEL [PORT] [further options of `vllm serve`]
set -euo pipefail
model=$1
port=${2:-8000}
shift $(($# < 2 ? $# : 2))
venv=${VENV:-.venv-vllm}
export VLLM_SERVER_DEV_MODE=1 VLLM_LOGGING_LEVEL=${VLLM_LOGGING_LEVEL:-WARNING}
own=() untie=()
if ! command -v nvidia-smi >/dev/null; then
  export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1} VLLM_CPU_OMP_THREADS_BIND=nobind
  export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} TOKENIZERS_PARALLELISM=false
  # A head that shares its weights with the embeddings would never be reloaded. UNTIE=no saves the
  # memory where no weights are published (vlrl eval).
  [ "${UNTIE:-yes}" = no ] || untie=(--untie)
  # A prompt in several parts and a seed end vLLM 0.32 on a CPU: no batch may cut one.
  own=(--dtype float32 --enforce-eager --max-model-len 2048 --max-num-seqs 32
    --max-num-batched-tokens 16384)
fi
here=$(dirname "$0")/../vlrl/policy/vision_language/samplers
served=$("$venv/bin/python" "$here/servable.py" "$model" "${untie[@]}")
exec "$venv/bin/vllm" serve "${served%%$'\n'*}" --hf-overrides "${served##*$'\n'}" \
  --served-model-name policy --host 127.0.0.1 --port "$port" \
  --logprobs-mode processed_logprobs --enable-scale-out --enable-prefix-caching "${own[@]}" "$@"
