"""Restart: the memory is saved to disk in the background, and restored or rebuilt when the engine starts.

May import archive, ingest, reports, models and memory.
"""
