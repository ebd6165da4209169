"""Where the zip of a function or of a layer comes from: the request itself, or an S3 server."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import threading
from typing import Any

import botocore.session
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from thaw.api import members
from thaw.errors import ServiceError

# Lambda's quota of an unpacked package; a zip that is larger cannot be a smaller one.
_LARGEST_ZIP = 262_144_000
# Lambda's quota of a zip that comes in the request itself.
_LARGEST_UPLOAD = 52_428_800
_CONNECT_LIMIT_S = 5
_READ_LIMIT_S = 60


class CodeSource:
    """Reads the zip that a FunctionCode, an UpdateFunctionCode request or a LayerVersionContentInput names.

    `s3_endpoint` is the URL of the S3 server (None: code in S3 is refused). Credentials for it come from where the AWS
    SDKs look for them; where there are none, requests go unsigned.
    """

    def __init__(self, s3_endpoint: str | None = None, region: str = "us-east-1") -> None:
        self._endpoint = s3_endpoint
        self._region = region
        self._client: Any = None
        self._making = threading.Lock()

    async def read(self, code: Any, nothing: str = "Please provide a source for function code.") -> bytes:
        """The zip's bytes.

        Raises InvalidParameterValueException (with the text `nothing` where there is no source),
        RequestEntityTooLargeException over 50 MiB in the request, ServiceException where the S3 server does not answer.
        """
        if getattr(code, "image_uri", None):
            raise members.refuse("Container images are not supported by this server: send the code as ZipFile.")
        if not (code.s3_bucket or code.s3_key or code.s3_object_version):
            if code.zip_file is None:
                raise members.refuse(nothing)
            if len(code.zip_file) > _LARGEST_UPLOAD:
                text = f"Zipped size must be smaller than {_LARGEST_UPLOAD} bytes"
                raise ServiceError("RequestEntityTooLargeException", text)
            return bytes(code.zip_file)
        if code.zip_file is not None:
            raise members.refuse("Please do not provide other FunctionCode parameters when providing a ZipFile.")
        self._check_object(code)
        return await asyncio.to_thread(self._download, code.s3_bucket, code.s3_key, code.s3_object_version)

    def _check_object(self, code: Any) -> None:
        if not (code.s3_bucket and code.s3_key):
            raise members.refuse("Code in S3 needs both S3Bucket and S3Key: add the one that is missing.")
        if getattr(code, "s3_object_storage_mode", None) == "REFERENCE":
            raise members.refuse("S3ObjectStorageMode REFERENCE is not supported by this server: use COPY.")
        if self._endpoint is None:
            raise members.refuse(
                "This server has no S3 endpoint to read code from: set THAW_S3_ENDPOINT, or send the code as ZipFile."
            )

    def _download(self, bucket: str, key: str, version: str | None) -> bytes:
        """Runs in a thread of its own."""
        try:
            where = {"Bucket": bucket, "Key": key} | ({"VersionId": version} if version else {})
            answer = self._s3().get_object(**where)
            if answer["ContentLength"] > _LARGEST_ZIP:
                raise members.refuse(f"Unzipped size must be smaller than {_LARGEST_ZIP} bytes")
            content: bytes = answer["Body"].read()
        except ClientError as error:
            told = error.response["Error"]
            raise members.refuse(
                f"Error occurred while GetObject. S3 Error Code: {told['Code']}. "
                f"S3 Error Message: {told.get('Message', '')}"
            ) from error
        except (BotoCoreError, HTTPClientError, OSError) as error:
            raise ServiceError(
                "ServiceException",
                f"The S3 server {self._endpoint} did not give s3://{bucket}/{key} ({error}): check THAW_S3_ENDPOINT.",
                type="Service",
            ) from error
        return content

    def _s3(self) -> Any:
        """The client, made on first use: that takes longer than a whole request."""
        with self._making:
            if self._client is None:
                session = botocore.session.get_session()
                unsigned = {} if session.get_credentials() else {"signature_version": UNSIGNED}
                config = Config(
                    connect_timeout=_CONNECT_LIMIT_S,
                    read_timeout=_READ_LIMIT_S,
                    retries={"total_max_attempts": 2},
                    s3={"addressing_style": "path"},
                    **unsigned,
                )
                self._client = session.create_client(
                    "s3", region_name=self._region, endpoint_url=self._endpoint, config=config
                )
        return self._client


def digests(code: bytes) -> dict[str, Any]:
    """The fields of a Configuration that follow from its zip."""
    digest = hashlib.sha256(code)
    return {
        "code_sha256": base64.b64encode(digest.digest()).decode(),
        "code_key": digest.hexdigest(),
        "code_size": len(code),
    }
