"""What ScreenSpot-Pro's adapters and UI-Venus 1.0 make of a model's answer.

Their methods are run whole; in place of the model and its libraries stands an object that returns
the answer.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from released.comparison import Answer, Comparison, Json
from released.gui_inputs import CODE_EDGES, Text, before, box, point, texts, texts_on_images, unit
from released.gui_parsers import pyautogui, quiet, readme_function
from released.source import Source

PRO = "likaixin2000/ScreenSpot-Pro-GUI-Grounding"
PRO_COMMIT = "bd8bbbb470fbc4fda2a4fa9ec90bd2572507794e"


class Standin:
    """A model, its processor and their tensors: everything leads to the answer."""

    def __init__(self, answer: str, width: int = 1000, height: int = 1000, chat: Any = None):
        self.content = self.text = answer
        self.width, self.height, self.min_pixels = width, height, 3_136
        self.patch_size, self.merge_size = 14, 2
        self._chat = chat

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: object, **options: object) -> Any:
        return self

    def __getitem__(self, key: object) -> Any:
        return self.content if isinstance(key, slice) else self

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 1

    def __add__(self, other: object) -> Any:
        return self

    def __contains__(self, item: object) -> bool:
        return False

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None: ...

    def keys(self) -> tuple[str, ...]:
        """None: `**inputs` passes nothing on."""
        return ()

    def batch_decode(self, *args: object, **options: object) -> list[str]:
        """The answer."""
        return [self.content]

    def chat(self, *args: object, **options: object) -> Any:
        """(answer, history), or the answer alone."""
        return self._chat if self._chat is not None else (self.content, None)


def adapter(file: str, name: str, *helpers: str, plain_chat: bool = False) -> Any:
    """`ground_only_positive` of a class: the click from 0 to 1, or nothing."""

    def released(source: Source) -> Answer:
        anything = Standin("")
        libraries = (
            "torch", "BytesIO", "base64", "SamplingParams", "GuidedDecodingParams", "LLM",
            "load_image", "internvl_preprocess_image",
        )  # fmt: skip
        given: dict[str, object] = {
            **dict.fromkeys(libraries, anything), "re": re, "os": os, "json": json, "print": quiet,
            "BaseModel": BaseModel, "Field": Field, "Literal": Literal, "Any": Any,
            "ValidationError": ValidationError, "smart_resize": smart_resize,
            "process_vision_info": lambda messages: (None, None),
            "convert_pil_image_to_base64": lambda image: "", "BadRequestError": ValidationError,
        }  # fmt: skip
        size = [1000, 1000]
        given["Image"] = SimpleNamespace(
            Image=object, open=lambda file: Standin("", size[0], size[1])
        )
        found = source.define(f"models/{file}", (*helpers, name), given)
        model: Any = found[name]

        def answer(given: Json) -> Json:
            text, *size[:] = given if isinstance(given, list) else (given, 1000, 1000)
            mine = model.__new__(model)
            own = Standin(str(text), chat=text if plain_chat else None)
            if file == "holo1_5.py":
                own._chat = own
                mine.params = found["Holo1_5Parameters"]()  # type: ignore[operator]
            mine.__dict__.update(
                dict.fromkeys(
                    (
                        "model",
                        "processor",
                        "tokenizer",
                        "client",
                        "generation_config",
                        "device",
                        "override_generation_config",
                        "model_name",
                        "prompt",
                    ),
                    own,
                )
            )
            mine.client = SimpleNamespace(chat=SimpleNamespace(completions=own))
            mine.prompt, mine.max_pixels, mine.min_pixels = "", 99_999_999, 784
            try:
                return mine.ground_only_positive("x", __file__)["point"]
            except (TypeError, ValueError, AttributeError, UnboundLocalError):
                return None

        return answer

    return released


def _box_texts(form: str) -> tuple[Text, ...]:
    return (
        lambda rng: form.format(*box(rng)),
        lambda rng: form.format(*box(rng)),
        lambda rng: f"{before(rng)}{form.format(*box(rng))}.",
        lambda rng: rng.choice(("", "no box", "[1,2,3]", "(a, b)")),
    )


def _unit_box(form: str) -> tuple[Text, ...]:
    write: Text = lambda rng: form.format(*(value / 1000 for value in box(rng)))  # noqa: E731
    return (write, write, lambda rng: f"The box: {write(rng)}", lambda rng: rng.choice(("", "no")))


def _after_guide(rng: Any) -> str:
    """What follows the adapter's own `<tool_call>…"coordinate": [`."""
    listed = box(rng) if rng.random() < 0.2 else point(rng)
    ends = ("]}}", "]}}\n</tool_call>", "]}}\n</tool_call>\n(3, 4)", "]}}\n</tool_call><|im_end|>")
    return ", ".join(map(str, listed)) + rng.choice(ends)


