"""The configuration of the manifest."""

from wit_world.imports import journal, store

# From [config] of the manifest. It does not change while the instance exists.
greeting = "Hello"


def load() -> bool:
    """Reads the greeting. Returns False if it is empty."""
    global greeting
    configured = store.get("greeting")
    greeting = greeting if configured is None else configured
    if not greeting.strip():
        return False
    journal.send(journal.Priority.INFO, "greeting loaded", [("greeting", greeting)])
    return True
