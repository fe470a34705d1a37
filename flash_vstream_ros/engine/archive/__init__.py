"""Archive: the folder on the disk with the key frames of past days, which are written in the background.

May import memory and the engine's log, but not torch at run time.
"""