def _code(rng: Any) -> str:
    return f"## Action:\n{before(rng)}\n\n## Code:\n{pyautogui(rng)}"


class Inputs(Standin):
    """A processor whose model sees 200 x 100 patches of 14 pixels."""

    def __getitem__(self, key: object) -> Any:
        return [(1, 100, 200)] if key == "image_grid_thw" else super().__getitem__(key)

    def to(self, device: object) -> Any:
        """Itself."""
        return self


def venus(source: Source) -> Answer:
    """UI-Venus 1.0: the click from 0 to 1 on a resized image of 2800 x 1400; (0, 0) if unread."""
    path, name = "models/grounding/ui_venus_ground_7b.py", "UI_Venus_Ground_7B"
    given = {"os": os, "print": quiet, "process_vision_info": lambda messages: (None, None)}
    model: Any = source.define(path, [name], given)[name]

    def answer(given: Json) -> Json:
        mine = model()
        mine.processor = Inputs(str(given))
        mine.model = Standin(str(given))
        return mine.inference("x", __file__)["point"]

    return answer


def gui_g2(source: Source) -> Answer:
    """GUI-G2's README: the same on a resized image of 2800 x 1400."""
    space: dict[str, Any] = {}

    def loads(what: object) -> SimpleNamespace:
        return SimpleNamespace(from_pretrained=lambda *args, **options: space[what])

    given = {
        "os": os, "print": quiet, "torch": Standin(""), "AutoTokenizer": loads("model"),
        "Qwen2_5_VLForConditionalGeneration": loads("model"), "AutoProcessor": loads("processor"),
        "process_vision_info": lambda messages: (None, None),
    }  # fmt: skip

    class Config:
        from_pretrained = staticmethod(lambda *args, **options: SimpleNamespace(to_dict=dict))

        def __init__(self, **options: object) -> None: ...

    read = readme_function(source, "README.md", "infer", given | {"GenerationConfig": Config})

    def answer(given: Json) -> Json:
        space["model"], space["processor"] = Standin(str(given)), Inputs(str(given))
        return read("x", __file__, "model")["point"]

    return answer


def _pro(name: str, file: str, inputs: Any, released: Callable[[Source], Answer]) -> Comparison:
    return Comparison(f"gui_pro_{name}", PRO, PRO_COMMIT, f"models/{file}", inputs, released)


VENUS_TEXTS = texts(lambda rng: "[{},{},{},{}]".format(*box(rng, 2800)),
              lambda rng: "[{}, {}, {}, {}]".format(*box(rng, 1400)),
              lambda rng: " [{},{},{},{}]\n".format(*box(rng, 1400)),
              lambda rng: "At [{},{},{},{}]".format(*box(rng, 1400)),
              lambda rng: rng.choice(("", "no", "[1,2,3]", "[[1,2,3,4]]")))  # fmt: skip

