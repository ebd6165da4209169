"""AWS Signature Version 4, verified: the signature is computed anew by botocore's own signer and compared.

A signature is in the Authorization header, or (presigned URLs) in parameters of the query with a lifetime of their own.
Texts and codes are those of AWS's front ends; Lambda answers all of them with 403.
"""

from __future__ import annotations

import asyncio
import configparser
import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from botocore.credentials import Credentials

from thaw.api.http import Request
from thaw.errors import ConfigurationError, ServiceError

_SKEW = timedelta(minutes=5)
# A presigned URL is good for seven days at most.
_LONGEST_S = 7 * 86400
_TIME = "%Y%m%dT%H%M%SZ"
_ALGORITHM = "AWS4-HMAC-SHA256"
_PART = re.compile(r"(Credential|SignedHeaders|Signature)=([^\s,]+)")
# Hashing more than this takes longer than the way to another thread and back.
_HASHED_HERE = 1 << 20


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says of its signature; not verified yet. `expires_s` is the lifetime of a presigned URL."""

    key_id: str
    time: str
    region: str
    service: str
    signed: tuple[str, ...]
    signature: str
    expires_s: int | None = None


class _Recomputed(SigV4Auth):  # type: ignore[misc]
    """botocore's signer over exactly the headers that the client signed."""

    def headers_to_sign(self, request: Any) -> Any:
        return request.headers


class Signatures:
    """Verifies requests against access keys (id to secret) for one region and service."""

    def __init__(
        self,
        secrets: Mapping[str, str],
        *,
        region: str,
        service: str = "lambda",
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._secrets = secrets
        self._region = region
        self._service = service
        self._clock = clock

    def claim(self, request: Request) -> Claim:
        """The claim of a request whose body has not arrived yet.

        Raises MissingAuthenticationToken-, IncompleteSignature-, UnrecognizedClient- and InvalidSignatureException.
        """
        header = request.headers.get("authorization")
        if header:
            claim = _read(header, request.headers.get("x-amz-date", ""))
        elif "X-Amz-Algorithm" in request.query or "X-Amz-Signature" in request.query:
            claim = _read_query({name: values[-1] for name, values in request.query.items()})
        else:
            raise _refusal("MissingAuthenticationTokenException", "Missing Authentication Token")
        if claim.key_id not in self._secrets:
            raise _refusal("UnrecognizedClientException", "The security token included in the request is invalid.")
        if claim.region != self._region:
            raise _invalid("Credential should be scoped to a valid region.")
        if claim.service != self._service:
            raise _invalid(f"Credential should be scoped to correct service: '{self._service}'.")
        self._check_time(claim)
        return claim

    async def verify(self, claim: Claim, request: Request, body: bytes) -> None:
        """Raises InvalidSignatureException where the signature does not belong to the request."""
        if len(body) > _HASHED_HERE:
            digest = (await asyncio.to_thread(hashlib.sha256, body)).hexdigest()
        else:
            digest = hashlib.sha256(body).hexdigest()
        expected = self._signature(claim, request, digest)
        told = request.headers.get("x-amz-content-sha256", digest)
        if not hmac.compare_digest(expected, claim.signature) or told != digest:
            raise _invalid(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
                "Access Key and signing method. Consult the service documentation for details."
            )

    def _signature(self, claim: Claim, request: Request, digest: str) -> str:
        headers = HTTPHeaders()
        for name, value in request.raw_headers:
            if (lower := name.decode("latin-1").lower()) in claim.signed:
                headers.add_header(lower, value.decode("utf-8", "replace"))
        # Clients write a query in their own ways; both sides sign its names and values in one way.
        params = parse_qsl(request.raw_query.replace("+", "%2B"), keep_blank_values=True)
        if claim.expires_s is not None:
            params = [(name, value) for name, value in params if name != "X-Amz-Signature"]
        url = f"http://{request.headers.get('host', '')}{request.raw_path}"
        signed = AWSRequest(method=request.method, url=url, params=params, headers=headers)
        signed.context["timestamp"] = claim.time
        signer = _Recomputed(Credentials(claim.key_id, self._secrets[claim.key_id]), claim.service, claim.region)
        # The signer takes the payload's digest from this header only where the client signed it.
        signer.payload = lambda _: digest
        text: str = signer.signature(signer.string_to_sign(signed, signer.canonical_request(signed)), signed)
        return text

    def _check_time(self, claim: Claim) -> None:
        text = claim.time
        moment, present = _time(text), self._clock()
        lifetime = _SKEW if claim.expires_s is None else timedelta(seconds=claim.expires_s)
        if moment < present - lifetime:
            raise _invalid(
                f"Signature expired: {text} is now earlier than {_text(present - lifetime)} "
                f"({_text(present)} - {lifetime // timedelta(minutes=1)} min.)"
            )
        if moment > present + _SKEW:
            raise _invalid(
                f"Signature not yet current: {text} is still later than {_text(present + _SKEW)} "
                f"({_text(present)} + 5 min.)"
            )


def _refusal(code: str, text: str) -> ServiceError:
    return ServiceError(code, text)


def _invalid(text: str) -> ServiceError:
    return _refusal("InvalidSignatureException", text)


def _text(moment: datetime) -> str:
    return moment.strftime(_TIME)


def _time(text: str) -> datetime:
    try:
        return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise _refusal(
            "IncompleteSignatureException",
            f"Date must be in ISO-8601 'basic format'. Got '{text}'. See http://en.wikipedia.org/wiki/ISO_8601",
        ) from error


def _read(header: str, time: str) -> Claim:
    """The parts of an Authorization header. Raises IncompleteSignatureException where one is missing."""
    parts = dict(_PART.findall(header))
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if name not in parts]
    if not header.startswith(_ALGORITHM) or missing or not time:
        wanted = " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
        dated = "" if time else "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
        raise _refusal("IncompleteSignatureException", f"{wanted} {dated}Authorization={header[:200]}".strip())
    signed = tuple(parts["SignedHeaders"].lower().split(";"))
    claim = _scoped(parts["Credential"], time, signed, parts["Signature"])
    _check_signed(signed, ("host", "x-amz-date"))
    return claim


