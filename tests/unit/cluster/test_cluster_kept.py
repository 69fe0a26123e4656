import pytest

from bastide.cluster.kept import ReportsKept
from support.gate import DIGEST, OTHER_DIGEST, SCANNED, enclave, report


def kept(**fields):
    reports = ReportsKept()
    tree = report(enclave()).build()
    tree["report"] |= fields
    reports.put(tree["metadata"]["name"], tree)
    return reports


def test_when_an_image_was_looked_into_is_known_without_reading_the_report():
    reports = kept(manifests="not read")
    assert reports.scanned_at(DIGEST) == SCANNED
    assert reports.report(DIGEST) is None


@pytest.mark.parametrize("time", ["", "yesterday", "2026-11-23", None, 5])
def test_a_time_that_cannot_be_read_is_none(time):
    assert kept(scannedAt=time).scanned_at(DIGEST) is None


def test_what_nobody_looked_into_has_no_time():
    assert kept().scanned_at(OTHER_DIGEST) is None
