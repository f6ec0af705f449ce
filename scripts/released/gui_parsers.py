"""What released parsers of GUI answers read."""

from __future__ import annotations

import ast
import json
import random
import re
from collections import OrderedDict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, Field

from released.comparison import Answer, Comparison, Json
from released.gui_inputs import CODE_EDGES, NUM_ROWS, SIZES, Hint, before, box, point, texts, unit
from released.source import Source

CLAW = "d990d3e3f2390ced708771d9681d3c4f9a6cbef5"
CLAW_JUDGE = "clawgui-eval/judge/grounding_judge.py"


def quiet(*args: object, **options: object) -> None:
    """In place of print."""


def pair(rng: random.Random) -> str:
    """`x,y` in thousandths."""
    return "{},{}".format(*point(rng))


def _answer_coordinate(rng: random.Random) -> str:
    x, y = point(rng)
    comma = rng.choice((",", ",", ",", ", "))
    return f'<answer>\n{{"coordinate":[{x}{comma}{y}]}}\n</answer>'


def mai_ui(source: Source) -> Answer:
    """The first `[x,y]`, from 0 to 1."""
    name = "parse_coordinates"
    parse: Any = source.define("evaluation/grounding/eval_server.py", [name], {"re": re})[name]

    def answer(given: Json) -> Json:
        x, y = parse(given)
        return None if -1 in (x, y) else [x / 1000, y / 1000]

    return answer


def _fields(rng: random.Random) -> str:
    mark = rng.choice(("THINK", "THINK", "think", "Think", "TINK"))
    comma = rng.choice((",", ",", ", ", " "))
    x, y = point(rng)
    action = rng.choice(("CLICK", "CLICK", "LONGPRESS"))
    rest = (
        f"explain:{before(rng).strip()}\taction:{action}\tpoint:{x}{comma}{y}\tsummary:done (1,2)"
    )
    return f"<{mark}> {before(rng)}</{mark}>\n{rest}"


def _slide(rng: random.Random) -> str:
    return f"<THINK>x</THINK>\naction:SLIDE\tpoint1:{pair(rng)}\tpoint2:{pair(rng)}"


def _no_point(rng: random.Random) -> str:
    return f"<THINK>{before(rng)}</THINK>\nexplain:at (3,4)\taction:WAIT\tvalue:{rng.randint(1, 9)}"


def gelab_zero(source: Source) -> Answer:
    """The field `point`, or else `point1`, from 0 to 1."""
    path = "copilot_tools/parser_0920_summary.py"
    given = {"re": re, "OrderedDict": OrderedDict, "print": quiet}
    parser: Any = source.define(path, ["Parser0920Summary"], given)["Parser0920Summary"]

    def answer(given: Json) -> Json:
        try:
            action = parser().str2action(given)
        except ValueError:
            return None
        x, y = action.get("point") or action.get("point1") or (None, None)
        return None if x is None else [x / 1000, y / 1000]

    return answer


def ui_venus_1_5(source: Source) -> Answer:
    """The point from 0 to 1, "refused", or nothing."""
    path, name = "models/grounding/ui_venus1_5_gd.py", "UIVenusGroundV15"
    venus: Any = source.define(path, [name], {"re": re, "Image": None})[name]

    def answer(given: Json) -> Json:
        read = venus()._parse_point(given)
        return "refused" if read == [-1, -1] else read

    return answer


def _venus_texts() -> tuple[Callable[[random.Random], str], ...]:
    return (
        lambda rng: "[{},{}]".format(*point(rng)),
        lambda rng: "[ {} , {} ]\n".format(*point(rng)),
        lambda rng: "[{}, {}, {}, {}]".format(*box(rng)),
        lambda rng: "[{}, {}], [{}, {}]".format(*box(rng)),
        lambda rng: "[{},{}],[{},{}]".format(*box(rng)),
        lambda rng: rng.choice(("[-1,-1]", "[-1, -1]", "nothing", "[a, b]", "[5]")),
        lambda rng: "The point is [{},{}].".format(*point(rng)),
        lambda rng: "Its box is [{},{},{},{}].".format(*box(rng)),
    )


def claw(name: str) -> Callable[[Source], Answer]:
    """A parser of ClawGUI: the point from 0 to 1."""

    def released(source: Source) -> Answer:
        given = {"re": re, "json": json, "Optional": Any, "Tuple": Hint, "List": Hint}
        path = CLAW_JUDGE
        if name == "parse_coord_from_response":
            path = "clawgui-eval/inference/gemini_inferencer.py"
        parse: Any = source.define(path, [name], given | {"Optional": Hint})[name]

        def answer(given: Json) -> Json:
            read = parse(given) if path != CLAW_JUDGE else parse(given, [1000, 1000])
            return None if read is None else [read[0] / 1000, read[1] / 1000]

        return answer

    return released


