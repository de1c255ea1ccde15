"""The arguments of the commands that look at a cluster, named as kubectl names them."""

import argparse
import os
from typing import TYPE_CHECKING

from tunesmith.api.problem import InputError, Problem

if TYPE_CHECKING:
    from tunesmith.cluster.client import Cluster


def add_cluster_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares --namespace, --context and --kubeconfig."""
    parser.add_argument("-n", "--namespace", help="the namespace (default: the context's)")
    parser.add_argument("--context", help="a context of the kubeconfig (default: the current one)")
    parser.add_argument("--kubeconfig", metavar="FILE", help="the kubeconfig (default: $KUBECONFIG, ~/.kube/config)")


def connect(arguments: argparse.Namespace) -> "Cluster":
    """The cluster that the arguments and KUBECONFIG mean; nothing is asked of it yet.

    Raises:
        InputError: they mean none.
    """
    from tunesmith.cluster.client import Cluster
    from tunesmith.cluster.kubeconfig import load_access

    if arguments.kubeconfig and not os.path.exists(arguments.kubeconfig):  # noqa: PTH110 - several go with colons
        raise InputError(Problem("is not there", "--kubeconfig", file=arguments.kubeconfig))
    files = arguments.kubeconfig or os.environ.get("KUBECONFIG", "")
    return Cluster(lambda: load_access(files, arguments.context))
