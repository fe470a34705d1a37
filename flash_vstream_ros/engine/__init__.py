"""Threads and life cycle of frames and questions."""
