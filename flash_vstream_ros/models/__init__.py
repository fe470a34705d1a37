"""Vision-language models behind one interface: encode slots, answer from a memory snapshot.

May import memory, never engine or ROS.
"""
