"""Our rewards in TRL's trainer, and TRL-style rewards in our trees."""

from __future__ import annotations

import pytest

from vlrl.errors import ConfigError, DataError, RewardError
from vlrl.reward.tree import build_reward
from vlrl.reward.trl import as_trl_reward
from vlrl.tasks.gui_grounding import GuiGrounding
from vlrl.tasks.text_to_image import TextToImage
from vlrl.types import Finish, Message, Rollout, Sample, TextPart

COLUMNS = {"bbox": [[100, 100, 200, 140]] * 2, "image_size": [[1932, 1092]] * 2}
TREE = {"sum": [{"use": "box_iou"}, {"use": "format"}]}


def gui_task() -> GuiGrounding:
    """A task that only reads answers."""
    return GuiGrounding(GuiGrounding.Options(data={"train": {"path": "unused.jsonl"}}))


def test_plain_and_conversational_completions():
    reward = as_trl_reward(TREE, task=gui_task(), name="grounding")
    assert reward.__name__ == "grounding"
    texts = ["[100,100,200,140]", "somewhere"]
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    parts = [[{"role": "assistant", "content": [{"type": "text", "text": t}]}] for t in texts]
    for completions in (texts, chats, parts):
        assert reward(prompts=["a", "a"], completions=completions, **COLUMNS) == [2.0, 0.0]


def test_missing_columns_and_misfits():
    reward = as_trl_reward(TREE, task=gui_task())
    with pytest.raises(DataError, match=r"TRL row 0: the columns `bbox`"):
        reward(prompts=["a"], completions=["b"])
    with pytest.raises(RewardError, match="one value for each completion"):
        reward(prompts=["a"], completions=["b"], bbox=[[1, 2, 3, 4]] * 2)

    options = {"data": {"train": {"path": "captions.jsonl"}}, "width_px": 8, "height_px": 8}
    with pytest.raises(ConfigError, match="sample_from_columns"):
        as_trl_reward(TREE, task=TextToImage(TextToImage.Options(**options)))


def tiny_tokenizer():
    """Bytes as tokens, made here: no download."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {symbol: number for number, symbol in enumerate([*alphabet, "<eos>", "<pad>"])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", padding_side="left"
    )


def test_one_step_of_trls_trainer(tmp_path):
    import torch
    from datasets import Dataset
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    rows = [
        {"prompt": f"Click: item {i}", "bbox": [100, 100, 200, 140], "image_size": [1932, 1092]}
        for i in range(4)
    ]
    seen = []
    ours = as_trl_reward(TREE, task=gui_task(), name="grounding")

    def watched(**given):
        values = ours(**given)
        seen.append(values)
        return values

    trainer = GRPOTrainer(
        model=Qwen2ForCausalLM(config),
        processing_class=tokenizer,
        reward_funcs=[ours, watched],
        train_dataset=Dataset.from_list(rows),
        args=GRPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            max_steps=1,
            num_generations=2,
            per_device_train_batch_size=2,
            max_completion_length=4,
            save_strategy="no",
            logging_steps=1,
            disable_tqdm=True,
        ),
    )
    trainer.train()
    assert trainer.state.global_step == 1
    assert seen
    assert all(len(values) == 2 and values == [0.0, 0.0] for values in seen)
    assert "rewards/grounding/mean" in trainer.state.log_history[0]


def rollouts(texts) -> list[Rollout]:
    """Rollouts with a user's column."""
    out = []
    for number, text in enumerate(texts):
        prompt = (Message("user", (TextPart("Say it"),)),)
        sample = Sample(f"s{number}", "t", prompt, None, {"answer": "yes", "level": number})
        out.append(Rollout(sample, number, 0, text, Finish.STOP, 1, 0))
    return out


def says_answer(completions, answer, **kwargs):
    """A user's reward, as the TRL documentation writes them."""
    return [
        1.0 if chat[0]["content"] == wanted else None
        for chat, wanted in zip(completions, answer, strict=True)
    ]


def strict_signature(completions, level, *, scale: float = 1.0):
    """Names its parameters, without **kwargs, and has an option."""
    return [scale * number for number in level]


async def slow_judge(prompts, completions, **kwargs):
    """TRL takes coroutines too."""
    return [float(prompt[0]["content"][0]["text"] == "Say it") for prompt in prompts]


def asks_too_much(completions, solution, **kwargs):
    """Needs a column that is not there."""
    return [0.0 for _ in completions]


def one_short(completions, **kwargs):
    """Returns too few values."""
    return [0.0]


def trl_values(name, **options):
    """The values of a function of this file, used from a config."""
    from vlrl.reward.functions import spec_of

    spec = spec_of(globals()[name])
    reward = spec.reward_class(name, spec, options)
    return [score.value for score in reward(rollouts(["yes", "no"]))]


def test_trl_style_rewards_in_our_trees():
    assert trl_values("says_answer") == [1.0, None]
    assert trl_values("strict_signature", scale=2.0) == [0.0, 2.0]
    assert trl_values("slow_judge") == [1.0, 1.0]
    with pytest.raises(RewardError, match="asks for 'solution'"):
        trl_values("asks_too_much")
    with pytest.raises(RewardError, match="1 values for 2 completions"):
        trl_values("one_short")
    with pytest.raises(ConfigError, match="no option 'scal'"):
        trl_values("strict_signature", scal=2.0)


def test_user_reward_by_path(tmp_path, monkeypatch):
    (tmp_path / "own_rewards.py").write_text(
        "def short(completions, **kwargs):\n"
        "    return [float(len(chat[0]['content']) < 3) for chat in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    reward = build_reward({"sum": [{"use": "own_rewards:short", "weight": 2.0}]})
    scores = reward(rollouts(["yes", "no"]))
    assert [score.value for score in scores] == [0.0, 2.0]
    assert scores[1].parts == {"short": 1.0}
