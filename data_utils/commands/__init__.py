"""The commands of `islr-data`. Each function returns an exit code; its docstring is the help of the command."""
