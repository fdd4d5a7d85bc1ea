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
WIDTH, PANEL_WIDTH, PANEL_HEIGHT, LEFT, GAP, TOP = 860, 560, 120, 70, 75, 60


def panel(
    row: int, title: str, unit: str, lines: Lines, ends: tuple[float, float]
) -> Iterator[str]:
    """One panel: lines over time, axes with units, a legend at its right."""
    last_min, highest = ends
    top = TOP + row * (PANEL_HEIGHT + GAP)
    base, right = top + PANEL_HEIGHT, LEFT + PANEL_WIDTH
    yield f'<text x="{LEFT}" y="{top - 12}" class="title">{title}</text>'
    middle = top + PANEL_HEIGHT / 2
    yield f'<text x="18" y="{middle}" transform="rotate(-90 18 {middle})" class="unit">{unit}</text>'
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
    late = world.loads[WEAKENS - 60 :]
    return [sum(max(0.0, load - 1) for load in loads.values()) for loads in late]


def figure() -> str:
    """The whole figure."""
    titles = {
        least_loaded: "all to the least loaded",
        headroom_as_weight: "free capacity as the weight",
        balanced: "meshd",
    }
    rows: list[str] = []
    for row, (judge, title) in enumerate(titles.items()):
        world = World(one_weak(TTL_S), judge).run(1201)
        title = f"{title}: load of four instances, reports {TTL_S} s late"
        rows += panel(row, title, "load", loads_of(world), (20, 2.0))
    lines = {}
    for ttl, name in ((FIXED, f"fixed, {FIXED.min_s} s"), (ADAPTIVE, "adaptive, 5..60 s")):
        world = World(evening(ttl), balanced).run(EVENING + 1)
        spilt = f"{world.overload(WEAKENS):.0f} lost, {world.questions} questions"
        lines[f"{name}:"], lines[f" {spilt}"] = too_much(world), ()
    rows += compared(lines)
    height = TOP + 4 * (PANEL_HEIGHT + GAP)
    return "\n".join([HEAD.format(width=WIDTH, height=height), *rows, "</svg>", ""])


def compared(lines: Lines) -> Iterator[str]:
    """The last panel: overload by fixed and adaptive TTL."""
    drawn = {name: values for name, values in lines.items() if values}
    notes = [name for name, values in lines.items() if not values]
    title = "one of four weakens at minute 1: work beyond what instances can do"
    yield from panel(3, title, "load above 1", drawn, (6, 1.0))
    top = TOP + 3 * (PANEL_HEIGHT + GAP)
    for index, note in enumerate(notes):
        y = top + 62 + 20 * index
        yield f'<text x="{LEFT + PANEL_WIDTH + 12}" y="{y}" class="note">{note}</text>'


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
