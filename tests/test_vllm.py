"""Three GRPO steps by a real vLLM server, at tiny size (scripts/setup_vllm.sh makes its
environment; VLRL_VLLM_ENV names another one)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers_runs import ROOT, run_config
from transformers import AutoProcessor, AutoTokenizer

from vlrl.build import build_trainer
from vlrl.config.resolve import check, load_run_config
from vlrl.config.schema import RunConfig
from vlrl.errors import EngineError
from vlrl.eval.command import main as evaluate
from vlrl.policy.vision_language.samplers.checked import CheckedSampler

EMBEDDED = ROOT / "assets/models/tiny_qwen2_5_vl"
VENV = Path(os.environ.get("VLRL_VLLM_ENV", ROOT / ".venv-vllm"))
START_S = 300.0
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [8, 12, 12]}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (VENV / "bin/vllm").is_file(),
        reason="no vLLM environment: scripts/setup_vllm.sh makes one",
    ),
]


def tiny(kind: str, folder: Path, *, tied: bool = False) -> Path:
    """A random model of a size that vLLM's kernels take, with the embedded tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED)
    names = {"image": "image_pad", "video": "video_pad", "vision_start": "vision_start",
             "vision_end": "vision_end"}  # fmt: skip
    ids = {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"<|{token}|>")
        for name, token in names.items()
    }
    text: dict[str, Any] = {
        "vocab_size": -(-len(tokenizer) // 64) * 64, "hidden_size": 128,
        "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 1, "max_position_embeddings": 4096, "tie_word_embeddings": tied,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 128, "num_heads": 2,
              "out_hidden_size": 128}  # fmt: skip
    torch.manual_seed(0)
    processor = AutoProcessor.from_pretrained(EMBEDDED)
    if kind == "qwen2_5_vl":
        config: Any = transformers.Qwen2_5_VLConfig(
            text_config={**text, "rope_parameters": ROPE},
            vision_config={**vision, "window_size": 112, "fullatt_block_indexes": [1]},
            tie_word_embeddings=tied, **ids,
        )  # fmt: skip
        model: Any = transformers.Qwen2_5_VLForConditionalGeneration(config)
    else:
        config = transformers.Qwen3VLConfig(
            text_config={**text, "head_dim": 64,
                         "rope_parameters": {**ROPE, "mrope_interleaved": True}},
            vision_config={**vision, "num_position_embeddings": 256,
                           "deepstack_visual_indexes": [0], "patch_size": 16},
            tie_word_embeddings=tied, **ids,
        )  # fmt: skip
        model = transformers.Qwen3VLForConditionalGeneration(config)
        processor = transformers.Qwen3VLProcessor(
            image_processor=transformers.Qwen2VLImageProcessor(patch_size=16, merge_size=2),
            tokenizer=tokenizer,
            video_processor=transformers.Qwen3VLVideoProcessor(),
            chat_template=processor.chat_template,
        )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(4.0)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


class Vllm:
    """A server that can be killed and started again on the same port."""

    def __init__(self, model: Path, folder: Path, *, untie: bool = True) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.model, self.url = model, f"http://127.0.0.1:{self.port}"
        self.log, self.untie = folder / "vllm.log", "yes" if untie else "no"
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "VENV": str(VENV), "HF_HUB_OFFLINE": "1",
                       "UNTIE": self.untie}  # fmt: skip
        environment.pop("PYTHONPATH", None)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(ROOT / "scripts/serve_vllm.sh"), str(self.model), str(self.port)],
                env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        until = time.monotonic() + START_S
        while time.monotonic() < until and self.process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=2) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(1)
        pytest.fail(self.log.read_text(errors="replace")[-4000:])

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@pytest.fixture
def servers() -> Iterator[list[Vllm]]:
    made: list[Vllm] = []
    yield made
    for server in made:
        if server.process.poll() is None:
            server.kill()


