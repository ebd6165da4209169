"""Where the zip of a function or of a layer comes from."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from thaw.api import members


class CodeSource:
    """Reads the zip that a FunctionCode, an UpdateFunctionCode request or a LayerVersionContentInput names."""

    async def read(self, code: Any, nothing: str = "Please provide a source for function code.") -> bytes:
        """The zip's bytes. Raises InvalidParameterValueException, with the text `nothing` where there is no source."""
        if code.s3_bucket or code.s3_key or code.s3_object_version:
            raise members.refuse("Code in S3 is not supported by this server: send it as ZipFile.")
        if getattr(code, "image_uri", None):
            raise members.refuse("Container images are not supported by this server: send the code as ZipFile.")
        if code.zip_file is None:
            raise members.refuse(nothing)
        return bytes(code.zip_file)


def digests(code: bytes) -> dict[str, Any]:
    """The fields of a Configuration that follow from its zip."""
    digest = hashlib.sha256(code)
    return {
        "code_sha256": base64.b64encode(digest.digest()).decode(),
        "code_key": digest.hexdigest(),
        "code_size": len(code),
    }