COMPARISONS = [
    _pro("qwen2_vl", "qwen2vl.py",
         texts(*_box_texts("<|box_start|>({},{}),({},{})<|box_end|>")),
         adapter("qwen2vl.py", "Qwen2VLModel", "extract_bbox", "pred_2_point")),
    _pro("os_atlas_7b", "osatlas7b.py",
         texts(*_box_texts("<|object_ref_start|>a<|object_ref_end|>"
                           "<|box_start|>({},{}),({},{})<|box_end|>")),
         adapter("osatlas7b.py", "OSAtlas7BModel", "extract_bbox", "pred_2_point")),
    _pro("qwen_vl", "qwen1vl.py", texts(*_box_texts("<box>({},{}),({},{})</box>")),
         adapter("qwen1vl.py", "Qwen1VLModel", "extract_bbox", "pred_2_point")),
    _pro("seeclick", "seeclick.py",
         texts(lambda rng: f"({unit(rng)}, {unit(rng)})", lambda rng: f"({unit(rng)},{unit(rng)})",
               lambda rng: f"At ({unit(rng)}, {unit(rng)}).", lambda rng: rng.choice(("", "no"))),
         adapter("seeclick.py", "SeeClickModel", "extract_bbox", "pred_2_point")),
    _pro("showui", "showui.py",
         texts(lambda rng: f"[{unit(rng)}, {unit(rng)}]", lambda rng: f"[{unit(rng)},{unit(rng)}]",
               lambda rng: f"{before(rng)}[{unit(rng)}, {unit(rng)}]",
               lambda rng: rng.choice(("", "no", "0.5"))),
         adapter("showui.py", "ShowUIModel", "extract_point")),
    _pro("cogagent", "cogagent.py", texts(*_box_texts("a button [[{:03d},{:03d},{:03d},{:03d}]]")),
         adapter("cogagent.py", "CogAgentModel", "extract_first_bounding_box",
                 "extract_first_point")),
    _pro("internvl", "internvl.py", texts(
            *_box_texts("<ref>a</ref><box>[[{},{},{},{}]]</box>"),
            lambda rng: "[[{},{}]]".format(*point(rng)),
            lambda rng: "a button [[{},{}]]".format(*point(rng)),
        ),
         adapter("internvl.py", "InternVLModel", "extract_last_bounding_box",
                 "extract_first_point", plain_chat=True)),
    _pro("minicpm_v", "minicpmv.py", texts(*_box_texts("<box>{} {} {} {}</box>")),
         adapter("minicpmv.py", "MiniCPMVModel", "extract_first_bounding_box",
                 "extract_first_point", plain_chat=True)),
    _pro("os_atlas_4b", "osatlas4b.py",
         texts(lambda rng: "[[{},{}]]".format(*point(rng)),
               lambda rng: "{}[[{},{}]]".format(before(rng), *point(rng)),
               lambda rng: rng.choice(("", "no"))),
         adapter("osatlas4b.py", "OSAtlas4BModel", "pred_2_point")),
    _pro("gpt", "gpt5.py", texts(*_unit_box("[[{},{},{},{}]]")),
         adapter("gpt5.py", "GPT5Model", "extract_first_bounding_box", "extract_first_point")),
    _pro("holo1_5", "holo1_5.py",
         texts_on_images(
             lambda rng: '{{"action":"click_absolute","x":{},"y":{}}}'.format(*point(rng)),
             lambda rng: '{{"x": {}, "y": {}}}'.format(*point(rng)),
             lambda rng: '{{"action": "click_absolute", "x": {}, "y": {}}}'.format(*point(rng)),
             lambda rng: rng.choice(("{", "no", '{"x": 5}'))),
         adapter("holo1_5.py", "Holo1_5Model", "TextContentChunk", "ImageContentChunk", "ImageUrl",
                 "ImageUrlContentChunk", "Chunks", "UserMessage", "ClickAbsoluteAction",
                 "Holo1_5Parameters", "VLLMModel")),
    _pro("qwen2_5_vl_tool", "qwen2_5vl.py",
         texts_on_images(
             _after_guide, _after_guide, _after_guide, lambda rng: rng.choice(("", "no", "5]}}"))),
         adapter("qwen2_5vl.py", "Qwen2_5VLModel", "get_qwen2_5vl_prompt_msg")),
    _pro("kimi_vl", "kimivl.py",
         texts(_code, lambda rng: f"◁think▷{before(rng)}◁/think▷{_code(rng)}",
               lambda rng: f"{before(rng)}{pyautogui(rng)}\n{pyautogui(rng)}",
               lambda rng: f"◁think▷x=0.5, y=0.5◁/think▷{pyautogui(rng)}",
               lambda rng: rng.choice(("", "pyautogui.press('a')", "pyautogui.write('(3,4)')")),
               more=CODE_EDGES),
         adapter("kimivl.py", "KimiVL_VLLM_Model", "extract_thinking_and_summary")),
    Comparison(
        "gui_ui_venus", "inclusionAI/UI-Venus", "497e2cd9b0c131e4685de23598f51e2da4dd7562",
        "models/grounding/ui_venus_ground_7b.py",
        VENUS_TEXTS, venus,
    ),
    Comparison(
        "gui_gui_g2", "ZJU-REAL/GUI-G2", "5c5c36581654364073385e37deca28f4d765aa94", "README.md",
        VENUS_TEXTS, gui_g2,
    ),
]  # fmt: skip
