import json

import msgspec
import pytest

from bastide.errors import MalformedError
from bastide.sim.result import BadInput, LabResult, Phase, PodResult


def result(*phases: Phase) -> LabResult:
    pods = tuple(
        PodResult(name=f"p{number}", namespace="default", workload="Job/p", where="m.yaml:1", phase=phase, reason="")
        for number, phase in enumerate(phases)
    )
    return LabResult(pods=pods, nodes=())


@pytest.mark.parametrize("phase", [Phase.SCHEDULED, Phase.RUNNING, Phase.SUCCEEDED])
def test_a_run_is_good_where_every_pod_came_through(phase: Phase) -> None:
    assert result(phase, Phase.SUCCEEDED).good


@pytest.mark.parametrize("phase", [Phase.DENIED, Phase.PENDING, Phase.FAILED])
def test_one_pod_that_did_not_come_through_makes_the_run_bad(phase: Phase) -> None:
    assert not result(Phase.SUCCEEDED, phase).good


def test_a_result_is_one_json_object_that_says_it_is_a_simulation() -> None:
    read = json.loads(json.dumps(msgspec.to_builtins(result(Phase.RUNNING))))
    assert read["simulation"] is True
    assert read["pods"][0]["phase"] == "Running"


def test_bad_input_keeps_what_the_error_said() -> None:
    error = MalformedError("a.b", "wrong", hint="mend it", where="m.yaml:3")
    assert BadInput.of(error) == BadInput(code="a.b", message="wrong", hint="mend it", where="m.yaml:3")
    assert BadInput.of(MalformedError("a.b", "wrong")) == BadInput(code="a.b", message="wrong")


def test_a_result_is_not_written_out_by_those_who_only_pass_it_on() -> None:
    class Loud:
        def __repr__(self) -> str:
            raise AssertionError

    repr(LabResult(pods=(Loud(),), nodes=()))  # type: ignore[arg-type]
