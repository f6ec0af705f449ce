"""The coordinate profile that evaluation takes where `--profile` is not given."""

from __future__ import annotations

import os

from vlrl.eval.recipe import Recipe
from vlrl.families.profiles.chosen import Choice, chosen_profile


def own_profile(model: str, recipe: Recipe) -> str | None:
    """A model's profile by its vlrl.json, name or type, printed with what told it; else None."""
    own = None if recipe.profile is None else Choice(recipe.profile, "the model's vlrl.json")
    choice = own or chosen_profile(model)
    if choice is None:
        return None
    if os.environ.get("RANK", "0") == "0":
        print(f"profile: {choice.profile} (from {choice.why})", flush=True)
    return choice.profile
