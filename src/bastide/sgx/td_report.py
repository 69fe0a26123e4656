"""TD report bodies as quotes carry them: TDX 1.0, 1.5 and 1.5 with what migration adds.

Each later form is the earlier one with fields after its end, and so it is here: a 1.0 body that may hold the fields
of 1.5, which may hold those of the extended form.

Source: Intel TDX DCAP Quoting Library API, "TD Quote Body"; Intel quote verification library, ``TDReport15Ex``.
"""

from dataclasses import dataclass
from enum import IntFlag

from bastide.errors import MalformedError
from bastide.sgx.codec import Layout, data, number

TD_REPORT10_SIZE = 584
TD_REPORT15_SIZE = 648
TD_REPORT15_EX_SIZE = 885
_SOURCE = 'Intel TDX DCAP Quoting Library API, "TD Quote Body"'

_TD10_DATA = (
    ("tee_tcb_svn", 16),
    ("mr_seam", 48),
    ("mr_signer_seam", 48),
    ("seam_attributes", 8),
    ("td_attributes", 8),
    ("xfam", 8),
    ("mr_td", 48),
    ("mr_config_id", 48),
    ("mr_owner", 48),
    ("mr_owner_config", 48),
    ("rtmr0", 48),
    ("rtmr1", 48),
    ("rtmr2", 48),
    ("rtmr3", 48),
    ("report_data", 64),
)

_TD10 = Layout(
    "quote.td_report",
    TD_REPORT10_SIZE,
    _SOURCE,
    *(data(name, sum(size for _, size in _TD10_DATA[:i]), size) for i, (name, size) in enumerate(_TD10_DATA)),
)

_TD15 = Layout(
    "quote.td_report15",
    TD_REPORT15_SIZE - TD_REPORT10_SIZE,
    _SOURCE,
    data("tee_tcb_svn2", 0, 16),
    data("mr_service_td", 16, 48),
)

_TD15_EX = Layout(
    "quote.td_report15_ex",
    TD_REPORT15_EX_SIZE - TD_REPORT15_SIZE,
    _SOURCE,
    number("vm_id", 0, 1),
    data("td_id", 1, 32),
    data("device_info", 33, 48),
    data("init_service_td_hash", 81, 48),
    data("init_service_td_attributes", 129, 8),
    data("init_cpu_svn", 137, 16),
    data("init_tee_tcb_svn", 153, 16),
    data("init_tee_fmspc", 169, 12),
    data("current_service_td_hash", 181, 48),
    data("current_service_td_attributes", 229, 8),
)


class TdAttributes(IntFlag):
    """TDATTRIBUTES, 64 bits, little-endian; bits without a name are kept.

    Source: Intel TDX Module Base Architecture Specification, "ATTRIBUTES".
    """

    DEBUG = 0x1
    SEPT_VE_DISABLE = 1 << 28
    PKS = 1 << 30
    KL = 1 << 31
    PERFMON = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class Td15ExFields:
    """What the extended report of TDX 1.5 adds: 237 bytes, from 648 on.

    Attributes:
        vm_id: 8 bits.
        td_id: 32 bytes.
        device_info: 48 bytes.
        init_service_td_hash: 48 bytes; service TDs bound when the TD was made.
        init_service_td_attributes: 8 bytes.
        init_cpu_svn: 16 bytes; of the platform on which the TD was made.
        init_tee_tcb_svn: 16 bytes; likewise.
        init_tee_fmspc: 12 bytes; likewise.
        current_service_td_hash: 48 bytes; service TDs bound now.
        current_service_td_attributes: 8 bytes.

    Source: Intel quote verification library, ``TDReport15Ex`` (2026-07).
    """

    vm_id: int
    td_id: bytes
    device_info: bytes
    init_service_td_hash: bytes
    init_service_td_attributes: bytes
    init_cpu_svn: bytes
    init_tee_tcb_svn: bytes
    init_tee_fmspc: bytes
    current_service_td_hash: bytes
    current_service_td_attributes: bytes

    @classmethod
    def parse(cls, raw: bytes) -> "Td15ExFields":
        """Read 237 bytes.

        Raises:
            MalformedError: ``quote.td_report15_ex.size``.
        """
        record = _TD15_EX.parse(raw)
        return cls(**record.data, vm_id=record.numbers["vm_id"])

    def build(self) -> bytes:
        """The 237 bytes.

        Raises:
            MalformedError: ``quote.td_report15_ex.field``.
        """
        return _TD15_EX.build({field.name: getattr(self, field.name) for field in _TD15_EX.fields})


