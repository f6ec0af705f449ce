"""Draws, moves the weights and draws again by vLLM inside this process; prints the gaps as JSON.

    VLLM_ENVIRONMENT/bin/python tests/colocated_steps.py MODEL SCREENS SITE_PACKAGES

tests/test_vllm.py runs it in vLLM's environment; SITE_PACKAGES has what that lacks, and comes last.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(model: str, screens: str) -> None:
    import torch
    from test_policy import problems

    from vlrl.policy.vision_language.policy import VisionLanguagePolicy
    from vlrl.policy.vision_language.samplers.own import OwnSampler
    from vlrl.protocols import PolicySetup

    options = VisionLanguagePolicy.Options(
        model=model,
        temperature=0.7,
        top_p=0.9,
        max_new_tokens=8,
        engine={"use": "vllm", "mode": "colocate", "max_gap": 1e-4},
    )
    policy = VisionLanguagePolicy(
        options, PolicySetup(dtype=torch.float32, max_tokens_per_chunk=4096)
    )
    samples = problems(Path(screens), 3)
    gaps = []
    for _ in range(3):
        _, traj = policy.sample(samples, 4, seed=1)
        gaps.append(float((policy.score(traj) - traj.logp)[traj.mask].abs().max()))
        with torch.no_grad():
            for parameter in policy.module.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter) * parameter.std())
        policy.version += 1
    greedy = [r.output for r in policy.sample(samples, 1, seed=1, greedy=True)[0]]
    policy.sampler = OwnSampler(policy)
    own = [r.output for r in policy.sample(samples, 1, seed=1, greedy=True)[0]]
    print(json.dumps({"gaps": gaps, "greedy": greedy, "own_greedy": own}))


if __name__ == "__main__":
    here = Path(__file__).resolve().parent
    sys.path[:0] = [str(here.parent), str(here)]
    sys.path.append(sys.argv[3])
    main(sys.argv[1], sys.argv[2])
