"""Prints the folder of the tasks, for lmms-eval's option --include_path."""

from pathlib import Path

print(Path(__file__).with_name("tasks"))
