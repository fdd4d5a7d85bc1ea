"""How long an answer lives: the terms, and which decides."""

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshd.core.model import Check, Instance, Port, Service, Ttl
from meshd.core.ranking import Member
from meshd.core.selector import Version
from meshd.core.signals import Signal
from meshd.core.ttl import answer_ttl, load_ttl_s, next_verdict_s
from meshd.core.verdict import Verdict

UP, FAILING = Verdict.UP, Verdict.FAILING
HELD = Signal(verdict=Verdict.DOWN, held=True)


BOUNDS = Ttl(5, 60)


def service(check: Check | None = None, ttl: Ttl = BOUNDS) -> Service:
    return Service("api", "api.mesh.internal.", (Port("http", 80),), check=check, ttl=ttl)


def member(verdict: Verdict = UP, load: float = 0.0, signal: Signal | None = None) -> Member:
    instance = Instance("i", "api", Version("1.0"), "eu", (ip_address("10.0.0.1"),))
    return Member.of(instance, verdict, signal or Signal(load))


EVERY_2S = Check("tcp", every_s=2, fall=3)
EVERY_MINUTE = Check("tcp", every_s=60, fall=3)


@pytest.mark.parametrize(
    ("check", "members", "all_down", "seconds", "reason"),
    [
        (None, [member()], False, 60, "all members have room: maximum"),
        (None, [member(), member(load=0.5)], False, 60, "all members have room: maximum"),
        (None, [member(), member(load=0.75)], False, 30, "headroom 25%"),
        (None, [member(load=0.95)], False, 6, "headroom 5%"),
        (None, [member(load=1.0)], False, 6, "headroom 5%"),
        (None, [member(Verdict.FORCED_UP)], False, 60, "all members have room: maximum"),
        # Two more probes, each an eighth of the interval after the one before.
        (EVERY_2S, [member(), member(FAILING)], False, 5,
         "a member is failing: verdict within 0.5 s"),
        (EVERY_MINUTE, [member(FAILING)], False, 15, "a member is failing: verdict within 15 s"),
        (EVERY_MINUTE, [member(FAILING), member(load=0.9)], False, 12, "headroom 10%"),
        (None, [member(FAILING)], False, 5, "a member is failing: minimum"),
        (EVERY_2S, [member(FAILING), member(Verdict.LEAVING)], False, 5,
         "a member is leaving: minimum"),
        (None, [member(), member(Verdict.DRAINING)], False, 5, "a member is draining: minimum"),
        (None, [member(Verdict.RECOVERING)], False, 5, "a member is recovering: minimum"),
        (EVERY_MINUTE, [member(), member(FAILING, signal=HELD)], False, 5,
         "a member is held back: minimum"),
        (None, [member(), member(signal=Signal(success=0))], False, 5,
         "a member is ejected: minimum"),
        (None, [member(signal=Signal(success=0.05))], False, 60, "all members have room: maximum"),
        (EVERY_2S, [member(Verdict.DOWN)], True, 5, "no instance is ready: minimum"),
        (None, [], False, 5, "nobody is answered: minimum"),
    ],
)  # fmt: skip
def test_ttl(
    check: Check | None, members: list[Member], all_down: bool, seconds: int, reason: str
) -> None:
    found = answer_ttl(service(check), members, all_down)
    assert (found.seconds, found.reason) == (seconds, reason)


def test_every_term_is_told() -> None:
    """What did not decide shows as well."""
    members = [member(FAILING), member(Verdict.LEAVING), member(load=0.75)]
    found = answer_ttl(service(EVERY_MINUTE), members, False)
    assert (found.seconds, found.headroom) == (5, 0.25)
    assert (found.load_s, found.verdict_s, found.change_s) == (30, 15, 5)
    quiet = answer_ttl(service(EVERY_MINUTE), [member()], False)
    assert (quiet.verdict_s, quiet.change_s) == (None, None)


@pytest.mark.parametrize(
    ("rollout_s", "load", "seconds", "reason"),
    [
        (0.0, 0.0, 5, "a rollout gave this client its version: minimum"),
        (20.0, 0.0, 20, "a rollout may move this client: half a step, 20 s"),
        (2.5, 0.0, 5, "a rollout may move this client: half a step, 2.5 s"),
        (150.0, 0.0, 60, "all members have room: maximum"),
        (20.0, 0.9, 12, "headroom 10%"),
    ],
)
def test_a_rollout_that_may_move_a_client(
    rollout_s: float, load: float, seconds: int, reason: str
) -> None:
    found = answer_ttl(service(), [member(load=load)], False, rollout_s)
    assert (found.seconds, found.reason) == (seconds, reason)
    assert found.rollout_s == min(60, max(5, rollout_s))
    assert answer_ttl(service(), [member()], False).rollout_s is None


verdicts = st.sampled_from(list(Verdict))
members = st.builds(member, verdicts, st.sampled_from([n / 20 for n in range(21)]))
bounds = st.tuples(st.integers(1, 60), st.integers(0, 600)).map(lambda x: Ttl(x[0], x[0] + x[1]))


@settings(deadline=None)
@given(st.lists(members, max_size=5), members, bounds, st.booleans())
def test_within_bounds_and_never_longer_for_one_more(
    some: list[Member], more: Member, ttl: Ttl, all_down: bool
) -> None:
    decided = service(EVERY_2S, ttl)
    before = answer_ttl(decided, some, all_down)
    after = answer_ttl(decided, [*some, more], all_down)
    assert ttl.min_s <= after.seconds <= ttl.max_s
    if some:
        assert after.seconds <= before.seconds


@settings(deadline=None)
@given(bounds, st.floats(0, 1), st.floats(0, 1))
def test_less_room_never_lives_longer(ttl: Ttl, one: float, other: float) -> None:
    assert load_ttl_s(ttl, min(one, other)) <= load_ttl_s(ttl, max(one, other))


def test_the_next_verdict_is_as_far_as_the_check_says() -> None:
    assert next_verdict_s(service(EVERY_2S)) == 0.5
    assert next_verdict_s(service(Check("tcp", every_s=2, fall=1))) == 0
    assert next_verdict_s(service()) == 0
