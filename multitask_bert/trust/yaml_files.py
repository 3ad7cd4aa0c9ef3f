"""Reads YAML files as data, with limits on nesting, aliases and references.

An alias (`*name`) takes a few bytes and stands for everything that it names, so that seven lines can expand to millions
of values: OmegaConf, with which Hydra reads configs, copies them for each alias. References (`${name}`) do the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf import _utils as of_omegaconf
from omegaconf._utils import get_yaml_loader

from multitask_bert.errors import InputError

MAX_COPIES = 10_000  # values that a file may have through aliases, in addition to those that are written out
MAX_DEPTH = 50  # of lists and dicts inside of each other
MAX_LENGTH = 1_000_000  # characters of all values, once the references are followed
OMEGACONF_LOADER = "get_yaml_loader"  # the name by which OmegaConf finds its YAML loader
KEY = re.compile(r"\$\{(\.*[\w.+-]+)\}")


def register() -> None:
    """Make OmegaConf, and with it Hydra, read YAML with these limits."""
    assert callable(getattr(of_omegaconf, OMEGACONF_LOADER)), "this OmegaConf reads YAML in another way"
    setattr(of_omegaconf, OMEGACONF_LOADER, bounded_loader)


def read_tree(path: Path) -> DictConfig:
    """Read the config in a file, unresolved.

    Raises:
        InputError: it cannot be read; names the line.
    """
    try:
        with path.open(encoding="utf-8") as file:
            plain = bounded_loader()(file).get_single_data()
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        line = "" if mark is None else f":{mark.line + 1}"
        raise InputError(f"{path}{line}: {problem or 'this is not YAML'}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    if not isinstance(plain, dict):
        raise InputError(f"{path}: holds no config, but {type(plain).__name__}")
    return OmegaConf.create(plain)


def bounded_loader() -> Any:
    """OmegaConf's class for reading YAML, a `SafeLoader`, with limits."""

    class BoundedLoader(get_yaml_loader()):  # type: ignore[misc]
        def get_single_node(self) -> Any:
            try:
                node = super().get_single_node()
            except RecursionError:
                raise _refusal(f"nested more than {MAX_DEPTH} deep", self.get_mark()) from None
            if node is not None:
                sizes: dict[int, int] = {}
                if _size(node, sizes, 0) - len(sizes) > MAX_COPIES:
                    raise _refusal(f"aliases (*name) stand for more than {MAX_COPIES:,} values", node.start_mark)
            return node

    return BoundedLoader


def _size(node: yaml.Node, sizes: dict[int, int], depth: int) -> int:
    """Number of values below a node, with those of aliases; `sizes`: by id of each node seen, 0 while it is counted."""
    if depth > MAX_DEPTH:
        raise _refusal(f"nested more than {MAX_DEPTH} deep", node.start_mark)
    if id(node) not in sizes:
        sizes[id(node)] = 0
        parts = node.value if isinstance(node, yaml.CollectionNode) else []
        children = [child for pair in parts for child in pair] if isinstance(node, yaml.MappingNode) else parts
        sizes[id(node)] = 1 + sum(_size(child, sizes, depth + 1) for child in children)
    elif not sizes[id(node)]:
        raise _refusal("an alias (*name) stands inside of what it names", node.start_mark)
    return sizes[id(node)]


def _refusal(problem: str, mark: Any) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, problem, mark)


def refuse_long_references(tree: Mapping[str, Any]) -> None:
    """Refuse a config whose references (`${name}`) make it too long, or that refers to itself.

    `tree`: unresolved, as plain dicts.

    Raises:
        InputError: names the key.
    """
    lengths: dict[tuple[Any, ...], int] = {}
    _length(tree, (), tree, lengths)


def _length(value: Any, path: tuple[Any, ...], tree: Any, lengths: dict[tuple[Any, ...], int]) -> int:
    """Number of characters of the value at `path` with its references followed; `lengths`: see `sizes` in `_size`."""
    if path in lengths:
        if not lengths[path]:
            raise InputError(f"{_name(path)}: refers to itself")
        return lengths[path]
    lengths[path] = 0
    length = 1
    if isinstance(value, Mapping):
        length += sum(_length(child, (*path, key), tree, lengths) for key, child in value.items())
    elif isinstance(value, list):
        length += sum(_length(child, (*path, index), tree, lengths) for index, child in enumerate(value))
    elif isinstance(value, str):
        length += len(value)
        for reference in KEY.findall(value):
            found, found_at = _look_up(reference, path, tree)
            if found_at and path[: len(found_at)] == found_at:
                raise InputError(f"{_name(path)}={value}: refers to itself")
            length += _length(found, found_at, tree, lengths) if found_at else 0
    if length > MAX_LENGTH:
        raise InputError(f"{_name(path) or 'the config'}: its references stand for more than {MAX_LENGTH:,} characters")
    lengths[path] = length
    return length


def _look_up(reference: str, path: tuple[Any, ...], tree: Any) -> tuple[Any, tuple[Any, ...]]:
    """The value that a reference at `path` names, and its own path; an empty one if there is no such key."""
    keys = reference.lstrip(".")
    num_dots = len(reference) - len(keys)
    start = path[: len(path) - num_dots] if num_dots else ()
    found_at: tuple[Any, ...] = ()
    value = tree
    for key in (*start, *keys.split(".")):
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and str(key).isdigit() and int(key) < len(value):
            key, value = int(key), value[int(key)]
        else:
            return None, ()
        found_at = (*found_at, key)
    return value, found_at


def _name(path: tuple[Any, ...]) -> str:
    return ".".join(map(str, path))
