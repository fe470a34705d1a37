"""Flash-VStream-LLaVA (arXiv 2406.08085): CLIP, a projector and Vicuna, with STAR memory.

May import memory, and those modules of models that all families use.
"""
