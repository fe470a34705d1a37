"""Watches: yes/no questions that are checked on the newest slots while nothing else waits, and their events.

May import answering, models and memory.
"""
