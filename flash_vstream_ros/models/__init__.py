"""Vision-language models behind one interface: they encode slots and answer from a memory snapshot.

May import memory, never engine or ROS.
"""
