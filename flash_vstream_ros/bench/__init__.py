"""Benchmarks. They print ratios, which are valid on any machine. Each module has `run` and `show`.

May import everything but cli.
"""
