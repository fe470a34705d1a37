"""Measuring tools of benchmarks, doctor and tests: durations, a node in a thread, a camera process, bytes in use.

May import memory, models, node and ros; only bench, evaluation, cli and tests import it.
"""
