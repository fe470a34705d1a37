"""Reports: summaries of past intervals, kept within bounds and rolled up into summaries of hours and days.

May import answering and memory.
"""
