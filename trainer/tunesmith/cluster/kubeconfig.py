"""Where the API server is and who we are there: from a kubeconfig, as kubectl reads it, or from the pod that this is.

The official client reads kubeconfigs (contexts, certificates, exec plugins, proxies) and renews what expires; nothing
else of it is used, as its models of objects take seconds to import.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tunesmith.api.problem import InputError, Problem

DEFAULT = "~/.kube/config"
_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True)
class Access:
    """A way to an API server."""

    configuration: Any
    """The official client's."""
    context: str
    """The context's name; empty in a pod."""
    namespace: str
    """The one that commands mean which name none."""


def load_access(files: str, context: str | None) -> Access:
    """Reads kubeconfigs; where there are none, what a pod is given.

    Args:
        files: paths with colons between; empty for DEFAULT.
        context: which context; the current one by default.

    Raises:
        InputError: there is nothing of that kind, or it cannot be used.
    """
    try:
        from kubernetes.client import Configuration
        from kubernetes.config import ConfigException, kube_config, load_incluster_config
    except ModuleNotFoundError:
        raise InputError("the package kubernetes is not installed: pip install 'tunesmith[cluster]'") from None
    configuration = Configuration()
    configuration.retries = False  # a watch knows better when to try again, and a person wants to know now
    configuration.keep_alive = True  # a connection that broke unnoticed would be waited on for ever
    given = files or DEFAULT
    merged = _merged(kube_config, given)
    if merged is None or merged.config is None:
        try:
            load_incluster_config(client_configuration=configuration)
        except ConfigException:
            text = "there is no kubeconfig; set KUBECONFIG, or --kubeconfig, to the one of your cluster"
            raise InputError(Problem(text, file=given)) from None
        return Access(configuration, "", _POD_NAMESPACE.read_text(encoding="utf-8").strip())
    try:
        with failures_raised():
            loader = kube_config.KubeConfigLoader(
                config_dict=merged.config,
                active_context=context,
                config_base_path=None,  # paths are relative to the file that they stand in
                config_persister=merged.save_changes,
            )
            loader.load_and_set(configuration)
        current = loader.current_context
    except ConfigException as error:
        raise InputError(Problem(_in_words(str(error), context), file=given)) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(Problem(f"is not a kubeconfig that can be used: {error}", file=given)) from None
    return Access(configuration, current["name"], current["context"].get("namespace") or "default")


def _merged(kube_config: Any, files: str) -> Any:
    """What the files hold; None where there is none of them."""
    try:
        return kube_config.KubeConfigMerger(files)
    except yaml.YAMLError as error:
        problem = str(error).splitlines()[0]
        raise InputError(Problem(f"is not a kubeconfig: not valid YAML: {problem}", file=files)) from None
    except (AttributeError, KeyError, TypeError, UnicodeDecodeError):
        raise InputError(Problem("is not a kubeconfig", file=files)) from None
    except kube_config.ConfigException as error:
        raise InputError(Problem(str(error), file=files)) from None


def _in_words(said: str, context: str | None) -> str:
    if context is not None and f"name {context} in" in said:
        return f"has no context {context!r}; `kubectl config get-contexts` lists them"
    if "current-context" in said:
        return "names no current-context; choose one with --context"
    return said


class _Raise(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise InputError(f"the kubeconfig's credentials: {record.getMessage()}")


@contextmanager
def failures_raised() -> Iterator[None]:
    """Raises InputError for a login plugin that fails; the official client logs that and goes on as nobody."""
    handler = _Raise(logging.ERROR)
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield
    finally:
        root.removeHandler(handler)
