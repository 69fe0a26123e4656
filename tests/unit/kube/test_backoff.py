import pytest

from bastide.kube.backoff import Backoff


@pytest.mark.parametrize(("chance", "share"), [(0.0, 0.5), (0.5, 0.75), (0.999, 0.9995)])
def test_delays_double_up_to_the_longest_and_chance_shortens_them(chance, share):
    backoff = Backoff(first=1, longest=5, chance=lambda: chance)
    assert [backoff.next_delay() for _ in range(5)] == pytest.approx([share * each for each in (1, 2, 4, 5, 5)])


def test_reset_begins_anew():
    backoff = Backoff(first=1, longest=60, chance=lambda: 0.5)
    delays = [backoff.next_delay(), backoff.next_delay()]
    backoff.reset()
    assert backoff.next_delay() == delays[0] < delays[1]