@dataclass(frozen=True, slots=True, kw_only=True)
class Td15Fields:
    """What TDX 1.5 adds to a TD report: 64 bytes, from 584 on.

    Attributes:
        tee_tcb_svn2: TCB that runs now, 16 bytes; ``tee_tcb_svn`` is the one that launched the TD.
        mr_service_td: measurement of bound service TDs, 48 bytes; zero when there is none.
        ex: the fields of the extended form, where the quote has it.

    Source: Intel TDX DCAP Quoting Library API, "TD Quote Body" (TDX 1.5).
    """

    tee_tcb_svn2: bytes
    mr_service_td: bytes
    ex: Td15ExFields | None = None

    @classmethod
    def parse(cls, raw: bytes) -> "Td15Fields":
        """Read 64 bytes, or 301 with the extended form.

        Raises:
            MalformedError: ``quote.td_report15.size``, ``quote.td_report15_ex.size``.
        """
        record = _TD15.parse(raw[: _TD15.size])
        rest = raw[_TD15.size :]
        return cls(**record.data, ex=Td15ExFields.parse(rest) if rest else None)

    def build(self) -> bytes:
        """The 64 or 301 bytes.

        Raises:
            MalformedError: ``quote.td_report15.field``, ``quote.td_report15_ex.field``.
        """
        start = _TD15.build({"tee_tcb_svn2": self.tee_tcb_svn2, "mr_service_td": self.mr_service_td})
        return start + (self.ex.build() if self.ex else b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class TdReport:
    """What a quote says of a trust domain: 584 bytes (TDX 1.0), 648 (1.5) or 885 (1.5 extended).

    Attributes:
        tee_tcb_svn: TCB that launched the TD, 16 bytes: module minor version, module major version, SEAM loader...
        mr_seam: measurement of the TDX module, 48 bytes.
        mr_signer_seam: its signer, 48 bytes; zero for Intel.
        seam_attributes: its attributes, 8 bytes.
        td_attributes: the TD's, 64 bits, little-endian.
        xfam: processor features that the TD may use, 8 bytes.
        mr_td: measurement of the TD's first contents, 48 bytes.
        mr_config_id: chosen by who configured the TD, 48 bytes.
        mr_owner: chosen by who configured the TD, 48 bytes.
        mr_owner_config: likewise, 48 bytes.
        rtmr0: run-time measurement register, 48 bytes.
        rtmr1: likewise.
        rtmr2: likewise.
        rtmr3: likewise.
        report_data: 64 bytes that the TD chose.
        td15: the fields of TDX 1.5, where the quote has them.

    Source: Intel TDX DCAP Quoting Library API, "TD Quote Body".
    """

    tee_tcb_svn: bytes
    mr_seam: bytes
    mr_signer_seam: bytes
    seam_attributes: bytes
    td_attributes: TdAttributes
    xfam: bytes
    mr_td: bytes
    mr_config_id: bytes
    mr_owner: bytes
    mr_owner_config: bytes
    rtmr0: bytes
    rtmr1: bytes
    rtmr2: bytes
    rtmr3: bytes
    report_data: bytes
    td15: Td15Fields | None = None

    @classmethod
    def parse(cls, raw: bytes) -> "TdReport":
        """Read 584, 648 or 885 bytes.

        Raises:
            MalformedError: ``quote.td_report.size``.
        """
        if len(raw) not in (TD_REPORT10_SIZE, TD_REPORT15_SIZE, TD_REPORT15_EX_SIZE):
            expected = f"{TD_REPORT10_SIZE}, {TD_REPORT15_SIZE} or {TD_REPORT15_EX_SIZE} bytes"
            raise MalformedError("quote.td_report.size", f"expected {expected}, seen {len(raw)}")
        fields = dict(_TD10.parse(raw[:TD_REPORT10_SIZE]).data)
        attributes = TdAttributes(int.from_bytes(fields.pop("td_attributes"), "little"))
        rest = raw[TD_REPORT10_SIZE:]
        return cls(**fields, td_attributes=attributes, td15=Td15Fields.parse(rest) if rest else None)

    def build(self) -> bytes:
        """The 584, 648 or 885 bytes.

        Raises:
            MalformedError: ``quote.td_report.field``, ``quote.td_report15.field``, ``quote.td_report15_ex.field``.
        """
        values = {field.name: getattr(self, field.name) for field in _TD10.fields}
        values["td_attributes"] = self.td_attributes.to_bytes(8, "little")
        return _TD10.build(values) + (self.td15.build() if self.td15 else b"")

    @property
    def debug(self) -> bool:
        """Whether the host may read and write the TD."""
        return TdAttributes.DEBUG in self.td_attributes

    @property
    def size(self) -> int:
        """Bytes of this form: 584, 648 or 885."""
        if self.td15 is None:
            return TD_REPORT10_SIZE
        return TD_REPORT15_SIZE if self.td15.ex is None else TD_REPORT15_EX_SIZE
