"""The commands: parse, call, print, exit code. No logic, and nothing heavy is imported before a command needs it.

Here is what they share: options, and how a command opens what it is about. `search/cli.py` gathers them.
"""
