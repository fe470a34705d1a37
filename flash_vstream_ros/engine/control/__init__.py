"""Commands of other threads on the memory (pause, reset, forget, list), run by the worker.

May import ingest and answering.
"""
