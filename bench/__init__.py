"""Benchmarks: every figure is a ratio against a named floor in the same run, with the machine beside it."""
