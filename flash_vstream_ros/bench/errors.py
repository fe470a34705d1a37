"""The error of a benchmark that cannot run."""


class BenchmarkError(RuntimeError):
    """A benchmark lacks a package or its input; the message says what to do."""
