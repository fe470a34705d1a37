"""Trains the household model: looks -> vision tower -> Flash Memory of composed patrols -> answers."""
