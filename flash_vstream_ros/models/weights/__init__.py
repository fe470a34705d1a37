"""Finds or downloads model files, checks them, and reads them into networks. Every error is a ModelError.

A module imports only modules before it in this order: load_errors, folder, hub, locate, weight_files, config_checks,
adapter, quantised, checkpoint. May import models.interface, models.names and models.prompt.
"""
