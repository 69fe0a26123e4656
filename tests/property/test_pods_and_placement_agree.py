"""Admission writes down how much EPC a pod takes, the scheduler counts it: both must come to the same."""

from hypothesis import given
from hypothesis import strategies as st

from bastide.cluster.placement import Requirements
from bastide.pods.request import sgx_request
from support.pods import EPC, container

SIZES = st.one_of(st.none(), st.integers(16, 64).map(lambda pages: f"{4 * pages}Ki"))
MAIN = SIZES.map(lambda size: container({EPC: size} if size else None))
INIT = st.builds(
    lambda size, restarts: container(
        {EPC: size} if size else None, **({"restartPolicy": restarts} if restarts else {})
    ),
    SIZES,
    st.sampled_from([None, "Always", "Never"]),
)


@given(main=st.lists(MAIN, max_size=3), init=st.lists(INIT, max_size=4))
def test_admission_and_the_scheduler_count_the_same_epc(main, init):
    pod = {"metadata": {}, "spec": {"containers": main, "initContainers": init}}
    assert dict(Requirements.parse(pod).requests).get(EPC, 0) == sgx_request(pod).epc
