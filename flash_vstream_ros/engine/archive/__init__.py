"""Archive: the folder on the disk, and the key frames of past days in it, written in the background.

May import memory, and the engine's log; no torch at run time.
"""
