"""Model families: one module for each `model_type` of a config.json, named like it.

Each defines `load(folder: Path, options: LoadOptions) -> VisionLanguageModel`, which raises ModelError. A further
family is one more module here. Modules are found by name and imported only when a folder needs them.
"""
