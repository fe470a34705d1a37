"""Flash-VStream-LLaVA (arXiv 2406.08085): CLIP, projector and Vicuna, with STAR memory."""
