"""Fine-tuning of a vision-language model with LoRA, on memories that the engine built of recordings."""
