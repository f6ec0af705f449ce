"""A tiny Janus of the real classes, and policies and runs on it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from helpers_runs import run_config
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from vlrl.policy.image_tokens.policy import ImageTokenPolicy
from vlrl.protocols import PolicySetup
from vlrl.types import Message, Sample, TextPart

CAPTIONS = ("a red apple", "a big blue car on a white road", "two cats", "a small dog")
SPECIAL = {
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "image_token": "<image_placeholder>",
    "boi_token": "<begin_of_image>",
    "eoi_token": "<end_of_image>",
}
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}> "
    "{% for part in message['content'] %}{{ part['text'] }} {% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)
NUM_CODES = 64


def _tokenizer() -> Any:
    words = sorted({word for caption in CAPTIONS for word in caption.split()})
    listed = [*SPECIAL.values(), "<user>", "<assistant>", *words]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(listed)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 0)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        padding_side="left",
        **{k: v for k, v in SPECIAL.items() if k not in ("image_token", "boi_token", "eoi_token")},
        extra_special_tokens={k: SPECIAL[k] for k in ("image_token", "boi_token", "eoi_token")},
    )


def save_janus(folder: Path, *, tied: bool = False) -> Path:
    """Images of 16 x 16 pixels in 4 x 4 tokens of 64 codes, as a checkpoint."""
    tokenizer = _tokenizer()
    torch.manual_seed(0)
    config = transformers.JanusConfig(
        text_config=transformers.LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=128,
            tie_word_embeddings=tied,
        ),
        vision_config=transformers.models.janus.configuration_janus.JanusVisionConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=16,
            patch_size=4,
            projection_dim=32,
            num_image_tokens=16,
        ),
        vq_config=transformers.models.janus.configuration_janus.JanusVQVAEConfig(
            embed_dim=4,
            num_embeddings=NUM_CODES,
            latent_channels=8,
            base_channels=32,
            channel_multiplier=[1, 1, 1],
            num_res_blocks=1,
            projection_dim=32,
            image_token_embed_dim=32,
        ),
        image_token_id=tokenizer.convert_tokens_to_ids("<image_placeholder>"),
        tie_word_embeddings=tied,
    )
    model = transformers.JanusForConditionalGeneration(config)
    with torch.no_grad():
        # Larger than the default, so that two wrong models would not look alike; a code's colour
        # also has to get through the decoder's normalisations.
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "vqmodel" not in name:
                parameter.mul_(6.0)
        torch.nn.init.normal_(model.model.generation_embeddings.weight)
        _make_codes_visible(model.model.vqmodel)
    generation = model.generation_config
    generation.bos_token_id = tokenizer.bos_token_id
    generation.eos_token_id = tokenizer.eos_token_id
    generation.pad_token_id = tokenizer.pad_token_id
    generation.generation_kwargs = {
        "boi_token_id": tokenizer.convert_tokens_to_ids("<begin_of_image>")
    }
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    images = transformers.JanusImageProcessor(
        image_mean=[0.5] * 3, image_std=[0.5] * 3, size={"height": 16, "width": 16}
    )
    transformers.JanusProcessor(
        images, tokenizer, chat_template=TEMPLATE, num_image_tokens=16
    ).save_pretrained(folder)
    return folder


def _make_codes_visible(vq: Any) -> None:
    """Codes of two kinds that are visible in the image despite a random decoder's noise."""
    codes = vq.quantize.embedding.weight
    torch.nn.init.normal_(codes)
    codes[:, 0] = torch.where(torch.arange(len(codes)) % 2 == 0, 4.0, -4.0)
    for name, parameter in (*vq.post_quant_conv.named_parameters(), *vq.decoder.named_parameters()):
        if parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter, nonlinearity="linear")
        if "conv2" in name or "proj_out" in name:
            parameter.mul_(0.1)
    vq.decoder.conv_out.weight.mul_(0.3)


def samples(*captions: str) -> list[Sample]:
    """One sample per caption, without target."""
    return [
        Sample(text.replace(" ", "-"), "text_to_image", (Message("user", (TextPart(text),)),), None)
        for text in captions or CAPTIONS[:3]
    ]


def make_janus(folder: Path, **options: Any) -> ImageTokenPolicy:
    """A policy; keyword arguments are options of the config, except two of the run's."""
    kl = options.pop("kl_estimator", "auto")
    budget = options.pop("max_tokens_per_chunk", 100_000)
    torch.manual_seed(0)
    settings = {"guidance_scale": 3.0, **options}
    return ImageTokenPolicy(
        ImageTokenPolicy.Options(model=str(folder), **settings),
        PolicySetup(dtype=torch.float32, max_tokens_per_chunk=budget, kl_estimator=kl),
    )


def theirs(folder: Path, caption: str, scale: float) -> tuple[torch.Tensor, np.ndarray]:
    """Greedy tokens and image of transformers' own generate."""
    model = transformers.JanusForConditionalGeneration.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    # Loading a generation config drops this.
    boi = processor.tokenizer.convert_tokens_to_ids("<begin_of_image>")
    model.generation_config.generation_kwargs = {"boi_token_id": boi}
    chat = [{"role": "user", "content": [{"type": "text", "text": caption}]}]
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], generation_mode="image", return_tensors="pt")
    tokens = model.generate(
        **inputs,
        generation_mode="image",
        do_sample=False,
        guidance_scale=scale,
        num_return_sequences=1,
        max_length=64,
    )
    with torch.no_grad():
        decoded = model.decode_image_tokens(tokens)[0]
    return tokens[0], ((decoded / 2 + 0.5).clamp(0, 1) * 255).numpy()


def write_captions(folder: Path) -> Path:
    """The captions as a split of `text_to_image`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "captions.jsonl"
    rows = [{"id": f"c{i}", "caption": caption} for i, caption in enumerate(CAPTIONS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def janus_run(model: Path, data: Path, out: Path, name: str, **over: Any) -> dict[str, Any]:
    """A run of this policy; `over` as in run_config."""
    parts: dict[str, Any] = {
        "task": {
            "use": "text_to_image",
            "width_px": 16,
            "height_px": 16,
            "data": {"train": {"path": str(data)}},
        },
        "policy": {"use": "image_tokens", "model": str(model), "guidance_scale": 2.0},
        "reward": {"use": "helpers_janus:sky"},
        "algo": {"num_prompts": 4, "group_size": 8},
    }
    return run_config(out, name, parts, over)


def sky(rollout: Any) -> float:
    """Something that a model learns quickly: brighter in the half that is written first."""
    image = rollout.parsed.image / 255
    return float(image[:8].mean() - image[8:].mean())
