"""Attention over groups in one row: the plan, two exact ways to compute it, and the choice."""