def _last_texts(
    write: Callable[[random.Random], str],
) -> tuple[Callable[[random.Random], str], ...]:
    return (
        write,
        lambda rng: before(rng) + write(rng),
        lambda rng: f"{write(rng)}\nNo: {write(rng)}",
        lambda rng: f"The answer is {write(rng)}.",
        lambda rng: rng.choice(("", "nothing there", "(a, b)", "[12, 8]", "7, 9")),
    )


def _paren(rng: random.Random) -> str:
    return rng.choice(("({}, {})", "({},{})", "( {} , {} )")).format(*point(rng))


def _point_tag(rng: random.Random) -> str:
    form = rng.choice(("<point>{} {}</point>", "<point>{} {}</point>", "<point> {}  {} </point>"))
    return form.format(*point(rng))


def aguvis(source: Source) -> Answer:
    """The first `x=…, y=…`, from 0 to 1; (0, 0) where there is none."""
    name = "parse_gui_bbox_aguvis"
    parse: Any = source.define("models/local_aguvis.py", [name], {"re": re})[name]
    return lambda given: parse(given)


def pyautogui(rng: random.Random) -> str:
    """A click in code."""
    name = rng.choice(("click", "click", "moveTo", "doubleClick"))
    return f"pyautogui.{name}(x={unit(rng)}, y={unit(rng)})"


def notebook(source: Source, path: str, cell_with: str) -> ast.Module:
    """The code of the cell of a notebook that has a text in it, without magics."""
    cells = json.loads(source.text(path))["cells"]
    code = next("".join(cell["source"]) for cell in cells if cell_with in "".join(cell["source"]))
    return ast.parse("\n".join(line for line in code.splitlines() if not line.startswith("!")))


def holo2(source: Source) -> Answer:
    """The click from 0 to 1."""
    path = "holo2/holo_2_localization_hosted_api.ipynb"
    schema = notebook(source, path, "class ClickCoordinates")
    reading = notebook(source, path, "click = ClickCoordinates")
    body = [n for n in schema.body if isinstance(n, ast.ClassDef)]
    body += [
        node for node in reading.body  # type: ignore[misc]
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "click"
    ]  # fmt: skip
    code = compile(ast.Module(body, []), path, "exec")

    def answer(given: Json) -> Json:
        message = SimpleNamespace(message=SimpleNamespace(content=given))
        space: dict[str, Any] = {"BaseModel": BaseModel, "Field": Field, "json": json}
        space["chat_completion"] = SimpleNamespace(choices=[message])
        try:
            exec(code, space)
        except (ValueError, TypeError):
            return None
        return [space["click"].x / 1000, space["click"].y / 1000]

    return answer


def _xy(rng: random.Random) -> str:
    x, y = point(rng)
    return rng.choice(
        ('{{"x": {}, "y": {}}}', '{{"x":{},"y":{}}}', '{{\n "x": {},\n "y": {}\n}}')
    ).format(x, y)


def readme_function(source: Source, path: str, name: str, given: dict[str, Any]) -> Any:
    """A function that a Markdown file defines in a block of Python."""
    for block in re.findall(r"```python\n(.*?)```", source.text(path), re.DOTALL):
        if f"def {name}(" not in block:
            continue
        for node in ast.parse(block).body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                space = dict(given)
                exec(compile(ast.Module([node], []), path, "exec"), space)
                return space[name]
    raise LookupError(f"{path} at {source.commit} defines no {name}")


def gta1(source: Source) -> Answer:
    """The first `(x, y)` in pixels of the resized image; (0, 0) where there is none."""
    read = readme_function(source, "README.md", "extract_coordinates", {"re": re})
    return lambda given: list(read(given))


def qwen3_book(source: Source) -> Answer:
    """The first point from 0 to 1."""
    path = "cookbooks/spatial_understanding.ipynb"
    tree = notebook(source, path, "def decode_json_points")
    body = [n for n in tree.body if getattr(n, "name", "") == "decode_json_points"]
    space: dict[str, Any] = {"json": json, "print": quiet}
    exec(compile(ast.Module(body, []), path, "exec"), space)

    def answer(given: Json) -> Json:
        points, _ = space["decode_json_points"](given)
        return [points[0][0] / 1000, points[0][1] / 1000] if points else None

    return answer


def qwen3_agent(source: Source) -> Answer:
    """The click in whole pixels of the image."""
    tree = notebook(source, "cookbooks/mobile_agent.ipynb", "def rescale_coordinates")
    body = [n for n in tree.body if getattr(n, "name", "") == "rescale_coordinates"]
    space: dict[str, Any] = {}
    exec(compile(ast.Module(body, []), "mobile_agent.ipynb", "exec"), space)

    def answer(given: Json) -> Json:
        x, y, width, height = given  # type: ignore[misc]
        return space["rescale_coordinates"]([x, y], width, height)

    return answer


def _points_json(rng: random.Random) -> str:
    listed = [
        f'{{"point_2d": [{x}, {y}], "label": "a"}}'
        for x, y in (point(rng) for _ in range(rng.randint(1, 3)))
    ]
    return f"[{', '.join(listed)}]"


