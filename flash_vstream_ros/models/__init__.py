"""Vision-language models behind one small interface; imports nothing of ROS."""

from .interface import Answering, Grid, ModelError, Token, VisionLanguageModel
from .load import load_model

__all__ = ["Answering", "Grid", "ModelError", "Token", "VisionLanguageModel", "load_model"]
