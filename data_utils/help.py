"""The help of a command line: usage as it is typed, options in groups, examples, as wide as the terminal.

A group is the `rich_help_panel` of a command or option. Typer shows them with rich, which takes longer to import than a command
that only prints takes to run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 1000}
"""Settings of a program: `-h`, and help that is as wide as the terminal."""

_FEW_OPTIONS = 9
"""A command with no more options lists them without groups."""


class HelpCommand(TyperCommand):
    """A command with this help. Its `epilog` holds examples: one per line, each with what it does after two spaces.

    The metavar of an argument is shown as it is: with brackets if it can be left out.
    """

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Writes what to type."""
        parameters = self.get_params(ctx)
        names = [_argument_name(one) for one in parameters if one.param_type_name == "argument"]
        names += [_option_name(one) for one in parameters if one.param_type_name == "option" and one.required]
        formatter.write_usage(ctx.command_path, " ".join([*names, "[OPTIONS]"]))

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes arguments and options."""
        _write_parameters(self.get_params(ctx), formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples."""
        _write_examples(self.epilog, formatter)


class HelpGroup(TyperGroup):
    """A program with commands. Without any argument it prints its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the arguments; none stand for `--help`."""
        return super().parse_args(ctx, args or ([] if ctx.resilient_parsing else ["--help"]))

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Writes what to type."""
        formatter.write_usage(ctx.command_path, self.subcommand_metavar)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the commands with the first sentence of their help, and the program's own options."""
        panels: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panel = getattr(command, "rich_help_panel", None) or "Commands"
                panels.setdefault(panel, []).append((name, command.get_short_help_str(1000)))
        longest = max(len(name) for rows in panels.values() for name, _ in rows)
        for panel, rows in panels.items():
            _write_rows(panel, [(name.ljust(longest), text) for name, text in rows], formatter)
        _write_parameters(self.get_params(ctx), formatter)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the examples."""
        _write_examples(self.epilog, formatter)


def version_option(program: str, version: str) -> Any:
    """The callback of a program that makes its option `--version`."""

    def show(wanted: bool) -> bool:
        if wanted:
            typer.echo(f"{program} {version}")
            raise typer.Exit
        return wanted

    def options(
        version: bool = typer.Option(False, "--version", is_eager=True, callback=show, help="Show the version and exit."),
    ) -> None:
        del version

    return options


def _argument_name(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _write_parameters(parameters: Iterable[Any], formatter: Any) -> None:
    shown = [one for one in parameters if not getattr(one, "hidden", False)]
    options = [one for one in shown if one.param_type_name == "option"]
    arguments = [(_argument_name(one), _text(one)) for one in shown if one not in options]
    _write_rows("Arguments", arguments, formatter)
    panels: dict[str, list[tuple[str, str]]] = {}
    for option in options:
        panel = len(options) > _FEW_OPTIONS and getattr(option, "rich_help_panel", None)
        panels.setdefault(panel or "Options", []).append((_option_name(option), _text(option)))
    for panel, rows in panels.items():
        _write_rows(panel, rows, formatter)
    variables = [f"{one.envvar} ({one.opts[0]})" for one in options if one.envvar]
    if variables:
        formatter.write_paragraph()
        formatter.write_text(f"Environment: {', '.join(variables)}")


def _option_name(option: Any) -> str:
    names = ", ".join(sorted(option.opts, key=len)) + "".join(f"/{name}" for name in option.secondary_opts)
    value = "" if option.is_flag else option.metavar or "N"
    return f"{names} {value}".rstrip()


def _text(parameter: Any) -> str:
    """What a parameter does, and its default unless that is to be without it."""
    default = parameter.default
    if isinstance(parameter.show_default, str):
        default = parameter.show_default
    is_shown = default not in (None, [], ()) and not getattr(parameter, "is_flag", False) and parameter.show_default
    return f"{parameter.help or ''}{f' [default: {default}]' if is_shown else ''}"


def _write_rows(title: str, rows: Sequence[tuple[str, str]], formatter: Any) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows, col_max=min(30, formatter.width // 3))


def _write_examples(examples: str | None, formatter: Any) -> None:
    if examples:
        with formatter.section("Examples"):
            for line in _fitting(examples.splitlines(), formatter.width - formatter.current_indent):
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _fitting(examples: Sequence[str], room: int) -> list[str]:
    """Examples with what they do beside them, or below where there is no room."""
    if max(map(len, examples)) <= room:
        return list(examples)
    return [part for line in examples for part in re.sub(r"\s{2,}", "\n    ", line).splitlines()]
