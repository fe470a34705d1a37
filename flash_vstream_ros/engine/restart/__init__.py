"""Restart: the memory is saved to disk in the background and restored when the engine starts.

May import archive, ingest, models and memory.
"""
