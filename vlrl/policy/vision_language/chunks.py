"""Which rows of an update share a forward pass, within a budget of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from vlrl.policy.token_trajectory import TokenTrajectory


def chunks_of(
    trajectory: TokenTrajectory, rows: Sequence[int], budget: int, *, share_prompt: bool
) -> list[list[int]]:
    """Cut rows into chunks of one forward pass each.

    With a shared prompt a chunk costs the sum of its groups, and a group above the budget is
    cut into parts that each hold the prompt; without, every row is padded to the longest prompt
    and the longest answer. One answer above the budget is a chunk of its own.
    """
    lengths = trajectory.num_tokens.tolist()
    prompt = [p.num_tokens for p in trajectory.prompts]
    groups = trajectory.group.tolist()
    # Rows, tokens of the prompt, tokens of the answers.
    units: list[tuple[list[int], int, int]] = [([b], prompt[groups[b]], lengths[b]) for b in rows]
    if share_prompt:
        units = []
        for g in dict.fromkeys(groups[b] for b in rows):
            own = [b for b in rows if groups[b] == g]
            for members in _within_budget(own, prompt[g], lengths, budget):
                units.append((members, prompt[g], sum(lengths[b] for b in members)))
    # Similar lengths together: where rows are padded, little is wasted.
    units.sort(key=lambda unit: (unit[1] + unit[2], unit[0]))
    chunks: list[list[int]] = []
    sizes: list[tuple[int, int]] = []
    for members, *size in units:
        grown = [*sizes, (size[0], size[1])]
        if chunks and _cost(grown, share_prompt=share_prompt) <= budget:
            chunks[-1] += members
            sizes = grown
        else:
            chunks.append(list(members))
            sizes = grown[-1:]
    return chunks


def _within_budget(
    members: Sequence[int], num_prompt_tokens: int, lengths: Sequence[int], budget: int
) -> list[list[int]]:
    """A group's rows in as few parts as fit the budget, of about equal size."""
    total = num_prompt_tokens + sum(lengths[b] for b in members)
    if total <= budget:
        return [list(members)]
    room = max(1, budget - num_prompt_tokens)
    parts: list[list[int]] = []
    left: list[int] = []
    # Longest first, each to the emptiest part that it fits into; a new one where it fits none.
    for b in sorted(members, key=lambda b: (-lengths[b], b)):
        fitting = [i for i, used in enumerate(left) if used + lengths[b] <= room]
        if not fitting:
            parts.append([])
            left.append(0)
            fitting = [len(parts) - 1]
        place = min(fitting, key=lambda i: (left[i], i))
        parts[place].append(b)
        left[place] += lengths[b]
    return [sorted(part) for part in parts]


def _cost(sizes: Sequence[tuple[int, int]], *, share_prompt: bool) -> int:
    """Tokens of a pass over units with these prompt and answer lengths, padding included."""
    if share_prompt:
        return sum(prompt + answers for prompt, answers in sizes)
    return len(sizes) * (max(p for p, _ in sizes) + max(a for _, a in sizes))
