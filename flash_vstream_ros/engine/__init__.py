"""The engine: one worker thread owns the model and the memory; frames and questions reach it through queues.

May import models and memory, never ROS.
"""
