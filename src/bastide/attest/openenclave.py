"""Open Enclave's container for a quote: 16 bytes before it, all little-endian.

Source: Open Enclave SDK, ``oe_report_header_t``: u32 version 1, u32 type 2 (SGX remote), u64 size of the quote.
"""

import struct

from bastide.errors import MalformedError

_HEADER = struct.Struct("<IIQ")
_VERSION = 1
_SGX_REMOTE = 2


def quote_in(report: bytes) -> bytes:
    """The quote in an Open Enclave report.

    Raises:
        MalformedError: ``openenclave.report.header``, ``openenclave.report.size``.
    """
    if len(report) < _HEADER.size:
        message = f"expected at least {_HEADER.size} bytes, seen {len(report)}"
        raise MalformedError("openenclave.report.size", message)
    version, kind, size = _HEADER.unpack_from(report)
    if (version, kind) != (_VERSION, _SGX_REMOTE):
        raise MalformedError(
            "openenclave.report.header",
            f"expected version {_VERSION} and type {_SGX_REMOTE} (SGX remote), seen {version} and {kind}",
            hint="a raw quote goes to /attest/SgxEnclave",
        )
    if size != len(report) - _HEADER.size:
        message = f"the header says {size} bytes of quote, seen {len(report) - _HEADER.size}"
        raise MalformedError("openenclave.report.size", message)
    return report[_HEADER.size :]
