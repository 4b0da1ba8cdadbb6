"""The lifecycle of an instance: it reads the configuration before it serves."""

import wit_world.exports as exports
from componentize_py_types import Err
from wit_world.exports.lifecycle import Condition_Healthy, StartError_Configuration
from wit_world.imports import journal

import settings


class Lifecycle(exports.Lifecycle):
    async def start(self) -> None:
        if not settings.load():
            raise Err(StartError_Configuration("[config] greeting is empty"))

    async def health(self) -> Condition_Healthy:
        return Condition_Healthy()

    async def stop(self, reason) -> None:
        journal.send(journal.Priority.INFO, "stopping", [("reason", reason.name.lower())])