def run(server: Vllm, screens: Path, out: Path, **over: Any) -> RunConfig:
    parts = {
        "task": {
            "use": "gui_grounding", "profile": "qwen3_vl", "prompt": "Click: {instruction}",
            "min_pixels": 65_536, "max_pixels": 200_704,
            "data": {"train": {"path": str(screens)}},
        },
        "policy": {
            "use": "vision_language", "model": str(server.model), "max_new_tokens": 8,
            "temperature": 0.7, "top_p": 0.9, "min_pixels": 65_536, "max_pixels": 200_704,
            "engine": {"use": "vllm", "urls": [server.url], "max_tries": 2, "backoff_s": 0.5,
                       "max_gap": 0.01, "num_canary_rows": 8},
        },
        "reward": {"use": "helpers_runs:letters"},
        "algo": {"num_prompts": 2, "group_size": 4,
                 "rollout_correction": {"mode": "truncate"}},
    }  # fmt: skip
    if "qwen2_5" in str(server.model):
        parts["task"]["profile"] = "qwen2_5_vl"
    return check(RunConfig, run_config(out, "run", parts, {"optim__lr": 0.01, **over}))


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
def test_three_steps_a_lost_sync_and_a_killed_server(
    kind: str, screens: Path, tmp_path: Path, servers: list[Vllm]
) -> None:
    server = Vllm(tiny(kind, tmp_path / kind), tmp_path)
    servers.append(server)
    config = run(server, screens, tmp_path)
    trainer = build_trainer(config, None)
    for _ in range(2):
        metrics = trainer.train_step()
        assert metrics["engine/gap"] < 1e-4, "after every sync"
        assert metrics["update/ratio"] == 1.0
        assert metrics["correction/weight"] == pytest.approx(1.0, abs=1e-3)
    server.kill()
    with pytest.raises(EngineError, match="Stopped after step 2, which is saved"):
        trainer.train()
    server.start()
    again = build_trainer(config, "auto")
    assert again.step == 2
    again.train()
    assert again.step == 3
    # A sync that is left out shows at once.
    policy = again.policy
    sampler = policy.sampler
    assert isinstance(sampler, CheckedSampler)
    with torch.no_grad():
        for parameter in policy.module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter) * parameter.std())
    sampler.inner.version = policy.version  # as if they had been published
    sampler.is_checked = False
    with pytest.raises(EngineError, match="look stale"):
        policy.sample(again.task.samples("train")[:2], 4, seed=9)


def test_the_embedded_model_is_served_with_its_cycle_of_axes_and_its_tied_head(
    tmp_path: Path, servers: list[Vllm]
) -> None:
    """The demo's model as it is shipped: its recipe needs nothing but the server's url."""
    server = Vllm(EMBEDDED, tmp_path)
    servers.append(server)
    config = load_run_config([ROOT / "configs/gui_grounding/tiny.yaml"], [
        f"out={tmp_path}", "dist.precision=fp32", "dist.num_threads=1", "eval.splits=[]",
        "algo.num_prompts=4", "algo.group_size=4", "num_steps=3", "optim.num_warmup_steps=0",
        "policy.engine.use=vllm", f"policy.engine.urls=[{server.url}]",
        "policy.engine.max_gap=1e-4", "log.console=false", "log.report=false",
        "checkpoint.export=false",
    ])  # fmt: skip
    trainer = build_trainer(config, None)
    for _ in range(3):
        metrics = trainer.train_step()
        assert 0 < metrics["engine/gap"] < 1e-4, "after every sync"
        assert metrics["update/ratio"] == 1.0


def test_a_server_that_the_evaluation_starts_gives_the_own_loops_verdicts(tmp_path: Path) -> None:
    for name, more in (("own", []), ("vllm", ["--engine", "vllm", "--engine-env", str(VENV)])):
        asked = ["--benchmark", "held_out", "--model", str(EMBEDDED), "--limit", "48", "--quiet"]
        assert evaluate([*asked, "--zoom", "0.5", "--out", str(tmp_path / name), *more]) == 0
    own, served = ((tmp_path / name / "predictions.jsonl").read_text() for name in ("own", "vllm"))
    assert served == own, "item by item, answers and verdicts"
    assert len(own.splitlines()) == 48


