"""Evaluation on published streaming benchmarks: annotations, protocol, scoring, judge and tables.

`benchmarks/` has a file for each benchmark, which reads its annotations. May import instruments, node, engine, models,
memory, process and progress. `cli/evaluate.py` passes in the function that opens a video.
"""
