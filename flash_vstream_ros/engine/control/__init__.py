"""Commands from other threads (pause, reset, forget, list), which the worker runs on the memory.

May import ingest and answering.
"""
