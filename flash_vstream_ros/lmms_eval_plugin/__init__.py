"""Plug-in of lmms-eval: the model `flash_vstream`, and tasks for streaming benchmarks that lmms-eval lacks.

lmms-eval finds the model by the entry point in setup.py, and the tasks by `--include_path` with the folder `tasks/`,
which `python -m flash_vstream_ros.lmms_eval_plugin` prints. This file imports nothing, so that lmms-eval is optional.
"""
