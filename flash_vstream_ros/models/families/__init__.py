"""Model families: one module per `model_type` of a config.json, with the same name.

Each defines `load(folder: Path, options: LoadOptions) -> VisionLanguageModel`, which raises ModelError. A new family is
a new module here. Modules are found by name and imported only when a folder needs them.
"""
