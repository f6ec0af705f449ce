"""The four interfaces that plug-ins implement: Task, Reward, Policy and its Trajectory.

Everything that the trainer, the evaluation and the reports ask of a plug-in is declared here.
What has a default may be left out; nothing else is ever looked for.
"""

from vlrl.protocols.policy import (
    Drawn,
    Evaluation,
    Policy,
    PolicyOptions,
    PolicySetup,
    Ready,
    Regression,
    T,
    Trajectory,
)
from vlrl.protocols.reward import Learner, Reward, TrainableReward
from vlrl.protocols.task import Drawing, KnownAnswers, StageStarts, Task

__all__ = [
    "Drawing",
    "Drawn",
    "Evaluation",
    "KnownAnswers",
    "Learner",
    "Policy",
    "PolicyOptions",
    "PolicySetup",
    "Ready",
    "Regression",
    "Reward",
    "StageStarts",
    "T",
    "Task",
    "TrainableReward",
    "Trajectory",
]
