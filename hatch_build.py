"""How this project is packed: hatchling, and in a wheel the compiled kernel for every machine that it is written for.

A clone (`pip install -e`) compiles its kernel at first use. Only a wheel needs the package ziglang, to compile for other
machines than this one, and hatchling's hooks cannot ask for a package for wheels alone: hence a build backend around it.
`SEARCH_KERNEL=off` packs a wheel without the compiled kernel, where ziglang cannot be had.
"""

from __future__ import annotations

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hatchling.build
from hatchling.build import *  # noqa: F403
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_WITHOUT = os.environ.get("SEARCH_KERNEL") == "off"
_ZIG = "ziglang==0.17.1"  # one version: wheels of one version of this project compute the same numbers


def get_requires_for_build_wheel(config_settings: dict[str, Any] | None = None) -> list[str]:
    """What building a wheel needs besides hatchling."""
    return [*hatchling.build.get_requires_for_build_wheel(config_settings), *([] if _WITHOUT else [_ZIG])]


class PrebuiltKernel(BuildHookInterface[Any]):
    """Compiles the kernel for each machine into a wheel. The source tree stays as it is."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable" or _WITHOUT:
            return
        sys.path.insert(0, self.root)
        from model.kernel import compiling

        command = compiling.zig_command()
        if command is None:
            raise RuntimeError(f"a wheel needs the package {_ZIG} to compile the kernel; SEARCH_KERNEL=off packs one without")
        zig, digest = compiling.identify(command), compiling.sources_digest()
        self._folder = tempfile.TemporaryDirectory(prefix="islr-search-", ignore_cleanup_errors=True)

        def compile_for(machine: tuple[str, str, str]) -> tuple[str, str]:
            system, processor, instructions = machine
            name = compiling.prebuilt_name(system, processor, instructions, digest)
            result = Path(self._folder.name, name)
            compiling.compile_library(instructions, zig, result, system=system, machine=processor)
            return str(result), f"model/kernel/{compiling.PREBUILT.name}/{name}"

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            build_data["force_include"].update(threads.map(compile_for, compiling.PREBUILT_FOR))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "_folder"):
            self._folder.cleanup()
