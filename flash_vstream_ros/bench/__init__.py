"""Benchmarks that print ratios, so that they hold on any machine: each module has `run` and `show`.

May import everything but cli.
"""
