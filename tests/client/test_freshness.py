"""When to ask again, and what denials are worth: in virtual time."""

from meshd.client.freshness import Freshness, answered, denied, unanswered


def test_an_answer_is_asked_for_again_before_it_ends() -> None:
    assert (answered(60.0, 100.0, 0.0).due, answered(60.0, 100.0, 1.0).due) == (148.0, 157.0)
    assert answered(0.0, 100.0, 0.0).due == 100.8


def test_nobody_answers_for_ever() -> None:
    known, now, waits = answered(60.0, 0.0, 0.0), 50.0, []
    for _ in range(1000):
        known = unanswered(known, now, 1.0)
        waits.append(round(known.due - now, 3))
        now = known.due
    assert waits[:7] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0]
    assert set(waits[7:]) == {5.0}
    assert not known.is_stale


def denials(known: Freshness, now: float, until: float) -> Freshness:
    while now < until:
        known = denied(known, now, 0.5, 30.0)
        assert 2.0 < known.due - now <= 5.0
        now = known.due
    return known


def test_a_denial_is_believed_when_it_lasts() -> None:
    assert not denials(Freshness(), 100.0, 129.0).is_stale
    assert denials(Freshness(), 100.0, 136.0).is_stale
    # Two, far from each other, are not three.
    assert not denied(denied(Freshness(), 0.0, 0.5, 30.0), 100.0, 0.5, 30.0).is_stale


def test_only_an_answer_ends_a_denial() -> None:
    stale = denials(Freshness(), 100.0, 136.0)
    assert unanswered(stale, 140.0, 0.5).is_stale
    assert not answered(60.0, 140.0, 0.5).is_stale
    half = unanswered(denials(Freshness(), 100.0, 120.0), 121.0, 0.5)
    assert denials(half, 125.0, 136.0).is_stale
