"""Attention over groups that lie in one row: the plan, two exact ways to compute it, the choice."""
