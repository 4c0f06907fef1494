"""Reads and writes YAML so that values survive the round trip."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import yaml

from search.errors import DefinitionError

_PLAIN = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (r"0|-?[1-9][0-9]*", "-0123456789"),
    "float": (
        r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
"""What is not text although it has no quotes, with its possible first characters."""


class _Loader(yaml.SafeLoader):
    """Reads 1e-4 as a number and signer 010 as text, and refuses what no study can use.

    YAML 1.1, which PyYAML implements, has more notations: there 010 is 8, 1:30 is 90, 1_0 is 10, `no` is false, 2026-01-01
    is a date. Here they are text, as is right for a signer, and refused where a number is expected.

    Refused are duplicate keys, references (`*name`), whole numbers beyond 64 bits, and surrogate characters.
    """

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):  # a value that contains itself would be endless
            raise yaml.composer.ComposerError(None, None, "references are not supported", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        times = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        for key, count in times.items():
            if count > 1:
                raise yaml.constructor.ConstructorError(None, None, f"`{key}` is given twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        text = super().construct_scalar(node)
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise yaml.constructor.ConstructorError(None, None, "half of a surrogate pair", node.start_mark)
        return text

    def construct_int64(self, node: yaml.ScalarNode) -> int:
        """A whole number of at most 64 bits, in decimal digits."""
        if not re.fullmatch(_PLAIN["int"][0], node.value):  # tagged as one
            raise yaml.constructor.ConstructorError(None, None, "a whole number that is not in decimal digits", node.start_mark)
        number: int = self.construct_yaml_int(node)
        if not -(2**63) <= number < 2**63:
            raise yaml.constructor.ConstructorError(None, None, "a whole number of more than 64 bits", node.start_mark)
        return number


class _Dumper(yaml.SafeDumper):
    """Quotes text that any reader of YAML might take for something else, and writes no references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {}  # without those of YAML 1.1
for _kind in (_Loader, _Dumper):
    for _type, (_pattern, _first) in _PLAIN.items():
        _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_type}", re.compile(rf"(?:{_pattern})\Z"), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_int64)
_MALFORMED = (yaml.YAMLError, RecursionError, ValueError, LookupError, AttributeError, OverflowError)
"""What PyYAML raises for malformed text. The last four come from values that contradict their tag, such as `!!bool maybe`."""


def _keep_signers(node: yaml.Node | None, key: str) -> None:
    """Marks the entries of lists under `data` as text."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            if key == "data" or (not key and name.value == "data"):
                _keep_signers(value, f"{key}.{name.value}" if key else "data")
    elif isinstance(node, yaml.SequenceNode) and key.startswith("data."):
        for entry in node.value:
            if isinstance(entry, yaml.ScalarNode):
                entry.tag = "tag:yaml.org,2002:str"


def dump_yaml(value: Mapping[str, Any]) -> str:
    """YAML that `parse_yaml` reads as the same values."""
    text: str = yaml.dump(dict(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def parse_yaml(text: str, where: str, *, key: str = "") -> Any:
    """Plain values from YAML. In lists of signers (`data.validation: [1e5, no]`) every value is the text that is written.

    Args:
        key: the dotted key of a study file that the text is the value of; empty for a whole file.

    Raises:
        DefinitionError: it is malformed, or holds something that `_Loader` refuses.
    """
    try:
        loader = _Loader(text)  # a SafeLoader: builds plain values only
        try:
            node = loader.get_single_node()
            _keep_signers(node, key)
            return None if node is None else loader.construct_document(node)
        finally:
            loader.dispose()
    except _MALFORMED as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f": line {mark.line + 1}, column {mark.column + 1}"
        reason = getattr(error, "problem", None) or next(iter(str(error).splitlines()), type(error).__name__)
        raise DefinitionError(
            "this is not valid YAML", where=f"{where}{line}", got=reason, expected="lines of `key: value`"
        ) from error
