"""A reward that is infinite once, on the third call: the run should stop with the reward's name."""

_calls = [0]


def inf_later(completions, **columns):
    _calls[0] += 1
    return [
        float("inf") if _calls[0] >= 3 and i == 0 else float(i) for i in range(len(completions))
    ]
