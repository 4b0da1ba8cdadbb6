"""What is answered, as plain Python that runs anywhere."""


def greet(greeting: str, path: str) -> str:
    """Returns the answer to a request for `path`, which begins below the plugin's route."""
    who = path.split("?")[0].strip("/") or "world"
    return f"{greeting}, {who}\n"
