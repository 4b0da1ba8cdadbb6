"""Calls a package of PyPI. It is imported while the component is built, since a component cannot read modules later."""

import cowsay
import wit_world.exports as exports


class Run(exports.Run):
    def run(self) -> None:
        cowsay.cow("Hello")
