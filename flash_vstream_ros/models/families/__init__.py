"""One file for each `model_type` of a config.json, called like it: its `load` makes the model of such a folder.

`load(folder: Path, options: LoadOptions) -> VisionLanguageModel`, raising ModelError. A further family is one more file
here; nothing else knows their names, and none is imported before a folder asks for it.
"""
