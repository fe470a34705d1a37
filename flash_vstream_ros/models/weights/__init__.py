"""Model files: found or downloaded, checked, and read into networks. Every error is a ModelError with a sentence.

Modules import one another in this order: load_errors, folder, hub, locate, weight_files, config_checks, adapter,
quantised, checkpoint. May import models.interface, models.names and models.prompt.
"""
