"""A server with SGLang's native interface over real HTTP, drawn by the trainer's own loop."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from typing import Any

import torch
from helpers_engine import EngineServer
from PIL import Image

from vlrl.families.encoded import EncodedPrompt
from vlrl.types import Finish, Message, Sample, TextPart


class SglangServer(EngineServer):
    """One model behind HTTP; `faults` change what it does, `facts` what it says of itself."""

    weight_version = "default"
    seed = 0

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        self.calls.append(path)
        if "dead" in self.faults:
            return 503, {"error": "the engine is dead"}
        routes: dict[str, Callable[[dict[str, Any]], Any]] = {
            "/model_info": lambda _: {
                "model_path": str(self.model),
                "has_image_understanding": True,
                "preferred_sampling_params": self.facts.get("preferred_sampling_params"),
                "weight_version": self.weight_version,
            },
            "/server_info": lambda _: {"context_length": self.context_tokens, **self.facts},
            "/generate": self.generate,
            "/update_weights_from_disk": self.update,
        }
        if path not in routes:
            return 404, {"error": path}
        with self.lock, torch.no_grad():
            return 200, routes[path](body)

    def update(self, body: dict[str, Any]) -> Any:
        assert body["flush_cache"] is True
        if "no such folder" in self.faults:
            return {"success": False, "message": "Failed to get weights iterator"}
        self.reload({"method": "reload_weights", "kwargs": {"weights_path": body["model_path"]}})
        if "another trainer" not in self.faults:
            self.weight_version = body["weight_version"]
        return {"success": True, "message": "Succeeded to update model weights."}

    def generate(self, body: dict[str, Any]) -> Any:
        asked = body["sampling_params"]
        assert "top_p" not in asked
        assert "top_k" not in asked
        prompt = self.read(body["text"], body["image_data"] or [])
        one = Sample("asked", "x", (Message("user", (TextPart("read above"),)),), None)
        self.seed += 1
        seeds = [self.seed * 1000 + row for row in range(asked["n"])]
        greedy = asked["temperature"] == 0
        made = self.policy.sampler.sample([prompt], [one], asked["n"], seeds, greedy=greedy)
        ids = prompt.input_ids.tolist()
        if "other prompt" in self.faults:
            ids[2] += 1
        found = []
        for row, finish in enumerate(made.finish):
            tokens = made.tokens[row, made.mask[row]].tolist()
            if "image token" in self.faults:
                tokens[0] = self.policy.module.core.config.image_token_id
            logp = made.logp[row, made.mask[row]].tolist()
            if "raw log-probs" in self.faults:  # as if drawn at temperature 1
                logp = [0.7 * x for x in logp]
            kind = "length" if finish is Finish.LENGTH else "stop"
            answer: dict[str, Any] = {
                "text": "",
                "output_ids": tokens,
                "meta_info": {
                    "finish_reason": {"type": "abort" if "aborted" in self.faults else kind},
                    "output_token_logprobs": [
                        [x, token, None] for x, token in zip(logp, tokens, strict=True)
                    ],
                },
            }
            if "no log-probs" in self.faults:
                del answer["meta_info"]["output_token_logprobs"]
            if "other form" in self.faults:
                answer["meta_info"]["output_token_logprobs"] = [[None]] * len(tokens)
            if "no number" in self.faults:
                answer["meta_info"]["output_token_logprobs"] = [[math.nan, t] for t in tokens]
            if "old" not in self.faults:
                answer["prompt_token_ids"] = ids
            found.append(answer)
        if "one missing" in self.faults:
            found = found[1:]
        return found if asked["n"] > 1 else found[0]

    def read(self, text: str, pictures: list[str]) -> EncodedPrompt:
        """A text with pictures as the model's own processor reads it."""
        data = [base64.b64decode(one.partition(",")[2]) for one in pictures]
        images = [Image.open(io.BytesIO(one)).convert("RGB") for one in data]
        reader = self.policy.encoder
        inputs = reader.processor(
            text=[text], images=images or None, do_resize=False, return_tensors="pt"
        )
        ids = inputs["input_ids"][0]
        media = None
        if images:
            media = {"pixel_values": inputs["pixel_values"], "grid_thw": inputs["image_grid_thw"]}
        num = reader.num_visual_tokens(ids)
        return EncodedPrompt(ids, reader.positions(inputs), media, num)
