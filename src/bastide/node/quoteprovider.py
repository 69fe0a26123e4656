"""``/etc/sgx_default_qcnl.conf``: where Intel's default quote provider library gets certificates and collateral.

Source: Intel SGXDataCenterAttestationPrimitives, QuoteGeneration/qcnl/linux/sgx_default_qcnl.conf (JSON with comments
since DCAP 1.12; lines KEY=VALUE before).
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self
from urllib.parse import SplitResult, urlsplit

from bastide.errors import MalformedError

DEFAULT_URL = "https://localhost:8081/sgx/certification/v4/"
"""What the library asks when the file names nothing."""

_COMMENT_OR_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_LARGEST = 64 * 1024


class CollateralService(StrEnum):
    """Who serves the collateral, as far as the host's name tells."""

    INTEL = "Intel PCS"
    AZURE = "Azure THIM"
    ALIBABA = "Alibaba Cloud"
    LOCAL = "a PCCS on this node"
    OTHER = "a PCCS elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuoteProviderConfig:
    """What the file says, without its secrets.

    Attributes:
        pccs_url: base URL of the service that gives PCK certificates.
        collateral_url: base URL of the service that gives collateral; the same unless the file names another.
        secure_certificates: whether the service's TLS certificate must be good.
        custom_requests: whether the file adds headers or parameters to requests (they may be credentials).
    """

    pccs_url: str
    collateral_url: str
    secure_certificates: bool = True
    custom_requests: bool = False

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Read either form; keys that are not about where to ask are passed over.

        Raises:
            MalformedError: ``node.qcnl.size`` beyond 64 KiB, ``node.qcnl.syntax``, ``node.qcnl.url``.
        """
        if len(raw) > _LARGEST:
            raise MalformedError("node.qcnl.size", f"expected at most {_LARGEST} bytes, seen {len(raw)}")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            raise MalformedError("node.qcnl.syntax", "expected UTF-8") from None
        members = _json_members(text) if "{" in text else _line_members(text)
        pccs = _url(members.get("pccs_url", DEFAULT_URL))
        return cls(
            pccs_url=pccs,
            collateral_url=_url(members.get("collateral_service", pccs)),
            secure_certificates=members.get("use_secure_cert", True) is not False,
            custom_requests=bool(members.get("custom_request_options")),
        )

    def build(self) -> bytes:
        """The file again, in its JSON form, without what may be secret."""
        return json.dumps(
            {
                "pccs_url": self.pccs_url,
                "collateral_service": self.collateral_url,
                "use_secure_cert": self.secure_certificates,
                **({"custom_request_options": {"left out": True}} if self.custom_requests else {}),
            },
            indent=2,
        ).encode()

    @property
    def service(self) -> CollateralService:
        """Who serves the collateral."""
        return service_of(self.collateral_url)


def service_of(url: str) -> CollateralService:
    """Who serves at ``url``.

    Source: Intel PCS API; Microsoft, "Trusted Hardware Identity Management"; Alibaba Cloud, "SGX remote attestation".
    """
    host = (urlsplit(url).hostname or "").lower()
    if host == "api.trustedservices.intel.com":
        return CollateralService.INTEL
    if host == "169.254.169.254" or host.endswith(".azure.net"):
        return CollateralService.AZURE
    if host.startswith("sgx-dcap-server") and host.endswith(".aliyuncs.com"):
        return CollateralService.ALIBABA
    return CollateralService.LOCAL if host in ("localhost", "127.0.0.1", "::1") else CollateralService.OTHER


def _json_members(text: str) -> Mapping[str, object]:
    try:
        tree: object = json.loads(_COMMENT_OR_STRING.sub(_without_comment, text))
    except (ValueError, RecursionError) as error:
        raise MalformedError(
            "node.qcnl.syntax",
            f"expected JSON with comments: {str(error)[:120]}",
            hint="the library ignores a file that it cannot read; look for a comma too many or too few",
        ) from None
    if not isinstance(tree, dict):
        raise MalformedError("node.qcnl.syntax", "expected a JSON object")
    return tree


def _without_comment(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else " "


def _line_members(text: str) -> Mapping[str, object]:
    members: dict[str, object] = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        match key.strip().upper():
            case "PCS_URL" | "PCCS_URL":
                members["pccs_url"] = value.strip()
            case "USE_SECURE_CERT":
                members["use_secure_cert"] = value.strip().upper() != "FALSE"
    return members


def _url(value: object) -> str:
    """Scheme, host, port and path alone: user names and queries carry credentials."""
    try:
        parts = urlsplit(value) if isinstance(value, str) and len(value) < _LARGEST else SplitResult("", "", "", "", "")
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        parts, port = SplitResult("", "", "", "", ""), ""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise MalformedError("node.qcnl.url", f"expected an http or https URL, seen {_shown(value)}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}{parts.path}"


def _shown(value: object) -> str:
    """Enough of a bad value to find it, and nothing of a password in it."""
    return repr(value.partition("@")[0].partition(":")[0][:40]) if isinstance(value, str) else type(value).__name__
