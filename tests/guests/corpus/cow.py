"""Runs a program of PyPI."""

import locale  # noqa: F401 - argparse imports these two when it runs, when a component cannot read modules any more
import shutil  # noqa: F401
import sys

import cowsay.__main__ as program
import wit_world.exports as exports


class Run(exports.Run):
    def run(self) -> None:
        sys.argv = ["cowsay", "-t", "Hello"]
        program.cli()
