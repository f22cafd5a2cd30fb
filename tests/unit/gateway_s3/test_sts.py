"""What is asked of STS, and its answers, without a server; botocore reads them."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.parsers import create_parser
from hypothesis import given
from hypothesis import strategies as st

from gateway.s3 import sts
from gateway.s3.errors import CODES, S3Error
from gateway.s3.target import parse_target
from objstore.model.identity import Principal, Session

MODEL = ServiceModel(Loader().load_service_model("sts", "service-2"))
ROLE_ARN = "arn:aws:iam::000000000001:role/reader"
ANN = Principal("ann")
IN_ROLE = Principal(role="reader", role_id="AROA1", session="work")
SESSION = Session("ASIA1", "a&b", 1_700_000_000, 1_700_003_600, "AKIA1", b"", "reader", "AROA1", "work", b"{}")


def parsed(action: str, body: bytes, status: int = 200) -> dict[str, Any]:
    shape = MODEL.operation_model(action).output_shape
    found: dict[str, Any] = create_parser("query").parse({"status_code": status, "headers": {}, "body": body}, shape)
    return found


@pytest.mark.parametrize(
    ("method", "path", "content_type", "is_sts"),
    [
        ("POST", "/", "application/x-www-form-urlencoded", True),
        ("POST", "/", "Application/X-WWW-Form-Urlencoded; charset=utf-8", True),
        ("POST", "/?Action=GetCallerIdentity", "", True),
        ("GET", "/?Action=GetCallerIdentity", "", True),
        ("POST", "/", "multipart/form-data; boundary=b", False),
        ("POST", "/bucket", "application/x-www-form-urlencoded", False),
        ("GET", "/bucket?Action=x", "", False),
        ("PUT", "/?Action=x", "application/x-www-form-urlencoded", False),
        ("GET", "/", "application/x-www-form-urlencoded", False),
    ],
)
def test_which_requests_are_for_sts(method: str, path: str, content_type: str, is_sts: bool) -> None:
    target = parse_target(path, "host", None)
    assert sts.is_for_sts(method, target, {"content-type": content_type}) is is_sts


def test_a_form_on_a_host_of_a_bucket_is_not_for_sts() -> None:
    target = parse_target("/", "photos.s3.example", "s3.example")
    assert not sts.is_for_sts("POST", target, {"content-type": "application/x-www-form-urlencoded"})


def test_fields_come_from_the_query_and_the_form_and_none_twice() -> None:
    target = parse_target("/?Action=A&X-Amz-Signature=s", "host", None)
    assert sts.fields_of(target, b"b=%C3%A9+c&d=") == {"Action": "A", "b": "é c", "d": ""}
    for body in (b"Action=B", b"a=1&a=1"):
        with pytest.raises(sts.Fault) as refused:
            sts.fields_of(target, body)
        assert refused.value.code == "InvalidParameterCombination"
    for body in (b"\xff", b"a=%ff", b"&".join(b"n%d=" % number for number in range(300))):
        with pytest.raises(sts.Fault) as refused:
            sts.fields_of(target, body)
        assert (refused.value.code, refused.value.status) == ("MalformedQueryString", 400)


@given(st.binary(max_size=300))
def test_any_form_is_read_or_refused(body: bytes) -> None:
    try:
        fields = sts.fields_of(parse_target("/", "host", None), body)
        sts.check_fields(sts.action_of(fields), fields, ANN)
    except sts.Fault as fault:
        sts.fault_document(fault, "1")


@given(
    st.dictionaries(st.sampled_from(("RoleArn", "RoleSessionName", "DurationSeconds", "Policy")), st.text(max_size=40))
)
def test_any_value_is_read_or_refused_in_xml(fields: dict[str, str]) -> None:
    try:
        wanted = sts.read_assume_role(fields)
        assert 900 <= wanted.seconds <= 43_200
    except sts.Fault as fault:
        document = ET.fromstring(sts.fault_document(fault, "1"))
        assert document.tag == f"{{{sts.NAMESPACE}}}ErrorResponse"


def test_an_empty_parameter_says_nothing() -> None:
    """As for AWS: clients send those that they have no value for."""
    sts.check_fields("AssumeRole", {"Action": "AssumeRole", "SerialNumber": "", "Unheard": ""}, ANN)
    assert sts.read_assume_role({"RoleArn": ROLE_ARN, "RoleSessionName": "work", "DurationSeconds": ""}) == (
        sts.AssumeRole("reader", ROLE_ARN, "work", 3600, b"")
    )


@pytest.mark.parametrize(
    ("arn", "role"),
    [
        (ROLE_ARN, "reader"),
        ("arn:aws:iam::000000000002:role/reader", None),
        ("arn:aws:iam::000000000001:role/a/path", None),
        ("arn:aws:iam::000000000001:user/reader", None),
        ("arn:aws:iam::000000000001:role/" + "r" * 65, None),
    ],
)
def test_which_role_an_arn_names(arn: str, role: str | None) -> None:
    assert sts.read_assume_role({"RoleArn": arn, "RoleSessionName": "work"}).role == role


def test_how_long_the_root_has() -> None:
    assert sts.read_seconds({}, is_root=False) == 43_200
    assert sts.read_seconds({"DurationSeconds": "129600"}, is_root=False) == 129_600
    assert sts.read_seconds({"DurationSeconds": "129600"}, is_root=True) == 3600
    assert sts.read_seconds({"DurationSeconds": "900"}, is_root=True) == 900


def test_botocore_reads_the_answers() -> None:
    found = parsed("AssumeRole", sts.role_document(SESSION, "t+/=", "0A"))
    assert found["AssumedRoleUser"] == {
        "AssumedRoleId": "AROA1:work",
        "Arn": "arn:aws:sts::000000000001:assumed-role/reader/work",
    }
    credentials = found["Credentials"]
    assert credentials.pop("Expiration").isoformat() == "2023-11-14T23:13:20+00:00"
    assert credentials == {"AccessKeyId": "ASIA1", "SecretAccessKey": "a&b", "SessionToken": "t+/="}
    assert found["PackedPolicySize"] == 1 and found["ResponseMetadata"]["RequestId"] == "0A"
    assert parsed("GetSessionToken", sts.session_document(SESSION, "t", "0A"))["Credentials"]["SessionToken"] == "t"
    who = parsed("GetCallerIdentity", sts.identity_document(IN_ROLE, "0A"))
    assert (who["UserId"], who["Account"]) == ("AROA1:work", "000000000001")
    assert who["Arn"] == "arn:aws:sts::000000000001:assumed-role/reader/work"
    fault = sts.denied(ANN, "sts:AssumeRole", ROLE_ARN)
    error = parsed("AssumeRole", sts.fault_document(fault, "0A"), 403)
    assert error["Error"]["Code"] == "AccessDenied" and error["Error"]["Type"] == "Sender"


@pytest.mark.parametrize("code", CODES)
def test_every_error_of_s3_has_a_form_in_sts(code: str) -> None:
    fault = sts.from_s3(S3Error(code))
    assert fault.message and 400 <= fault.status < 600
    assert (fault.status >= 500) == (CODES[code].status >= 500)


def test_who_somebody_is() -> None:
    assert (Principal().is_root, ANN.is_root, IN_ROLE.is_root) == (True, False, False)
    assert (IN_ROLE.issuer_arn, ANN.issuer_arn) == (ROLE_ARN, "arn:aws:iam::000000000001:user/ann")
