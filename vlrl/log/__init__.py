"""What a run leaves behind: metrics, rollouts, evaluations and a report."""
