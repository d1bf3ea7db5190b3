"""Names of layers, nodes and synapses: what can stand in a line, an archive and a path."""

LONGEST = 240


def name_problem(name: object) -> str | None:
    """Say what keeps a name from being shown, stored and written into code; None for nothing."""
    if not isinstance(name, str):
        return f"a name is a text, not a {type(name).__name__}"
    if not name:
        return "a name has one letter at least"
    if len(name) > LONGEST:
        return f"its name has {len(name)} letters, {LONGEST} are taken"
    if not name.isprintable():
        return "its name holds letters that cannot be printed"
    if "\\" in name or {"", ".."}.intersection(name.split("/")):
        return "its name could lead out of an archive"
    return None
