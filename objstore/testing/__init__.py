"""For tests of programs that use S3: a real cluster in one line. `LocalCluster` is the whole interface.

Nothing is imported until it is asked for: pytest loads the plugin of this package in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from objstore.testing.cluster import LocalCluster

__all__ = ["LocalCluster"]


def __getattr__(name: str) -> object:
    if name == "LocalCluster":
        from objstore.testing.cluster import LocalCluster

        return LocalCluster
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