def test_vllm_inside_the_trainers_process(screens: Path) -> None:
    """In vLLM's own environment, with what it lacks of the trainer's."""
    site = str(Path(transformers.__file__).parent.parent)
    program = [str(VENV / "bin/python"), str(ROOT / "tests/colocated_steps.py")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DS_ACCELERATOR": "cpu"}
    environment.pop("PYTHONPATH", None)
    out = subprocess.run(
        [*program, str(EMBEDDED), str(screens), site],
        env=environment, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert out.returncode == 0, out.stderr[-3000:]
    found = json.loads(out.stdout.splitlines()[-1])
    assert len(found["gaps"]) == 3
    assert max(found["gaps"]) < 1e-4, "after every publication"
    assert found["greedy"] == found["own_greedy"]


def test_tied_embeddings_that_a_reload_leaves_stale_are_caught(
    screens: Path, tmp_path: Path, servers: list[Vllm]
) -> None:
    """vLLM 0.32 on a CPU keeps the head that it had: 0.2 nats a token and more."""
    server = Vllm(tiny("qwen2_5_vl", tmp_path / "qwen2_5_vl", tied=True), tmp_path, untie=False)
    servers.append(server)
    trainer = build_trainer(run(server, screens, tmp_path), None)
    policy = trainer.policy
    some = trainer.task.samples("train")[:2]
    policy.sample(some, 4, seed=1)
    assert policy.facts()["engine/gap"] < 1e-4
    with torch.no_grad():
        table = policy.module.core.get_output_embeddings().weight
        table.add_(0.5 * torch.randn_like(table) * table.std())
    policy.version += 1
    with pytest.raises(EngineError, match="tied embeddings"):
        policy.sample(some, 4, seed=1)


@pytest.mark.parametrize("kind", ["qwen2_5_vl", "qwen3_vl"])
def test_answers_that_new_weights_interrupt_go_on_with_them(
    kind: str, screens: Path, tmp_path: Path, servers: list[Vllm]
) -> None:
    """Every token's log-prob is that of the weights that its version names."""
    server = Vllm(tiny(kind, tmp_path / kind), tmp_path)
    servers.append(server)
    over = {"policy__max_new_tokens": 1500, "policy__engine__swap": "middle"}
    trainer = build_trainer(run(server, screens, tmp_path, **over), None)
    policy, samples = trainer.policy, trainer.drawing.samples[:2]
    old = {name: tensor.clone() for name, tensor in policy.module.state_dict().items()}
    policy.publish(samples[0])
    draw = policy.begin(samples, 4, seed=3)
    with ThreadPoolExecutor(1) as pool:
        made = pool.submit(draw)
        time.sleep(1.0)  # of four and more
        with torch.no_grad():
            for parameter in policy.module.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter) * parameter.std())
        policy.version += 1
        policy.publish(samples[0])
        rollouts, traj = made.result()
    new = {name: tensor.clone() for name, tensor in policy.module.state_dict().items()}
    swapped = [r for r in rollouts if (r.policy_version, r.last_version) == (0, 1)]
    assert swapped, "none was under way when the weights came"
    assert traj.version is not None
    gaps = []
    for version, weights in enumerate((old, new)):
        policy.module.load_state_dict(weights)
        mine = traj.mask & (traj.version == version)
        gap = (policy.score(traj) - traj.logp).abs()
        assert float(gap[mine].max()) < 1e-3
        assert float(gap[mine].mean()) < 1e-5
        gaps.append(float(gap[traj.mask & ~mine].mean()))
    assert min(gaps) > 1e-3, "under the other weights they are not"
