"""Errors: the table is complete, and what a client reads is the truth and parses."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from xml.etree import ElementTree

import pytest

import gateway.s3
from gateway.s3.errors import CODES, S3Error, from_model, render_error
from gateway.s3.operations import NOT_CONFIGURED
from objstore.model import errors as model

EXPECTED = {
    model.BadDigest: ("BadDigest", 400),
    model.IncompleteBody: ("IncompleteBody", 400),
    model.NoSuchBucket: ("NoSuchBucket", 404),
    model.NoSuchKey: ("NoSuchKey", 404),
    model.NoSuchUpload: ("NoSuchUpload", 404),
    model.PreconditionFailed: ("PreconditionFailed", 412),
    model.BucketAlreadyExists: ("BucketAlreadyOwnedByYou", 409),
    model.BucketNotEmpty: ("BucketNotEmpty", 409),
    model.InvalidPart: ("InvalidPart", 400),
    model.InvalidPartOrder: ("InvalidPartOrder", 400),
    model.PartTooSmall: ("EntityTooSmall", 400),
    model.InsufficientStorage: ("InsufficientStorage", 507),
    model.Overloaded: ("SlowDown", 503),
    model.QuorumLost: ("ServiceUnavailable", 503),
    model.DeadlineExceeded: ("ServiceUnavailable", 503),
    model.StaleEpoch: ("ServiceUnavailable", 503),
    model.Corrupt: ("InternalError", 500),
    model.ConfigError: ("InternalError", 500),
}


@pytest.mark.parametrize("kind", model.CODES.values())
def test_every_error_of_the_engine_has_an_s3_form(kind: type[model.ObjstoreError]) -> None:
    error = from_model(kind("what happened"))
    if kind in EXPECTED:
        assert (error.code, error.status) == EXPECTED[kind]
    assert ("what happened" in error.message) == (error.code != "InternalError")
    assert ("Retry-After" in error.headers) == (error.status == 503)


def test_every_code_that_is_raised_is_in_the_table() -> None:
    folder = Path(inspect.getfile(gateway.s3)).parent
    used = {code for code, _ in NOT_CONFIGURED.values()}
    for module in folder.glob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "S3Error":
                first = node.args[0]
                if isinstance(first, ast.Constant):
                    used.add(str(first.value))
    assert len(used) > 30
    assert used <= CODES.keys()


def test_the_xml_has_the_elements_in_order_and_escapes_them() -> None:
    error = S3Error("NoSuchKey", "a < b & \x01", extra={"Key": "k\r\n", "BucketName": "b"})
    body = render_error(error, resource="/b/k", request_id="17")
    root = ElementTree.fromstring(body)
    assert [(child.tag, child.text) for child in root] == [
        ("Code", "NoSuchKey"),
        ("Message", "a < b & \ufffd"),
        ("Key", "k\r\n"),
        ("BucketName", "b"),
        ("Resource", "/b/k"),
        ("RequestId", "17"),
    ]


def test_an_unknown_code_is_a_bug_and_shows_at_once() -> None:
    with pytest.raises(KeyError):
        S3Error("NoSuchCode")
