"""Benchmarks that print ratios, so that they hold on any machine."""
