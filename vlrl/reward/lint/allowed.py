"""`allow:` of a node: rules that it breaks on purpose, each with the reason."""

from __future__ import annotations

from collections.abc import Mapping

from vlrl.errors import ConfigError, did_you_mean

RULE_NAMES = (
    "affine_shaper",
    "tiny_epsilon",
    "lucky_view",
    "margins_in_order",
    "unbounded_part",
    "noisy_gate",
    "faint_part",
)


def allowed_by(node: Mapping[str, object], where: str) -> dict[str, str]:
    """Rule -> reason; ConfigError for an unknown rule and for a missing reason."""
    value = node.get("allow", {})
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}.allow: must map rules to reasons, not {value!r}")
    reasons: dict[str, str] = {}
    for rule, reason in value.items():
        if rule not in RULE_NAMES:
            raise ConfigError(
                f"{where}.allow: there is no rule {rule!r}; {did_you_mean(str(rule), RULE_NAMES)}"
            )
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigError(f"{where}.allow.{rule}: must be the reason, a text, not {reason!r}")
        reasons[str(rule)] = reason
    return reasons
