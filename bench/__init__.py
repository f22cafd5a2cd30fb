"""Micro-benchmarks: `python -m bench.NAME`. What each measures: README.md."""
