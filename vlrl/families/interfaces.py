"""What this project requires of the models, processors and pipelines of other libraries.

A new model family fits if its objects have these; the classes of transformers and diffusers do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    import torch
    from diffusers.models.modeling_utils import ModelMixin
    from torch import Tensor, nn

Chat = Sequence[Mapping[str, Any]]
"""Messages of a chat template: `role`, and `content` as a list of parts."""
RopeIndex = Callable[..., "tuple[Tensor, Tensor]"]
"""Ids, types and grids of a prompt -> M-RoPE positions [3, B, L], and their offsets."""


class PretrainedClass(Protocol):
    """A class of transformers that loads checkpoints, e.g. an Auto class."""

    def from_pretrained(self, name: str, /, *inputs: Any, **options: Any) -> Any:
        """The checkpoint of a folder or hub name."""


class SpecialToken(Protocol):
    """An added token of a vocabulary."""

    special: bool
    content: str


class Tokenizer(Protocol):
    """Text to token ids and back."""

    pad_token_id: int
    bos_token: str | None
    bos_token_id: int | None
    eos_token_id: int
    all_special_ids: Sequence[int]
    added_tokens_decoder: Mapping[int, SpecialToken]
    special_tokens_map: Mapping[str, str | Sequence[str]]
    """Special tokens by their role, e.g. `eos_token`."""

    def get_vocab(self) -> Mapping[str, int]:
        """Every token with its id."""

    def convert_tokens_to_ids(self, token: str, /) -> int | None:
        """The id of one token."""

    def encode(self, text: str, /, *, add_special_tokens: bool) -> list[int]:
        """Ids of a text."""

    def decode(self, ids: Sequence[int], /, *, skip_special_tokens: bool) -> str:
        """The text of some ids."""

    def batch_decode(
        self, ids: Sequence[Sequence[int]], /, *, skip_special_tokens: bool
    ) -> list[str]:
        """The text of each sequence of ids."""


class Processor(Protocol):
    """A checkpoint's tokenizer and chat template, and what turns both into tensors."""

    tokenizer: Tokenizer

    def apply_chat_template(
        self, messages: Chat, /, *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """The text of a chat, up to where the answer begins."""

    def __call__(self, **inputs: Any) -> Mapping[str, Tensor]:
        """Tensors of texts, images and videos."""

    def save_pretrained(self, folder: str, /) -> object:
        """Write the files that `from_pretrained` reads."""


class PatchProcessor(Protocol):
    """Cuts images into patches, in pixels."""

    patch_size: int
    merge_size: int
    size: Mapping[str, int]
    """`shortest_edge` and `longest_edge`: least and largest area."""


class FrameProcessor(Protocol):
    """Cuts videos into patches."""

    temporal_patch_size: int
    """Frames in one patch."""


class VisionProcessor(Processor, Protocol):
    """The processor of a vision-language model."""

    image_processor: PatchProcessor
    video_processor: FrameProcessor
    chat_template: str | Mapping[str, str] | None


class PixelScaler(Protocol):
    """An image processor that knows how a model's pixels are normalised."""

    image_mean: Sequence[float]
    image_std: Sequence[float]


class ImageWriterProcessor(Processor, Protocol):
    """The processor of a model that writes image tokens."""

    image_processor: PixelScaler
    image_start_token: str
    chat_template: str | None


class VisionTower(Protocol):
    """A vision tower whose first layer is a convolution, `patch_embed.proj`."""

    config: Any
    patch_embed: Any

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether it is trained."""


class MultimodalCore(Protocol):
    """A vision-language model without its language head."""

    visual: VisionTower
    get_rope_index: RopeIndex

    @property
    def get_image_features(self) -> Callable[..., Mapping[str, Any]]:
        """Pixels -> `pooler_output`, features of each image; `deepstack_features` in Qwen3-VL."""

    @property
    def get_video_features(self) -> Callable[..., Mapping[str, Any]]:
        """The same for videos, where a family reads them."""

    @property
    def forward(self) -> Callable[..., Any]:
        """What a call runs."""

    def __call__(self, **inputs: Any) -> Any:
        """An output with `last_hidden_state`; takes features as `mm_encoder_outputs`."""


class VisionLanguageModel(Protocol):
    """A vision-language model: its core and its language head."""

    config: Any
    """With `vision_config`, `image_token_id`, `video_token_id` and `get_text_config()`."""
    model: MultimodalCore

    def get_output_embeddings(self) -> nn.Linear:
        """The language head."""

    def get_decoder(self) -> nn.Module:
        """The language model without its head."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All weights by name."""

    def save_pretrained(self, folder: str | Path, /, **options: Any) -> object:
        """Write the files that `from_pretrained` reads."""


class CodeDecoder(Protocol):
    """A VQ model that turns image tokens into pixels."""

    config: Any
    """With `num_patches` along a side, and `channel_multiplier` of each level."""

    def decode(self, tokens: Tensor, /) -> Tensor:
        """Tokens [R, T] -> normalised pixels [R, 3, H, W]."""

    def to(self, device: torch.device, /) -> Self:
        """Move the weights."""

    def state_dict(self) -> Mapping[str, Tensor]:
        """The weights by name."""


class Scheduler(Protocol):
    """A flow-matching scheduler of diffusers."""

    config: Mapping[str, Any]
    sigmas: Tensor

    def set_timesteps(
        self, num: int, /, *, sigmas: Sequence[float] | None = None, mu: float | None = None
    ) -> None:
        """Set `sigmas`, shifted by `mu` if the shift depends on the image's size."""


class LatentDecoder(Protocol):
    """The image decoder of a latent diffusion model."""

    config: Mapping[str, Any]
    """With `scaling_factor` and `shift_factor`."""

    def decode(self, latents: Tensor, /, *, return_dict: bool) -> tuple[Tensor, ...]:
        """Latents to images in [-1, 1], [R, 3, H, W]."""

    def to(self, target: torch.device | torch.dtype, /) -> Self:
        """Move or convert the weights."""

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Set whether it is trained."""

    def eval(self) -> Self:
        """Evaluation mode."""


class FlowTransformer(Protocol):
    """The velocity network of a flow-matching pipeline."""

    config: Mapping[str, Any]

    def save_pretrained(self, folder: str | Path, /, **options: Any) -> object:
        """Write the files that `from_pretrained` reads."""


class FlowPipeline(Protocol):
    """A text-to-image pipeline of diffusers."""

    scheduler: Scheduler
    vae: LatentDecoder
    transformer: ModelMixin | None
    vae_scale_factor: int
    """Image pixels per latent pixel, along a side."""

    @property
    def components(self) -> Mapping[str, Any]:
        """Its parts by name; None for one that it does not have."""

    def encode_prompt(self, **inputs: Any) -> tuple[Tensor, ...]:
        """The prompts' embeddings, in the pipeline's own order."""

    def save_lora_weights(
        self,
        *,
        save_directory: str,
        transformer_lora_layers: Mapping[str, Tensor],
        transformer_lora_adapter_metadata: Mapping[str, Any],
    ) -> None:
        """Write an adapter that `load_lora_weights` reads."""


@runtime_checkable
class Adapted(Protocol):
    """A model inside peft's wrapper."""

    def get_base_model(self) -> nn.Module:
        """The model itself."""

    def merge_and_unload(self) -> nn.Module:
        """The model itself, with the adapter added to its weights."""

    def disable_adapter(self) -> AbstractContextManager[None]:
        """Inside, the model computes as before training."""
