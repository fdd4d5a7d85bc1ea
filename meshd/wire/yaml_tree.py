"""YAML text as plain data with lines: every scalar as it is written, so that 1.10 stays 1.10."""

from dataclasses import dataclass, field

import yaml

from meshd.core.errors import Fault

MAX_TEXT = 64 << 20
_MAX_DEPTH = 12

Path = tuple[str, ...]
Data = str | None | list["Data"] | dict[str, "Data"]

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Tree:
    """Data, the line (from 1) at which each path begins, and what is wrong with the text."""

    data: Data = None
    lines: dict[Path, int] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    def line(self, path: Path) -> int:
        """The line of a path, or of the nearest path around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)

    def fault(self, path: Path, what: str) -> None:
        """Note a fault at a path."""
        self.faults.append(Fault(".".join(path), what, self.line(path)))


def read_tree(text: str) -> Tree:
    """Read YAML; a text that is none has one fault, with its line."""
    tree = Tree()
    if len(text) > MAX_TEXT:
        tree.faults.append(Fault("", f"longer than {MAX_TEXT} characters", 1))
        return tree
    try:
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        context = f" ({error.context})" if error.context else ""
        tree.faults.append(Fault("", f"not YAML: {error.problem}{context}", line))
        return tree
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = (str(error) or "nested too deeply").splitlines()[0]
        tree.faults.append(Fault("", f"not YAML: {first}", 1))
        return tree
    if node is not None:
        tree.data = _Reader(tree).read(node, ())
    return tree


class _Reader:
    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._seen: set[int] = set()

    def read(self, node: yaml.Node, path: Path) -> Data:
        self._tree.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return None if node.tag == "tag:yaml.org,2002:null" else str(node.value)
        if id(node) in self._seen or len(path) > _MAX_DEPTH:
            # An alias of an alias of an alias is how a small text becomes a large one.
            self._tree.fault(path, "aliases and deep nesting are not allowed")
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, str(at))) for at, item in enumerate(node.value)]
        return self._mapping(node, path)

    def _mapping(self, node: yaml.Node, path: Path) -> Data:
        found: dict[str, Data] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self._tree.fault(path, "a key must be plain text")
                continue
            key = str(key_node.value)
            inner = (*path, key)
            if key in found:
                first = self._tree.lines[inner]
                self._tree.lines[inner] = key_node.start_mark.line + 1
                self._tree.fault(inner, f"named twice (first on line {first})")
                continue
            self._tree.lines[inner] = key_node.start_mark.line + 1
            found[key] = self.read(value_node, inner)
        return found
