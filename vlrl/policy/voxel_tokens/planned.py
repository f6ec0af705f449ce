"""This policy without its weights, for a plan of memory and time (vlrl/protocols/planned.py)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from vlrl.config.architectures import read_json
from vlrl.config.resolve import check
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language import layout
from vlrl.policy.vision_language.answers import Answers
from vlrl.policy.vision_language.planned import A_WORD, TEXT_TOKENS, PlannedVisionLanguage
from vlrl.policy.voxel_tokens.codec import VoxelCodec
from vlrl.policy.voxel_tokens.codec_files import CONFIG
from vlrl.policy.voxel_tokens.grammar import CODES, Grammar, MeshTokens, max_tokens, program
from vlrl.policy.voxel_tokens.module import VoxelTokenLogProbs
from vlrl.policy.voxel_tokens.options import VoxelCodecConfig, VoxelTokensConfig
from vlrl.protocols.planned import PlannedRun

INSTRUCTION_TOKENS = 48
"""Of the further turn that asks for details."""


class PlannedVoxelTokens(PlannedVisionLanguage):
    """A language model that writes voxel codes on the meta device, and its codec."""

    has_images = False
    module: VoxelTokenLogProbs

    def __init__(self, options: VoxelTokensConfig, run: PlannedRun) -> None:
        from vlrl.policy.voxel_tokens.policy import as_language_model

        super().__init__(as_language_model(options), run)
        shape = _codec_shape(options)
        with torch.device("meta"):
            codec = VoxelCodec(shape).requires_grad_(False)
        self.others = (codec,)
        limits = [options.max_plan_tokens]
        if options.refine is not None:
            limits.append(options.refine.max_plan_tokens)
        size = self.config.get_text_config().vocab_size
        self.mesh = MeshTokens(size - shape.num_codes - 2, shape.num_codes, size - 2, size - 1)
        self.segments = program(
            self.mesh,
            shape.num_tokens,
            limits,
            [A_WORD] * INSTRUCTION_TOKENS,
            constrained=options.constrained,
        )
        plain = self.module
        self.module = VoxelTokenLogProbs(
            plain.model,
            plain.sampling,
            plain.forbidden,
            plain.num_head_chunks,
            self.mesh,
            torch.zeros(0, dtype=torch.long),
        )

    @property
    def max_new_tokens(self) -> int:
        """The longest answer."""
        return max_tokens(self.segments)

    def _longest_prompt(self) -> int:
        return TEXT_TOKENS

    def forward(self, trajectory: TokenTrajectory) -> Tensor:
        """The update's forward pass over a trajectory."""
        rows = (layout.shared if self.share else layout.plain)(trajectory, A_WORD)
        kinds = torch.full((len(rows.targets),), CODES)
        logp, _ = self.module(
            rows.input_ids, rows.positions, rows.attention_mask, rows.predictor, rows.targets,
            kinds, rows.groups,
        )  # fmt: skip
        return logp.sum()

    def answers(self, num_rows: int, num_tokens: int) -> Answers:
        """Nothing written yet, under the grammar of plans and codes."""
        answers = super().answers(num_rows, num_tokens)
        answers.rules = Grammar(self.segments, self.mesh, answers.stop_tokens, num_rows)
        return answers


def _codec_shape(options: VoxelTokensConfig) -> VoxelCodecConfig:
    folder = Path(options.codec)
    if (folder / CONFIG).is_file():
        return check(VoxelCodecConfig, read_json(folder / CONFIG))
    return options.codec_shape or VoxelCodecConfig()