def _read_query(query: Mapping[str, str]) -> Claim:
    """The parts of a presigned URL's query. Raises IncompleteSignatureException where one is missing."""
    wanted = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date")
    if any(not query.get(name) for name in wanted) or query["X-Amz-Algorithm"] != _ALGORITHM:
        raise _refusal(
            "IncompleteSignatureException",
            "AWS query-string parameters must include 'X-Amz-Algorithm', 'X-Amz-Credential', 'X-Amz-Signature', "
            "'X-Amz-SignedHeaders' and 'X-Amz-Date'. Re-examine the query-string parameters.",
        )
    expires = query.get("X-Amz-Expires", "300")
    if not (expires.isascii() and expires.isdigit() and 0 < int(expires[:7]) <= _LONGEST_S):
        raise _refusal(
            "IncompleteSignatureException",
            f"X-Amz-Expires must be a number of seconds, from 1 to {_LONGEST_S}: got '{expires[:20]}'.",
        )
    signed = tuple(query["X-Amz-SignedHeaders"].lower().split(";"))
    claim = _scoped(query["X-Amz-Credential"], query["X-Amz-Date"], signed, query["X-Amz-Signature"])
    _check_signed(signed, ("host",))
    return replace(claim, expires_s=int(expires[:7]))


def _scoped(credential: str, time: str, signed: tuple[str, ...], signature: str) -> Claim:
    """The claim; a credential is keyid/date/region/service/aws4_request."""
    scope = credential.rsplit("/", 4)
    if len(scope) != 5 or scope[4] != "aws4_request":
        raise _refusal(
            "IncompleteSignatureException",
            f"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
            f"got '{credential[:200]}'",
        )
    key_id, day, region, service, _ = scope
    if day != time[:8]:
        raise _invalid(
            f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
            f"'{day}' != '{time[:8]}', from '{time}'."
        )
    return Claim(key_id, time, region, service, signed, signature)


def _check_signed(signed: Iterable[str], wanted: Iterable[str]) -> None:
    """A signature that does not cover the host and the time could be used elsewhere and for ever."""
    for name in wanted:
        if name not in signed:
            raise _invalid(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")


# --- settings --------------------------------------------------------------------------------------------------------


def read_access_keys(file: Path) -> dict[str, str]:
    """The access keys (id to secret) of an AWS credentials file.

    Raises ConfigurationError where the file cannot be read or holds none; its content is never repeated.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(file.read_text())
    except OSError as error:
        raise ConfigurationError(
            f"The credentials file {file} cannot be read ({error.strerror}): set THAW_CREDENTIALS_FILE to one that can."
        ) from error
    except (configparser.Error, UnicodeDecodeError):
        # The parser's error quotes the line, which may be a secret.
        raise ConfigurationError(
            f"The credentials file {file} is no AWS credentials file: write sections such as [default] with lines "
            "aws_access_key_id = … and aws_secret_access_key = …."
        ) from None
    keys = {
        section["aws_access_key_id"]: section["aws_secret_access_key"]
        for section in parser.values()
        if section.get("aws_access_key_id") and section.get("aws_secret_access_key")
    }
    if not keys:
        raise ConfigurationError(
            f"The credentials file {file} holds no access key: add a section with aws_access_key_id and "
            "aws_secret_access_key."
        )
    return keys


def check_exposure(host: str, credentials_file: Path | None) -> None:
    """Raises ConfigurationError where anybody on the network could run code here: no loopback, and no credentials."""
    if credentials_file is None and not _is_loopback(host):
        raise ConfigurationError(
            f"The server does not listen on {host} without credentials, because anybody who reaches it could run code "
            "here: set THAW_CREDENTIALS_FILE to an AWS credentials file, or listen on 127.0.0.1."
        )


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        # Not for this check to say: listening there fails with its own sentence.
        return True
    return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
