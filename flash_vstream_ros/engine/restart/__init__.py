"""Restart: the memory is saved to disk in the background and restored when the engine starts.

May import ingest, models and memory.
"""
