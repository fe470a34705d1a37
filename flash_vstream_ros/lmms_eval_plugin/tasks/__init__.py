"""Task files of lmms-eval, a YAML file for each benchmark: the folder for its option `--include_path`."""
