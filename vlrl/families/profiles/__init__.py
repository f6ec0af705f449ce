"""How model families see images and write places, one profile each."""

from __future__ import annotations

from vlrl.errors import ConfigError, did_you_mean
from vlrl.families.profiles.general import GENERAL
from vlrl.families.profiles.gui import GUI
from vlrl.families.profiles.profile import GUI_G2_QUESTION, Profile

__all__ = ["GUI_G2_QUESTION", "PROFILES", "Profile", "profile_named"]

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (*GENERAL, *GUI)}


def profile_named(name: str) -> Profile:
    """The profile; raises ConfigError with the nearest known name."""
    if name not in PROFILES:
        raise ConfigError(f"unknown coordinate profile {name!r}; {did_you_mean(name, PROFILES)}")
    return PROFILES[name]
