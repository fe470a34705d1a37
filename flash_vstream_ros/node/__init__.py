"""The ROS 2 node: topics, services, parameters and life cycle around the engine.

May import engine, models, memory and ros.
"""
