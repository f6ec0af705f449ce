"""Builds and warms up the tiny Qwen2.5-VL model that the tests and the CPU demo start from."""
