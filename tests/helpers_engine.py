"""A rollout server with vLLM's protocol over real HTTP, drawn by the trainer's own loop."""

from __future__ import annotations

import base64
import io
import json
import math
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vlrl.policy.vision_language.policy import VisionLanguagePolicy
from vlrl.protocols import PolicySetup
from vlrl.types import Finish, ImagePart, Message, Sample, TextPart


class EngineServer:
    """One model behind HTTP; `faults` change what it does."""

    lock = threading.Lock()
    """Of all servers of a process: transformers does not load models on two threads at once."""

    def __init__(self, model: Path, folder: Path, **options: Any) -> None:
        self.policy = VisionLanguagePolicy(
            VisionLanguagePolicy.Options(model=str(model), num_prompt_threads=0, **options),
            PolicySetup(dtype=torch.float32, max_tokens_per_chunk=4096),
        )
        self.folder, self.model = folder, model
        self.calls: list[str] = []
        self.faults: set[str] = set()
        self.context_tokens = 1024
        self.dies_after: int | None = None
        """Groups that it still answers."""
        self.delay_s = 0.0
        """Before a group is drawn."""
        self.stops: list[threading.Event] = []
        self.slow_texts: dict[str, float] = {}
        """The same in seconds, for prompts that end so."""
        self.facts: dict[str, Any] = {"hf_overrides": {}, "logprobs_mode": "processed_logprobs"}
        self.num_gpus = 1
        self.version = "0.32.0"
        self.prompts: dict[str, Sample] = {}
        self.payload = ""
        """Of a rendered prompt: vLLM sends its patches."""
        self.refused: dict[str, int] = {}
        """Paths and the status that they answer with."""
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_address[1]}"

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        path = path.partition("?")[0]
        self.calls.append(path)
        if path == "/inference/v1/generate" and self.dies_after is not None:
            self.dies_after -= 1
        if path in self.refused:
            return self.refused[path], {"error": f"no {path}"}
        if "dead" in self.faults or (self.dies_after is not None and self.dies_after < 0):
            return 503, {"error": "the engine is dead"}
        routes: dict[str, Callable[[dict[str, Any]], Any]] = {
            "/v1/models": lambda _: {
                "data": [
                    {
                        "id": "policy",
                        "root": str(self.model),
                        "max_model_len": self.context_tokens,
                    }
                ]
            },
            "/version": lambda _: {"version": self.version},
            "/server_info": lambda _: {
                "vllm_config": {
                    "model_config": self.facts,
                    "parallel_config": {"tensor_parallel_size": self.num_gpus},
                }
            },
            "/v1/chat/completions/render": self.render,
            "/inference/v1/generate": self.generate,
            "/collective_rpc": self.reload,
            "/abort_requests": lambda _: self.interrupt(),
        }
        if path.endswith("generate"):
            time.sleep(self.delay_s)
            text = self.prompts[body["features"]["key"]].texts[-1]
            if self._is_interrupted(self.slow_texts.get(text, 0.0)):
                nothing = {"token_ids": [], "logprobs": None, "finish_reason": "abort"}
                return 200, {"choices": [nothing] * body["sampling_params"]["n"]}
        if path in routes:
            with self.lock, torch.no_grad():
                return 200, routes[path](body)
        return (200, {}) if path.startswith("/reset_") else (404, {"error": path})

    def _is_interrupted(self, seconds: float) -> bool:
        """Wait; whether new weights came meanwhile."""
        if not seconds:
            return False
        stop = threading.Event()
        self.stops.append(stop)
        return stop.wait(seconds)

    def interrupt(self) -> Any:
        for stop in self.stops:
            stop.set()
        self.stops = []
        return {"status": "aborted"}

    def render(self, body: dict[str, Any]) -> Any:
        messages = []
        for message in body["messages"]:
            parts: list[ImagePart | TextPart] = []
            for part in message["content"]:
                if part["type"] == "text":
                    parts.append(TextPart(part["text"]))
                    continue
                data = base64.b64decode(part["image_url"]["url"].partition(",")[2])
                image = Image.open(io.BytesIO(data))
                path = self.folder / f"{len(self.prompts)}_{len(parts)}.png"
                image.save(path)
                parts.append(ImagePart(str(path), *image.size))
            messages.append(Message(message["role"], tuple(parts)))
        key = str(len(self.prompts))
        # One name for all: the seed of the request alone decides.
        self.prompts[key] = Sample("asked", "x", tuple(messages), None)
        ids = self.policy.encoder.encode(self.prompts[key]).input_ids.tolist()
        if "other prompt" in self.faults:
            ids[2] += 1
        return {"token_ids": ids, "features": {"key": key, "kwargs_data": self.payload}}

    def generate(self, body: dict[str, Any]) -> Any:
        asked = body["sampling_params"]
        sample = self.prompts[body["features"]["key"]]
        greedy = asked["temperature"] == 0
        rollouts, traj = self.policy.sample([sample], asked["n"], asked["seed"], greedy=greedy)
        choices = []
        for row, rollout in enumerate(rollouts):
            mask = traj.mask[row]
            scores = [{"logprob": float(x)} for x in traj.logp[row, mask]]
            if "raw log-probs" in self.faults:  # as if drawn at temperature 1
                scores = [{"logprob": one["logprob"] * 0.7} for one in scores]
            tokens = traj.tokens[row, mask].tolist()
            if "image token" in self.faults:
                tokens[0] = self.policy.module.core.config.image_token_id
            choice: dict[str, Any] = {
                "index": row,
                "token_ids": tokens,
                "logprobs": None if "no log-probs" in self.faults else {"content": scores},
                "finish_reason": "length" if rollout.finish is Finish.LENGTH else "stop",
            }
            if "other form" in self.faults:
                choice["logprobs"] = {"content": [{"log_prob": -1.0}] * len(tokens)}
            if "no number" in self.faults:
                choice["logprobs"] = {"content": [{"logprob": math.nan}] * len(tokens)}
            choices.append(choice)
        return {"choices": choices[1:] if "one missing" in self.faults else choices}

    def reload(self, body: dict[str, Any]) -> Any:
        assert body["method"] == "reload_weights"
        core = self.policy.module.core
        new = type(core).from_pretrained(body["kwargs"]["weights_path"], dtype=torch.float32)
        weights = new.state_dict()
        if "stale embeddings" in self.faults:
            weights = {n: x for n, x in weights.items() if "embed" not in n and "lm_head" not in n}
        if "eight bits" in self.faults:  # as an engine with fp8 weights
            weights = {
                n: x.to(torch.float8_e4m3fn).to(x.dtype) if x.dim() == 2 else x
                for n, x in weights.items()
            }
        if "stale tower" in self.faults:
            weights = {n: x for n, x in weights.items() if "visual" not in n}
        if "stale head" in self.faults:  # as a tied one on vLLM's CPU build
            core.lm_head.weight = torch.nn.Parameter(core.lm_head.weight.detach().clone())
            weights.pop("lm_head.weight", None)
        if "sync lost" not in self.faults:
            core.load_state_dict(weights, strict=False)
        return {"results": [None]}


def _handler(server: EngineServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send({})

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            self._send(json.loads(self.rfile.read(size) or b"{}"))

        def _send(self, body: dict[str, Any]) -> None:
            status, found = server.answer(self.path, body)
            data = json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

    return Handler
