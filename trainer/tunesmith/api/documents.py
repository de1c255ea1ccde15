"""Reads YAML as Kubernetes does, and remembers on which line each field stands."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunesmith.api.problem import InputError, Problem


class _KubernetesLoader(yaml.SafeLoader):
    """YAML as Kubernetes reads it: 2e-4 is a number, a key stands once."""


_KubernetesLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


@dataclass
class Document:
    """A document of a file."""

    data: Any
    lines: dict[tuple[str | int, ...], int]
    """The line of each field, counted from 1, by its path."""

    def line_of(self, place: str) -> int | None:
        """The line of a field, or of the nearest object around it that is there."""
        keys = tuple(
            int(k) if k.isdigit() else k
            for k in place.replace("nvidia.com/gpu", "\0").replace("[", ".").replace("]", "").split(".")
        )
        keys = tuple("nvidia.com/gpu" if k == "\0" else k for k in keys)
        return next((self.lines[keys[:n]] for n in range(len(keys), -1, -1) if keys[:n] in self.lines), None)


def read_documents(path: Path) -> list[Document]:
    """The documents of a YAML or JSON file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(Problem(f"cannot be read: {error.strerror}", file=str(path))) from None
    except UnicodeDecodeError:
        raise InputError(Problem("is not UTF-8 text; is it a YAML file?", file=str(path))) from None
    return [document for document in _documents(text, str(path)) if document.data is not None]


def _documents(text: str, file: str) -> Iterator[Document]:
    loader = _KubernetesLoader(text)
    try:
        while loader.check_node():
            node = loader.get_node()
            assert node is not None  # as check_node has just said
            lines: dict[tuple[str | int, ...], int] = {}
            _note_lines(node, (), lines, file)
            yield Document(loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = (error.problem or error.context or "is broken").replace("character '\\t'", "a tab")
        raise InputError(
            Problem(f"is not valid YAML: {what}", line=mark.line + 1 if mark else None, file=file)
        ) from None
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(Problem(f"is not valid YAML: {error}", file=file)) from None
    except RecursionError:
        raise InputError(Problem("is nested too deeply, or holds itself", file=file)) from None
    finally:
        loader.dispose()


def _note_lines(
    node: yaml.Node, path: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int], file: str
) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise InputError(
                    Problem("is not valid YAML: a key should be a word", line=key.start_mark.line + 1, file=file)
                )
            if key.value in seen:
                raise InputError(
                    Problem("stands twice", ".".join(map(str, (*path, key.value))), key.start_mark.line + 1, file)
                )
            seen.add(key.value)
            lines[(*path, key.value)] = key.start_mark.line + 1
            _note_lines(value, (*path, key.value), lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*path, index), lines, file)
