"""The figure of examples/load: `python -m tests.simulation.plot OUT.svg`."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.simulation.scenes import (
    ADAPTIVE,
    EVENING,
    FIXED,
    TTL_S,
    WEAKENS,
    evening,
    one_weak,
)
from tests.simulation.world import World, balanced, headroom_as_weight, least_loaded

Lines = Mapping[str, Sequence[float]]
COLOURS = ("#c0392b", "#2471a3", "#229954", "#b9770e")
WIDTH, PANEL_WIDTH, PANEL_HEIGHT, LEFT, GAP, TOP = 960, 560, 120, 70, 75, 40


def panel(
    row: int, title: str, unit: str, lines: Lines, ends: tuple[float, float]
) -> Iterator[str]:
    """One panel: lines over time, axes with units, a legend at its right."""
    last_min, highest = ends
    top = TOP + row * (PANEL_HEIGHT + GAP)
    base, right = top + PANEL_HEIGHT, LEFT + PANEL_WIDTH
    yield f'<text x="{LEFT}" y="{top - 12}" class="title">{title}</text>'
    middle = top + PANEL_HEIGHT / 2
    turned = f'transform="rotate(-90 18 {middle})"'
    yield f'<text x="18" y="{middle}" {turned} class="unit">{unit}</text>'
    for part in range(5):
        y = base - PANEL_HEIGHT * part / 4
        yield f'<path d="M{LEFT} {y}H{right}" class="grid"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" class="tick">{highest * part / 4:g}</text>'
    for part in range(6):
        x = LEFT + PANEL_WIDTH * part / 5
        yield f'<text x="{x}" y="{base + 16}" class="minute">{last_min * part / 5:g}</text>'
    yield f'<text x="{right + 12}" y="{base + 16}" class="note">minutes</text>'
    for index, (name, values) in enumerate(lines.items()):
        step = PANEL_WIDTH / (len(values) - 1)
        points = " ".join(
            f"{LEFT + n * step:.1f},{base - PANEL_HEIGHT * min(value, highest) / highest:.1f}"
            for n, value in enumerate(values)
        )
        colour, y = COLOURS[index], top + 12 + 20 * index
        yield f'<polyline points="{points}" stroke="{colour}"/>'
        yield f'<path d="M{right + 12} {y - 4}h22" stroke="{colour}"/>'
        yield f'<text x="{right + 40}" y="{y}" class="note">{name}</text>'


def loads_of(world: World) -> Lines:
    """The loads of a world's instances, each five seconds."""
    named = {"a": "a (60 % as strong)", "b": "b", "c": "c", "d": "d"}
    return {text: world.series(name)[::5] for name, text in named.items()}


def too_much(world: World) -> Sequence[float]:
    """Load above 1 of all instances together, second by second, from a minute before."""
    late = world.loads[WEAKENS - 60 : WEAKENS + 241]
    return [sum(max(0.0, load - 1) for load in loads.values()) for loads in late]


def figure() -> str:
    """The whole figure."""
    judges = {
        "all to the least loaded": least_loaded,
        "free capacity as the weight": headroom_as_weight,
        "meshd": balanced,
    }
    rows: list[str] = []
    for row, (name, judge) in enumerate(judges.items()):
        world = World(one_weak(TTL_S), judge).run(1201)
        title = f"{name}: four instances, reports {TTL_S} s late"
        rows += panel(row, title, "load", loads_of(world), (20, 2.0))
    rows += compared(len(judges))
    height = TOP + (len(judges) + 1) * (PANEL_HEIGHT + GAP)
    return "\n".join([HEAD.format(width=WIDTH, height=height), *rows, "</svg>", ""])


def compared(row: int) -> Iterator[str]:
    """Overload by fixed and adaptive TTL, and what each cost."""
    lines = {}
    for ttl, name in ((FIXED, f"TTL {FIXED.min_s} s"), (ADAPTIVE, "TTL 5..60 s")):
        world = World(evening(ttl), balanced).run(EVENING + 1)
        cost = f"{world.overload(WEAKENS):.0f} load s, {world.questions:,} questions"
        lines[f"{name}: {cost}"] = too_much(world)
    title = "one of four is half as strong from minute 1 on: work that nobody can do"
    yield from panel(row, title, "load above 1", lines, (5, 0.6))


HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}">
<style>
text {{ font: 13px sans-serif; fill: #222 }}
.title {{ font-weight: bold; font-size: 14px }}
.unit, .minute {{ text-anchor: middle }}
.tick {{ text-anchor: end }}
.grid {{ stroke: #ccc; stroke-width: 1 }}
path, polyline {{ fill: none; stroke-width: 1.6 }}
</style>
<rect width="{width}" height="{height}" fill="white"/>"""


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(figure())
