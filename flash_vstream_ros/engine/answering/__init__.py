"""From a question to its answer: request queue, dialogue, prefix cache and prefill scheduling.

May import models and memory, never ingest.
"""
