"""Runs a program of PyPI."""

import sys

import cowsay.__main__ as program
import wit_world.exports as exports


class Run(exports.Run):
    def run(self) -> None:
        sys.argv = ["cowsay", "-t", "Hello"]
        program.cli()
