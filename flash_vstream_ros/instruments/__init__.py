"""Measuring tools of benchmarks, doctor and tests: a node in a thread, a camera process, bytes held, bytes copied.

May import memory, models, node and ros; only bench, cli and tests import it.
"""
