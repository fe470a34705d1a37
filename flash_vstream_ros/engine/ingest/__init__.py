"""From a camera frame to a slot in the memory: mailbox, stamps, prefetch, static-scene filter, encoding.

May import models and memory, never answering.
"""
