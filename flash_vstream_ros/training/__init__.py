"""Trains the household model: the vision tower on rendered observations, the language model on composed patrols.

May import demo, models and memory.
"""
