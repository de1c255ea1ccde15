"""What a panel of Grafana says of its values: units, colours, texts, and how queries become a table."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PALETTE = (
    "#3274d9", "#e0752d", "#3f9142", "#a352cc", "#c4162a", "#0a9c9c", "#b8860b", "#d6568f", "#5c6b7a", "#7a5230",
    "#6c8ebf", "#8fbc5a",
)  # fmt: skip
_COLOURS = {
    "light-blue": "#6ea0e8", "dark-blue": "#1f4fa0",
    "green": "#3f9142", "yellow": "#d6a200", "orange": "#e0752d", "red": "#c4162a", "blue": "#3274d9",
    "purple": "#8f3bb8", "text": "#1f2328", "transparent": "#ffffff",
}  # fmt: skip
_CURRENCIES = {"USD": "$", "EUR": "€", "GBP": "£", "JPY": "¥"}


def colour(name: str) -> str:
    """A colour of Grafana's as matplotlib knows it."""
    return name if name.startswith("#") else _COLOURS.get(name) or _COLOURS[name.split("-")[-1]]


@dataclass(frozen=True)
class Line:
    """A series of an answer."""

    name: str
    """What the legend calls it."""
    labels: Mapping[str, str]
    samples: Sequence[tuple[float, float]]
    ref: str = ""
    """The letter of its query."""


def legend_of(template: str, labels: Mapping[str, str]) -> str:
    """A legend's text for a series."""
    return re.sub(r"\{\{\s*(\w+)\s*\}\}", lambda found: labels.get(found[1], ""), template).strip()


class Field:
    """How the values of a panel, or of a column of a table, are shown."""

    def __init__(self, panel: Mapping[str, Any], column: str = "") -> None:
        config = panel.get("fieldConfig", {"defaults": {}, "overrides": []})
        said = dict(config["defaults"])
        for override in config.get("overrides", []):
            if override["matcher"] == {"id": "byName", "options": column}:
                said |= {each["id"]: each.get("value") for each in override["properties"]}
        self.unit = str(said.get("unit", "none"))
        self.no_value = str(said.get("noValue", "No data"))
        self.cell = str((said.get("custom.cellOptions") or {}).get("type", ""))
        steps = (said.get("thresholds") or {}).get("steps", [])
        self.steps = [(step.get("value"), colour(step["color"])) for step in steps]
        self._texts: dict[str, Mapping[str, Any]] = {}
        for mapping in said.get("mappings") or []:
            if mapping["type"] == "value":
                self._texts |= mapping["options"]

    def text_of(self, value: float) -> str:
        """A value with its unit."""
        mapped = self._texts.get(f"{value:g}", {})
        return str(mapped["text"]) if "text" in mapped else with_unit(value, self.unit)

    def colour_of(self, value: float) -> str | None:
        """The colour of a value by its mapping, else by the thresholds."""
        mapped = self._texts.get(f"{value:g}", {})
        if "color" in mapped:
            return colour(mapped["color"])
        reached = [tone for least, tone in self.steps if least is None or value >= least]
        return reached[-1] if reached else None


def with_unit(value: float, unit: str) -> str:
    """A value as Grafana writes it, more or less."""
    if not math.isfinite(value):
        return "NaN"
    if unit.startswith("currency"):
        return f"{_CURRENCIES.get(unit.removeprefix('currency'), unit.removeprefix('currency') + ' ')}{value:,.2f}"
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit in ("bytes", "decbytes", "Bps", "binBps"):
        base = 1024 if unit in ("bytes", "binBps") else 1000
        names = ("B", "KiB", "MiB", "GiB", "TiB") if base == 1024 else ("B", "kB", "MB", "GB", "TB")
        return _scaled(value, base, names) + ("/s" if unit.endswith("ps") else "")
    if unit == "flops":
        return _scaled(value, 1000, ("FLOP/s", "kFLOP/s", "MFLOP/s", "GFLOP/s", "TFLOP/s", "PFLOP/s"))
    if unit in ("s", "h"):
        return _time(value * (3600 if unit == "h" else 1)) if unit == "s" else f"{value:.3g} h"
    if unit == "sci":
        return f"{value:.1e}".replace("e-0", "e-") if value else "0"
    ends = {"watt": " W", "ops": " ops/s", "reqps": " req/s"}
    short = f"{value:.3g}" if abs(value) < 1000 else _scaled(value, 1000, ("", "K", "M", "G")).replace(" ", "")
    return short + ends.get(unit, "")


def _scaled(value: float, base: int, names: Sequence[str]) -> str:
    power = 0
    while abs(value) >= base and power < len(names) - 1:
        value, power = value / base, power + 1
    return f"{value:.3g} {names[power]}".strip()


def _time(seconds: float) -> str:
    for size, name in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if abs(seconds) >= size:
            return f"{seconds / size:.3g} {name}"
    return "0 s" if seconds == 0 else f"{1000 * seconds:.3g} ms"


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    face: str = ""
    ink: str = ""


@dataclass
class Table:
    """The rows that a table panel shows."""

    titles: list[str]
    rows: list[list[Cell]] = field(default_factory=list)


def table_of(panel: Mapping[str, Any], lines: Sequence[Line]) -> Table:
    """Merges the queries by their labels, then chooses, orders and names columns as the panel's transformations say."""
    organize = next(each["options"] for each in panel["transformations"] if each["id"] == "organize")
    renamed: dict[str, str] = organize["renameByName"]
    letters = {target["refId"] for target in panel["targets"]}
    several = len(letters) > 1
    merged: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
    for line in lines:
        key = tuple(sorted((name, text) for name, text in line.labels.items() if name in renamed))
        merged.setdefault(key, {})[f"Value #{line.ref}" if several else "Value"] = line.samples[-1][1]
    order = sorted(renamed, key=lambda name: organize["indexByName"].get(name, 99))
    used = [n for n in order if any(n in dict(key) or n in values for key, values in merged.items())]
    rows = [{**dict(key), **values} for key, values in merged.items()]
    for each in panel.get("options", {}).get("sortBy", []):
        source = next((name for name in used if renamed[name] == each["displayName"]), "")
        rows.sort(key=lambda row: _sortable(row.get(source)), reverse=bool(each.get("desc")))
    return Table([renamed[n] for n in used], [[_cell(panel, renamed[n], row.get(n)) for n in used] for row in rows])


def _sortable(value: Any) -> tuple[int, Any]:
    return (0, "") if value is None else (1, value)


def _cell(panel: Mapping[str, Any], column: str, value: Any) -> Cell:
    if value is None or isinstance(value, str):
        return Cell(value or "")
    shown = Field(panel, column)
    tone = (shown.colour_of(value) or "") if shown.cell else ""
    return Cell(shown.text_of(value), tone if "background" in shown.cell else "", tone if "text" in shown.cell else "")
