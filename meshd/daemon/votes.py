"""What probes of this core and of others make of instances, and the verdict that follows.

The best word counts: no single core's view takes an instance out while another sees it up. Who is
to probe it and has not said anything yet is taken to say what is held, so that nothing moves when
probing moves from one core to another.
"""

from collections.abc import Collection, Iterable
from typing import NamedTuple

from meshd.core.model import Check
from meshd.core.verdict import Probed, Verdict, judge
from meshd.daemon.duties import Duties

_BEST_FIRST = (Verdict.UP, Verdict.FAILING, Verdict.RECOVERING, Verdict.DOWN)


class Vote(NamedTuple):
    """What one core says of an instance; verdict None: it is to probe it, but may not."""

    verdict: Verdict | None
    reason: str = ""


class Votes:
    """This core's probes, and the words of others, by core and instance."""

    def __init__(self, duties: Duties) -> None:
        self._duties = duties
        self.own: dict[str, Probed] = {}
        # Those that this core is to probe, but may not.
        self.refused: set[str] = set()
        self._theirs: dict[str, dict[str, Vote]] = {}

    def probe(self, name: str, passed: bool, check: Check, held: Verdict, now: float) -> bool:
        """Note the result of one probe; True if this core's word has changed."""
        said = self.said(name)
        self.refused.discard(name)
        self.own[name] = judge(self.own.get(name) or Probed(held), passed, check, now)
        return said != self.said(name)

    def refuse(self, name: str) -> None:
        """This core may not probe an instance."""
        self.own.pop(name, None)
        self.refused.add(name)

    def withdraw(self, name: str) -> None:
        """This core does not probe an instance any more, or it is gone."""
        self.own.pop(name, None)
        self.refused.discard(name)

    def said(self, name: str) -> Vote | None:
        """This core's own word; None: it has none."""
        if name in self.refused:
            return Vote(None)
        probed = self.own.get(name)
        return None if probed is None or probed.is_fresh else Vote(probed.verdict)

    def found(self, name: str, held: Verdict) -> Verdict:
        """The verdict that all words together make."""
        words = {core: each[name] for core, each in self._theirs.items() if name in each}
        mine = self.said(name)
        if mine is not None:
            words[self._duties.node] = mine
        verdicts = {vote.verdict for vote in words.values()}
        if any(core not in words for core in self._duties.probers(name)):
            verdicts.add(held)
        return next((each for each in _BEST_FIRST if each in verdicts), Verdict.UP)

    def hear(self, core: str, name: str, vote: Vote | None) -> bool:
        """Take another core's word, or that it has none any more; True if that is news."""
        words = self._theirs.setdefault(core, {})
        before = words.pop(name, None)
        if vote is not None:
            words[name] = vote
        return (before and before.verdict) != (vote and vote.verdict) or (before is None) != (
            vote is None
        )

    def keep(self, core: str, names: Collection[str]) -> Collection[str]:
        """What a core did not say again it says no more; returns whom that is about."""
        words = self._theirs.get(core, {})
        over = [name for name in words if name not in names]
        for name in over:
            del words[name]
        return over

    def lose(self, cores: Iterable[str]) -> Collection[str]:
        """Forget the words of all but some cores; returns whom they were about."""
        lost = self._theirs.keys() - cores
        return {name for core in lost for name in self._theirs.pop(core)}

    def forget(self, name: str) -> None:
        """An instance is no more."""
        self.withdraw(name)
        for words in self._theirs.values():
            words.pop(name, None)

    def reason(self, name: str) -> str:
        """What other cores' probes complained of."""
        said = [
            f"{core}: {words[name].reason}"
            for core, words in sorted(self._theirs.items())
            if name in words and words[name].reason
        ]
        return "; ".join(said)
