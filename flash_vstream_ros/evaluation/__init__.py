"""Evaluation on published streaming benchmarks: annotations, protocol, scoring, judge and tables.

`benchmarks/` reads the annotations. May import instruments, node, engine, models, memory, process and progress. The
command passes it the function that opens a video.
"""
