"""Gates as people write them."""

import pytest

from meshd.core.errors import Invalid
from meshd.core.gates import Gate


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("success>=99.5%", "success>=99.5%"),
        (" success >= 99.50 % ", "success>=99.5%"),
        ("p99<=1.2x", "p99<=1.2x"),
        ("p99.9<=1.25x", "p99.9<=1.25x"),
        ("p50<=300ms", "p50<=300ms"),
        ("p95<=1.5s", "p95<=1500ms"),
        ("p95<=250us", "p95<=0.25ms"),
        ("probes>=90%", "probes>=90%"),
    ],
)
def test_they_are_read_and_shown(text: str, shown: str) -> None:
    gate = Gate.parse(text)
    assert str(gate) == shown
    assert Gate.parse(shown) == gate


@pytest.mark.parametrize(
    "text",
    ["", "success", "success<=99%", "success>=99", "success>=0%", "success>=101%", "p99>=1.2x",
     "p0<=1x", "p100<=1x", "p99<=5%", "p99<=0ms", "probes<=3x", "latency<=3ms", "p99<=1.2x;"],
)  # fmt: skip
def test_what_is_no_gate_is_told(text: str) -> None:
    with pytest.raises(Invalid):
        Gate.parse(text)
