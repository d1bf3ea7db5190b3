"""The ledger's tables in Markdown, from its JSON."""

from typing import Any

Json = dict[str, Any]
OURS = ("spikes", "pooled_messages", "effective", "connected", "dense")


def counts(ledger: Json) -> str:
    """Operations an image, a row a synapse object and one for all."""
    tools = list(ledger["rules"])
    heads = ["layer", *(name.replace("_", " ") for name in OURS), *tools]
    lines = [heads, ["---"] * len(heads)]
    for layer in ledger["layers"]:
        cells = [_number(layer[name]) for name in OURS]
        lines.append([f"`{layer['name']}`", *cells, *(_tool(layer, tool) for tool in tools)])
    lines.append(["all", *_totals(ledger["layers"], tools)])
    return _markdown(lines)


def differences(ledger: Json) -> str:
    """What each rule changes in an image's count, and the rules that change nothing below."""
    layers = ledger["layers"]
    names = [f"`{layer['name']}`" for layer in layers]
    lines, idle = [["tool", "rule", *names], ["---"] * (2 + len(layers))], []
    for tool, rules in ledger["rules"].items():
        for rule in rules:
            column = [layer["changes"][tool][rule] for layer in layers]
            if any(column):
                lines.append([tool, rule, *(_change(value) for value in column)])
            else:
                idle.append(f"{rule} ({tool})")
    return f"{_markdown(lines)}\n\nNothing to change here: {', '.join(idle)}."


def _totals(layers: list[Json], tools: list[str]) -> list[str]:
    ours = [_number(sum(layer[name] for layer in layers)) for name in OURS]
    whole = {
        part: {tool: sum(layer[part].get(tool, 0.0) for layer in layers) for tool in tools}
        for part in ("tools", "neurobench_macs")
    }
    return [*ours, *(_tool(whole, tool) for tool in tools)]


def _tool(layer: Json, tool: str) -> str:
    macs = layer["neurobench_macs"].get(tool, 0.0)
    return _number(layer["tools"][tool]) + (f" (+ {_number(macs)} MACs)" if macs else "")


def _number(value: float) -> str:
    return f"{value:,.1f}"


def _change(value: float) -> str:
    return f"{value:+,.1f}" if value else ""


def _markdown(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
