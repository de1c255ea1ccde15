"""Grafana's dashboards, one module each; the chart ships what `python -m monitoring.generate` writes of them."""

from monitoring.boards import fleet, job, operator, rlhf

BOARDS = {"fleet": fleet.board, "job": job.board, "operator": operator.board, "rlhf": rlhf.board}
_FOLDER = "charts/tunesmith/files/dashboards"


def files() -> dict[str, str]:
    """The text of each generated file by its path from the root of the repository."""
    return {f"{_FOLDER}/{name}.json": board() for name, board in BOARDS.items()}
