"""Audits of rewards on answers that exist: what tells a good reward from a bad one."""
