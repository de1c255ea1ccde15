"""Finds what a person names."""

import difflib

from tunesmith.api.problem import InputError
from tunesmith.cluster.client import Cluster, ClusterError, Object
from tunesmith.cluster.kinds import JOBS, PIPELINES, Kind

OVER = ("Succeeded", "Failed")
"""The phases of what has ended."""


def find(cluster: Cluster, namespace: str, reference: str) -> tuple[Kind, Object]:
    """The job or pipeline of a name, or of KIND/NAME as kubectl writes it.

    Raises:
        InputError: there is none, or one of each kind.
        ClusterError: the API server said no.
    """
    word, separator, name = reference.rpartition("/")
    kinds = [kind for kind in (JOBS, PIPELINES) if not separator or word.lower() in (kind.plural, *kind.aliases)]
    if not kinds or not name:
        raise InputError(f"{reference}: should be NAME, finetunejob/NAME or rlhfpipeline/NAME")
    found = [(kind, body) for kind in kinds if (body := get(cluster, kind, namespace, name)) is not None]
    if len(found) > 1:
        text = f"{name} is the name of a FineTuneJob and of an RLHFPipeline in namespace {namespace}"
        raise InputError(f"{text}: write finetunejob/{name} or rlhfpipeline/{name}")
    if not found:
        names = [item["metadata"]["name"] for kind in kinds for item in _names(cluster, kind, namespace)]
        close = difflib.get_close_matches(name, names, n=1)
        guess = f"; did you mean {close[0]}?" if close else ""
        what = " or ".join(kind.name for kind in kinds)
        raise InputError(f"there is no {what} {name} in namespace {namespace}{guess}")
    return found[0]


def get(cluster: Cluster, kind: Kind, namespace: str, name: str) -> Object | None:
    """An object; None where there is none."""
    try:
        return cluster.get(kind.path(namespace, name))
    except ClusterError as error:
        if error.code == 404:
            return None
        raise


def _names(cluster: Cluster, kind: Kind, namespace: str) -> list[Object]:
    return [item for page in cluster.pages(kind, namespace, names_only=True) for item in page["items"] or []]
