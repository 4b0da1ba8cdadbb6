"""The answer, as plain Python that runs anywhere."""


def greet(greeting: str, who: str) -> str:
    """Greets `who`: a name, or the path of a request, which begins below the plugin's route."""
    name = who.split("?")[0].strip().strip("/") or "world"
    return f"{greeting}, {name}\n"
