"""From a model name to weights in memory: hub, folder checks, checkpoints, LoRA adapters, quantisation."""
