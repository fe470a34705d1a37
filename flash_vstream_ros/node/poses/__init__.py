"""Poses of frames, from a topic or from tf, looked up at the frames' stamps.

Imports engine, memory, ros and the log of node.
"""
