"""Greedy decoding: KV cache, prefix cache, CUDA graphs, attention kernels. May import memory."""
