"""Fetches the client libraries that the tests here run: `python -m tests.s3.clients.prepare FOLDER`.

Each gets a folder of its own, because they need different versions of one another's dependencies, and none may change
what objstore itself runs with. What is there already, for the same wishes and the same Python, is left as it is.
What cannot be had is said, and its tests are skipped; except in CI, which must have everything.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

JAVASCRIPT = "javascript"
HERE = Path(__file__).parent
PYTHON_LIBRARIES = {
    "boto3-1.35": ["boto3==1.35.99"],  # the last that sends no checksum unless it is asked to
    "s3fs": ["s3fs>=2024.6"],
    "pyarrow": ["pyarrow>=16"],
    "duckdb": ["duckdb==1.5.5", "duckdb-extension-httpfs==1.5.5"],  # the extension fits its own version only
    "minio": ["minio>=7.2"],
    "obstore": ["obstore>=0.8"],
    "opendal": ["opendal>=0.46"],
}
_DONE = "wanted.txt"
_AT_ONCE = 4
_ATTEMPTS = 4
_PAUSE_S = 10.0


def main(folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-warn-conflicts"]
    npm = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts"]
    package = HERE / "jobs" / "package.json"
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        jobs = [pool.submit(_prepare, folder / JAVASCRIPT, package.read_text(), npm, package)]
        for name, wanted in PYTHON_LIBRARIES.items():
            install = [*pip, "--only-binary", ":all:", "--target", ".", *wanted]
            wish = "\n".join([*wanted, f"Python {sys.version_info[:2]}"])
            jobs.append(pool.submit(_prepare, folder / name, wish, install))
    for job in jobs:
        job.result()
    return 0


def _prepare(target: Path, wanted: str, install: list[str], *files: Path) -> None:
    """The folder gets its name when everything is in it: what was interrupted does not count."""
    done = target / _DONE
    if done.exists() and done.read_text() == wanted:
        return
    print(f"fetching {target.name} for the tests of S3 clients", file=sys.stderr)
    shutil.rmtree(target, ignore_errors=True)
    part = target.with_name(f"{target.name}.part")
    for left in reversed(range(_ATTEMPTS)):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        for file in files:
            shutil.copy(file, part)
        try:
            subprocess.run(install, cwd=part, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            if left and os.environ.get("CI"):  # a registry may be away for a moment
                time.sleep(_PAUSE_S)
                continue
            if os.environ.get("CI"):
                raise
            print(f"{target.name} cannot be had, its tests will be skipped: {error}", file=sys.stderr)
            return
        (part / _DONE).write_text(wanted)
        part.rename(target)
        return


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
