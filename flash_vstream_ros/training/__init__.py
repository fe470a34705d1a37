"""Training of the household model: rendered observations, vision tower, Flash Memory of composed patrols, answers.

May import demo, models and memory.
"""
