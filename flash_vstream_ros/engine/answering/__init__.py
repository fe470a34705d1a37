"""From a question to its answer: request queue, dialogue, prefix cache and prefill scheduling.

May import archive, models and memory, never ingest.
"""
