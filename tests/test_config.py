"""Config: composed, strict, helpful, and free of torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from vlrl.build import check_plugins
from vlrl.cli.main import main
from vlrl.config.changes import differences
from vlrl.config.loader import apply_override, compose, merge, parse_yaml, to_yaml
from vlrl.config.resolve import check, load_run_config, plain
from vlrl.config.schema import RunConfig
from vlrl.errors import ConfigError
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.tree import build_reward
from vlrl.tasks.gui_grounding import GuiGrounding

ROOT = Path(__file__).resolve().parent.parent
TINY = ROOT / "configs/gui_grounding/tiny.yaml"
RECIPES = sorted((ROOT / "configs").glob("*_*/*.yaml"))
SECTIONS = {path: yaml.safe_load(path.read_text(encoding="utf-8")) for path in RECIPES}
# The others extend one of these, or are merged over it.
RUNNABLE = [path for path in RECIPES if "use" in SECTIONS[path].get("policy", {})]
GUI = [path for path in RUNNABLE if path.parent.name == "gui_grounding"]
# Rewards of generated images are there too; they belong to other tasks.
REWARDS = [
    path
    for path in sorted((ROOT / "configs/rewards").glob("*.yaml"))
    if build_reward(yaml.safe_load(path.read_text(encoding="utf-8"))["reward"]).needs
    <= set(GuiGrounding.provides)
]


@pytest.mark.parametrize("path", RUNNABLE, ids=lambda p: p.stem)
def test_every_shipped_config_loads(path: Path) -> None:
    config = check_plugins(load_run_config([path]))
    assert check(RunConfig, plain(config)) == config


def test_the_lora_overlay_lies_over_a_recipe() -> None:
    recipe = ROOT / "configs/gui_grounding/gui_g2_qwen2_5_vl_7b.yaml"
    config = check_plugins(load_run_config([recipe, ROOT / "configs/gui_grounding/lora.yaml"]))
    assert config.policy["lora"]["rank"] == 64
    assert config.policy["train_vision"] is False
    assert config.policy["max_new_tokens"] == 256


def test_an_infinite_option_survives_saving() -> None:
    override = "reward={clip: {of: {use: box_iou}, low: 0.0, high: .inf}}"
    config = check_plugins(load_run_config([TINY], [override]))
    again = parse_yaml(to_yaml(plain(config)), "t")
    assert again["reward"]["clip"]["high"] == float("inf")


def image_config(names: str) -> RunConfig:
    """Recipes for images, each merged over those before it."""
    paths = [ROOT / f"configs/image_generation/{name}.yaml" for name in names.split()]
    return check_plugins(load_run_config(paths))


# The published settings: steps, guidance, window, groups, clip range, KL, deviation.
SD3 = (10, "cfg", None, (48, 24), 1e-4, "global_std")
SD3_FAST = (10, "off", (3, 0, 5), (48, 24), 1e-5, "global_std")
FLUX = (6, "distilled", None, (48, 24), 1e-4, "global_std")
FLUX_FAST = (6, "distilled", (3, 0, None), (48, 24), 1e-5, "global_std")
PUBLISHED = {
    "sd3_5_medium_ocr": (*SD3, 0.04),
    "sd3_5_medium_ocr sd3_5_medium_geneval": (*SD3, 0.04),
    "sd3_5_medium_ocr sd3_5_medium_pickscore": (*SD3, 0.01),
    "sd3_5_medium_ocr sd3_5_medium_geneval fast": (*SD3_FAST, 0),
    "sd3_5_medium_ocr sd3_5_medium_pickscore fast": (*SD3_FAST, 0),
    "sd3_5_medium_ocr sd3_5_medium_pickscore fast fast_pickscore": (
        *SD3_FAST[:3],
        (64, 18),
        *SD3_FAST[4:],
        0,
    ),
    "flux_1_dev_pickscore": (*FLUX, 0),
    "flux_1_dev_pickscore flux_1_dev_geneval": (*FLUX, 0),
    "flux_1_dev_pickscore flux_1_dev_ocr": (*FLUX, 0),
    "flux_1_dev_pickscore flux_1_dev_geneval flux_fast": (*FLUX_FAST, 0),
    "flux_1_dev_pickscore flux_1_dev_ocr flux_fast": (*FLUX_FAST, 0),
    "flux_1_dev_pickscore flux_fast flux_fast_pickscore": (*FLUX_FAST[:5], "group_zscore", 0),
    "adv_grpo_dino": (10, "cfg", (2, 0, None), (48, 16), 1e-5, "global_std", 0),
    "adv_grpo_dino adv_grpo_pickscore": (10, "cfg", (2, 0, None), (48, 16), 1e-5, "global_std", 0),
}


@pytest.mark.parametrize("names", PUBLISHED)
def test_image_recipes_are_as_published(names: str) -> None:
    config = image_config(names)
    policy, algo = config.policy, config.algo
    window = policy["window"] and tuple(policy["window"][k] for k in ("num_steps", "start", "stop"))
    groups = (algo.num_prompts, algo.group_size)
    found = (policy["num_steps"], policy["guidance"], window, groups, algo.clip.high)
    assert (*found, algo.advantage, algo.kl_beta) == PUBLISHED[names]
    assert algo.clip.low == algo.clip.high
    # CPS is published with its own log-density, to which the narrow clip range belongs.
    is_cps = policy["dynamics"] == "cps"
    assert is_cps is (algo.clip.high == 1e-5)
    assert policy["logp_scale"] == ("cps_published" if is_cps else "dims")
    is_flux = "FLUX" in policy["model"]
    assert policy["noise_level"] == (0.8 if is_cps else 0.9 if is_flux else 0.7)
    assert policy["num_eval_steps"] == (28 if is_flux else 40)
    assert policy["guidance_scale"] == (3.5 if is_flux else 4.5)
    assert (policy["lora"]["rank"], policy["lora"]["alpha"]) == ((64, 128) if is_flux else (32, 64))
    assert not policy["lora"]["target_modules"]
    assert policy["max_prompt_tokens"] == 128
    assert algo.kl_beta == 0 or policy["kl"] == "without_dt"
    assert (algo.num_minibatches, algo.advantage_clip) == (2, 5.0)
    optim = config.optim
    assert (optim.lr, optim.weight_decay) == (3e-4, 1e-4)
    # The number of micro-batches: 2 for SD3.5 and 6 for FLUX and Adv-GRPO.
    six = is_flux or config.reward["use"].startswith("adversarial")
    assert (optim.ema_decay, optim.ema_every, optim.ema_repeats) == (0.9, 8, 6 if six else 2)
    assert algo.population_std is (algo.advantage == "group_zscore")
    assert (optim.betas, config.dist.precision) == ((0.9, 0.999), "bf16")


@pytest.mark.parametrize("names", [*PUBLISHED, "janus_pro_1b"])
def test_image_recipes_measure_their_own_target_and_another(names: str) -> None:
    config = image_config(names)
    target = {
        "adversarial_dino": {"use": "dino_similarity"},
        "adversarial_scorer": {"use": "pick_score"},
        "geneval": {"use": "geneval", "value": "accuracy"},
    }.get(config.reward["use"], config.reward)
    assert target in config.metrics.values()
    assert len(config.metrics) == 2
    if config.reward["use"] == "geneval":
        assert config.task["labels"] == ["tag"]


def test_overrides_may_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "--config", str(TINY), "seed=3", "--dry-run", "optim.lr=0.5", "--quiet"]
    assert main([*words, "num_steps=7"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert (found["seed"], found["optim"]["lr"], found["num_steps"]) == (3, 0.5, 7)
    for stray in ("--bogus", "seven"):
        with pytest.raises(SystemExit):
            main([*words, "num_steps=7", stray])
        assert f"unrecognized arguments: {'num_steps=7 ' + stray}" in capsys.readouterr().err


def test_a_reward_of_ones_own_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    words = ["describe", "reward", "rewards_of_mine:short"]
    assert main(words) == 2
    assert "there is no module 'rewards_of_mine', here or on" in capsys.readouterr().out
    code = '"""Mine."""\n\n\ndef short(rollout, *, most: int = 4) -> float:\n    """Short."""\n'
    (tmp_path / "rewards_of_mine.py").write_text(code + "    return 1.0\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert main(words) == 0
    assert "most: int = 4" in capsys.readouterr().out


TINY_OVERLAYS = [
    path
    for path in RECIPES
    if path.stem.startswith("tiny_") and (path.parent / "tiny.yaml").is_file()
]


@pytest.mark.parametrize("path", TINY_OVERLAYS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_the_small_overlays_lie_over_their_tiny_config(path: Path) -> None:
    config = check_plugins(load_run_config([path.parent / "tiny.yaml", path]))
    assert config.name == SECTIONS[path]["name"]


def test_the_preference_scorer_lies_over_the_adversarial_recipe() -> None:
    names = ("adv_grpo_dino", "adv_grpo_pickscore")
    paths = [ROOT / f"configs/image_generation/{name}.yaml" for name in names]
    config = check_plugins(load_run_config(paths))
    assert config.name == names[1]
    assert config.reward["use"] == "adversarial_scorer"
    assert "cache" not in config.reward
    assert config.metrics["pick_score"] == {"use": "pick_score"}
    assert config.algo.group_size == 16


@pytest.mark.parametrize("path", REWARDS, ids=lambda p: p.stem)
def test_every_reward_file_goes_on_every_gui_config(path: Path) -> None:
    for recipe in GUI:
        config = check_plugins(load_run_config([recipe], reward_file=path))
        assert config.reward == yaml.safe_load(path.read_text(encoding="utf-8"))["reward"]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        # The error for a misspelt name suggests the right one.
        ("algo.grup_size=4", "group_size"),
        ("optm.lr=1", "optim"),
        ("policy.temprature=1", "temperature"),
        ("task.promt=x", "prompt"),
        ("reward={use: gausian_point}", "gaussian_point"),
        ("reward={use: gaussian_point, alfa: 1}", "alpha"),
        ("reward={summ: []}", "sum"),
        ("policy.lora={rnk: 4}", "rank"),
        # Impossible values.
        ("algo.group_size=1", "group_size"),
        ("algo.num_minibatches=99", "num_minibatches"),
        ("algo.resample_rounds=2", "drop_zero_variance"),
        ("name=a/b", "slashes"),
        ("policy.temperature=0", "temperature"),
        ("no_equals_sign", "key=value"),
        ("reward.sum.9.weight=1", "'9' is no place in the list"),
        ("reward.sum.first.weight=1", "'first' is no place in the list"),
        ("name.part=1", "'name' is a value"),
    ],
)
def test_mistakes_are_refused_and_named(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_plugins(load_run_config([TINY], [override]))


def test_an_override_reaches_into_a_list() -> None:
    before = {"reward": {"sum": [{"use": "box_iou"}, {"use": "format", "weight": 1.0}]}}
    config = dict(before)
    apply_override(config, "reward.sum.1.weight=0.5")
    assert config["reward"]["sum"] == [{"use": "box_iou"}, {"use": "format", "weight": 0.5}]
    assert before["reward"]["sum"][1]["weight"] == 1.0


def test_k1_as_a_loss_is_refused() -> None:
    with pytest.raises(ConfigError, match="zero expected gradient"):
        load_run_config([TINY], ["algo.kl_estimator=k1", "algo.kl_beta=0.1"])


def test_exponents_without_a_point_are_numbers() -> None:
    assert parse_yaml("lr: 1e-6", "t") == {"lr": 1e-6}
    assert parse_yaml("a: '1e-6'", "t") == {"a": "1e-6"}
    assert parse_yaml("a: 1_000", "t") == {"a": 1000}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10), ("-10", -10), ("+5", 5), ("0", 0), ("-0", 0), ("0x1F", 31), ("00.5", 0.5),
        ("1:30", "1:30"), ("1:30.5", "1:30.5"), ("190:20:30", "190:20:30"), ("0o10", "0o10"),
        ("0b11", "0b11"), ("2026-01-31", "2026-01-31"), ("on", "on"),
    ],
)  # fmt: skip
def test_a_number_is_decimal_or_hexadecimal_and_all_else_is_text(text: str, value: object) -> None:
    assert parse_yaml(f"a: {text}", "t") == {"a": value}
    assert type(parse_yaml(text, "t")) is type(value)


@pytest.mark.parametrize("text", ["010", "-010", "08", "00", "0_1"])
def test_a_leading_zero_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"file, line 2: -?0\w+ is octal in YAML 1\.1"):
        parse_yaml(f"a: 1\nb: [{text}]\n", "file")
    assert parse_yaml(f"a: '{text}'", "t") == {"a": text}
    assert parse_yaml(to_yaml({"a": text}), "t") == {"a": text}


def test_base_60_is_no_number_of_steps() -> None:
    with pytest.raises(ConfigError, match=r"num_steps: must be a whole number, not '1:30'"):
        load_run_config([TINY], ["num_steps=1:30"])


def test_a_key_given_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"line 2.*is given twice"):
        parse_yaml("a: 1\na: 2\n", "file")


def test_later_files_win_but_a_reward_is_replaced_whole(tmp_path: Path) -> None:
    one, two = tmp_path / "1.yaml", tmp_path / "2.yaml"
    one.write_text("algo: {a: 1, b: 2}\nreward: {sum: [{use: x}]}\n")
    two.write_text("algo: {b: 3}\nreward: {use: y}\n")
    assert compose([one, two], ["algo.c.d=[1, 2]"]) == {
        "algo": {"a": 1, "b": 3, "c": {"d": [1, 2]}},
        "reward": {"use": "y"},
    }


trees = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e9, 1e9) | st.text("ab:#- 1e"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_merges_of_merges_are_counted_before_they_are_made() -> None:
    """450 bytes that would be a hundred million pairs."""
    lines = ["a0: &a0 {x: 1}"]
    lines += [f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="bomb: merges make it larger than"):
        parse_yaml("\n".join(lines), "bomb")


@pytest.mark.parametrize("text", ['"\\0"', '"Click: \\uD800"', '"\\uDC00x"'])
def test_texts_that_nothing_can_hold_are_refused(text: str) -> None:
    for config, place in ((f"name: {text}", "name"), (f"a: {{b: [1, {text}]}}", r"a\.b\[1\]")):
        with pytest.raises(ConfigError, match=rf"file: {place} holds a NUL or half"):
            parse_yaml(config, "file")
    with pytest.raises(ConfigError, match="holds a NUL or half"):
        load_run_config([TINY], [f"task.prompt={text}"])


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), trees, max_size=4))
@example({"a": "1e1"})
@example(
    {
        "a": 1e-6,
        "b": "1e-6",
        "c": "0x1",
        "d": "1_0",
        "e": ".5",
        "f": "1:30",
        "g": "08",
        "h": "2026-01-31",
    }
)
def test_a_resolved_config_reads_back_as_itself(tree: dict) -> None:
    assert parse_yaml(to_yaml(tree), "t") in (tree, tree if tree else None)


def test_keys_are_texts_as_they_are_written() -> None:
    """`0` as a number would be another key once the config is saved and read again."""
    written = "{0: a, 1.5: b, true: c, null: d, 010: e, 0x1: f, yes: g, 1e3: h}"
    keys = ["0", "1.5", "true", "null", "010", "0x1", "yes", "1e3"]
    assert list(parse_yaml(written, "t")) == keys
    assert parse_yaml(to_yaml(parse_yaml(written, "t")), "t") == parse_yaml(written, "t")
    with pytest.raises(ConfigError, match="'0' is given twice"):
        parse_yaml("{0: a, '0': b}", "t")


def test_a_config_made_of_other_keys_equals_the_one_that_is_saved() -> None:
    weights = {"transfers": {0: 0.0, "*": 0.5}, "seen": {True: 1.0, 1.5: 2.0}}
    node = {"difficulty": {"of": {"use": "answer_match"}, "weights": weights}}
    stage = {"name": "one", "keep": {0: "a"}, "reward": {"sum": [node, node]}}
    data = {
        **compose(["visual_reasoning/tiny"]),
        "reward": node,
        "metrics": {"m": node},
        "curriculum": [stage],
    }
    config = check(RunConfig, data)
    assert check(RunConfig, plain(config)) == config
    assert check(RunConfig, parse_yaml(to_yaml(plain(config)), "t")) == config
    assert config.reward["difficulty"]["weights"]["seen"] == {"true": 1.0, "1.5": 2.0}
    zero = "reward.difficulty.weights.transfers.0=0.25"
    apply_override(data := plain(config), zero)
    assert data["reward"]["difficulty"]["weights"]["transfers"] == {"0": 0.25, "*": 0.5}


@given(trees, trees)
def test_merge_takes_the_right_side_where_both_speak(a: object, b: object) -> None:
    merged = merge({"k": a}, {"k": b})
    if not (isinstance(a, dict) and isinstance(b, dict)):
        assert merged == {"k": b}
    else:
        assert set(merged["k"]) == set(a) | set(b)


def test_dry_run_prints_the_resolved_config_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from vlrl.cli.train import main\n"
        f"status = main(['--config', {str(TINY)!r}, '--dry-run', 'optim.lr=3e-5'])\n"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    resolved = tmp_path / "resolved.yaml"
    resolved.write_text(done.stdout, encoding="utf-8")
    assert load_run_config([resolved]).optim.lr == 3e-5


def test_a_users_mistake_is_one_line_and_status_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vlrl", "train", "--config", str(TINY), "--dry-run", "sed=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "ConfigError: unknown key 'sed'; did you mean 'seed'?"


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, rows in REGISTRY.items() for name in rows]
)
def test_every_registry_row_resolves(kind: str, name: str) -> None:
    assert resolve(kind, name) is not None


def test_a_dotted_path_reaches_code_outside_the_project() -> None:
    assert resolve("reward", "math:sqrt")(4) == 2
    with pytest.raises(ConfigError, match="no module 'nowhere'"):
        resolve("reward", "nowhere:f")
    with pytest.raises(ConfigError, match="did you mean 'sqrt'"):
        resolve("reward", "math:sqrtt")


@pytest.mark.parametrize(
    ("over", "said"),
    [
        (["optim.betas=[0.9,1.5]"], "optim.betas.1: must be below 1, not 1.5"),
        (["policy.min_pixels=9000000", "policy.max_pixels=100"], "larger than max_pixels"),
        (["task.min_pixels=9000000", "task.max_pixels=100"], "larger than max_pixels"),
    ],
)
def test_values_that_nothing_could_satisfy_are_refused(over: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_plugins(load_run_config([ROOT / "configs/gui_grounding/tiny.yaml"], over))


def test_differences_of_configs() -> None:
    old = {"a": 1, "b": {"c": [1], "d": 2}, "gone": 3}
    new = {"a": 1, "b": {"c": [2], "d": 2, "e": None}, "new": {"x": 1}}
    assert differences(old, old) == []
    assert differences(old, new) == ["b.c: [1] -> [2]", "gone: 3 -> None", "new: None -> {'x': 1}"]


def test_a_file_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: caf\xe9\n".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 text.*save the file as UTF-8"):
        compose([path])


@pytest.mark.parametrize("key", ["? [a, b]\n: 1", "? {a: b}\n: 1", "[a]: 1", "? !!set {a}\n: 1"])
def test_a_list_or_a_section_is_no_key(key: str) -> None:
    with pytest.raises(ConfigError, match=r"f\.yaml, line 2: a key must be a text, not"):
        parse_yaml(f"b: 1\n{key}\n", "f.yaml")
