"""Vision-language models behind one small interface; imports nothing of ROS."""
