"""A small, strongly consistent, erasure-coded S3 object store. Where things are: ARCHITECTURE.md."""

__version__ = "0.1.0"
