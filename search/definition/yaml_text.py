"""Plain values from YAML and back, so that what was written is what is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from search.errors import DefinitionError


class _Loader(yaml.SafeLoader):
    """YAML that reads 1e-4 as the number it is, and refuses what nothing could be done with.

    That is a key given twice, references (`*name`), whole numbers that no machine word holds, and halves of characters.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # a value that holds itself would never end
            raise yaml.composer.ComposerError(None, None, "references are not read", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        times = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in times.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"`{key}` is given twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if any("\ud800" <= mark <= "\udfff" for mark in text):
            raise yaml.constructor.ConstructorError(None, None, "half of a character, which no file can hold", node.start_mark)
        return text

    def construct_whole_number(self, node: yaml.ScalarNode) -> int:
        """A whole number of 64 bits."""
        number: int = self.construct_yaml_int(node)
        if not -(2**63) <= number < 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a whole number of more than 64 bits", node.start_mark)
        return number


class _Dumper(yaml.SafeDumper):
    """Quotes the text that `_Loader` would read as a number, and writes no references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+"),
        list("-+.0123456789"),
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_whole_number)
_MALFORMED = (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, OverflowError)
"""What PyYAML raises for malformed text; the last four come from values that contradict their tag, such as `!!bool maybe`."""


def dump_yaml(value: Mapping[str, Any]) -> str:
    """YAML that `parse_yaml` reads as the same values."""
    text: str = yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def parse_yaml(text: str, where: str) -> Any:
    """Plain values from YAML.

    Raises:
        DefinitionError: it is not YAML, or a key is given twice.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader: builds plain values only
    except _MALFORMED as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f": line {mark.line + 1}, column {mark.column + 1}"
        reason = getattr(error, "problem", None) or next(iter(str(error).splitlines()), type(error).__name__)
        raise DefinitionError(
            "this is not YAML", where=f"{where}{line}", got=reason, expected="lines of `key: value`"
        ) from error
