"""From a camera frame to a slot in the memory: mailbox, stamps, prefetch, faces, static-scene filter, encoding.

May import models and memory, never answering.
"""