COMPARISONS = [
    Comparison(
        "gui_mai_ui", "Tongyi-MAI/MAI-UI", "4dd07b9e910a294f001452e888514d912b96cc41",
        "evaluation/grounding/eval_server.py",
        texts(
            _answer_coordinate,
            lambda rng: f"<grounding_think>\nA tab.\n</grounding_think>\n{_answer_coordinate(rng)}",
            lambda rng: f"<think>{before(rng)}</think>{_answer_coordinate(rng)}",
            lambda rng: f"<GROUNDING_THINK>at [5,6]</GROUNDING_THINK>{_answer_coordinate(rng)}",
            lambda rng: "[{},{}]".format(*point(rng)),
            lambda rng: rng.choice(("", "none", "<answer>{}</answer>", "[1,2,3]")),
        ),
        mai_ui,
    ),
    Comparison(
        "gui_step_gui", "stepfun-ai/gelab-zero", "19465cf337effc20db25830688aeec5a72855c0a",
        "copilot_tools/parser_0920_summary.py",
        texts(_fields, _fields, _slide, _no_point, lambda rng: f"point:{pair(rng)}",
              lambda rng: f"explain:see\taction:CLICK\tpoint:{pair(rng)}"),
        gelab_zero,
    ),
    Comparison(
        "gui_ui_venus_1_5", "inclusionAI/UI-Venus", "c3a1442c3c4501af18c124458dbbddcbda5c2c6f",
        "models/grounding/ui_venus1_5_gd.py", texts(*_venus_texts()), ui_venus_1_5,
    ),
    Comparison(
        "gui_seed_1_8", "ZJU-REAL/ClawGUI", CLAW, CLAW_JUDGE,
        texts(*_last_texts(_point_tag)), claw("seed18_parse"),
    ),
    Comparison(
        "gui_kimi_k2_5", "ZJU-REAL/ClawGUI", CLAW, CLAW_JUDGE,
        texts(*_last_texts(_paren)), claw("kimi_parse"),
    ),
    Comparison(
        "gui_gemini", "ZJU-REAL/ClawGUI", CLAW, "clawgui-eval/inference/gemini_inferencer.py",
        texts(*_last_texts(_paren)), claw("parse_coord_from_response"),
    ),
    Comparison(
        "gui_aguvis", "open-compass/MMBench-GUI", "896ddf1d3aa4d6464d0c55c6416518f889d78d77",
        "models/local_aguvis.py",
        texts(
            pyautogui,
            lambda rng: f"Action: {before(rng)}\nassistantos\n{pyautogui(rng)}",
            lambda rng: f"{before(rng)}{pyautogui(rng)}\n{pyautogui(rng)}",
            lambda rng: f"pyautogui.click({unit(rng)}, {unit(rng)})",
            lambda rng: rng.choice(("pyautogui.write('(3,4)')", "pyautogui.press('a')", "")),
            more=CODE_EDGES,
        ),
        aguvis,
    ),
    Comparison(
        "gui_holo2", "hcompai/hai-cookbook", "2ba89619bdcfe729d31649d976bdaa7b9551e216",
        "holo2/holo_2_localization_hosted_api.ipynb",
        texts(_xy, _xy, _xy, _xy, lambda rng: rng.choice(
            ('{"x": null, "y": null}', '{"x": 5}', "(3, 4)", '{"x": 1001, "y": 3}', '{"x": "7"}')
        )),
        holo2,
    ),
    Comparison(
        "gui_gta1", "Yan98/GTA1", "81f0c4c2997cf6ad696d42f47c5480f4c856b73a", "README.md",
        texts(
            lambda rng: "({},{})".format(*point(rng, 4000)),
            lambda rng: "({}, {})".format(*point(rng, 4000)),
            lambda rng: "It is tab [12, 8]: ({},{}).".format(*point(rng, 4000)),
            lambda rng: "({},{}) or ({},{})".format(*box(rng, 4000)),
            lambda rng: rng.choice(("", "no", "[3, 4]", "(3.5, 4)", "3, 4", "(1,2,3,4)")),
        ),
        gta1,
    ),
    Comparison(
        "gui_qwen3_vl_point", "QwenLM/Qwen3-VL", "96588727e44c78b25ba03ea03b8e12f7e64fd0da",
        "cookbooks/spatial_understanding.ipynb",
        texts(
            _points_json,
            lambda rng: f"```json\n{_points_json(rng)}\n```",
            lambda rng: f"{before(rng)}```json\n{_points_json(rng)}\n```",
            lambda rng: rng.choice(("", "[]", "[{}]", "no", '{"point_2d": [1, 2]}', "[3, 4]")),
        ),
        qwen3_book,
    ),
    Comparison(
        "gui_qwen3_vl_tool", "QwenLM/Qwen3-VL", "96588727e44c78b25ba03ea03b8e12f7e64fd0da",
        "cookbooks/mobile_agent.ipynb",
        lambda rng: [[*point(rng, 999), *rng.choice(SIZES)] for _ in range(NUM_ROWS)], qwen3_agent,
    ),
]  # fmt: skip
