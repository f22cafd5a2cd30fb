"""Reading the answers of boto3."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError


def error_code(operation: Callable[..., Any], **parameters: Any) -> str:
    """The S3 error code that the call must end with (for HEAD: the status)."""
    with pytest.raises(ClientError) as caught:
        operation(**parameters)
    code = caught.value.response["Error"]["Code"]
    assert isinstance(code, str)
    return code


def status_of(response: Mapping[str, Any]) -> int:
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    assert isinstance(status, int)
    return status
