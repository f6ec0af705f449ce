#!/usr/bin/env bash
# Serves a checkpoint for rollouts with what vlrl needs of vLLM: log-probs of the distribution that
# answers are drawn from, requests by token ids, and the reloading of weights. On 127.0.0.1 only:
# whoever reaches its port can have it read files.
# Usage: [VENV=.venv-vllm] scripts/serve_vllm.sh MODEL [PORT] [further options of `vllm serve`]
# On a CPU a head that shares its weights with the embeddings is served as a tensor of its own;
# UNTIE=no saves that memory where no weights are published (vlrl eval).
set -euo pipefail
samplers=$(dirname "$0")/../vlrl/policy/vision_language/samplers
exec "${VENV:-.venv-vllm}/bin/python" -P "$samplers/servable.py" "$@"
