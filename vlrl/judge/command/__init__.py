"""`vlrl train-judge`, `vlrl serve-judge` and `vlrl references`."""
