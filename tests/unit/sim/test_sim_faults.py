from typing import Any

import pytest

from bastide.sim.faults import WHAT_BREAKS, Fault


def test_every_fault_has_one_line_for_the_help_text() -> None:
    assert list(WHAT_BREAKS) == list(Fault)
    assert all(line and "\n" not in line for line in WHAT_BREAKS.values())


def test_a_fault_is_found_by_the_name_that_people_type() -> None:
    assert [Fault(str(fault)) for fault in Fault] == list(Fault)
    assert str(Fault.CHANGED_PAGE) == "changed-page"


def test_the_table_cannot_be_changed() -> None:
    table: Any = WHAT_BREAKS
    with pytest.raises(TypeError):
        table[Fault.CHANGED_PAGE] = "nothing"
