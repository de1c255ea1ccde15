"""Where notifications may go: hosts that whoever runs the operator allows, and URLs that they keep by name."""

import re
from collections.abc import Iterable
from pathlib import Path

from yarl import URL

from tunesmith.api.notification import is_webhook_url

_LABELS = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_ENTRY = re.compile(rf"([*][.])?{_LABELS}(:[0-9]{{1,5}})?|http://{_LABELS}(:[0-9]{{1,5}})?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_PORTS = {"https": 443, "http": 80}
_LONGEST_URL = 2048


def check_entry(entry: str) -> str:
    """An entry of the list of allowed hosts, as it is.

    `HOST` allows https on port 443, `HOST:PORT` on that port, `*.DOMAIN` on every host below a domain but not on it,
    and `http://HOST[:PORT]` allows http, for a receiver in the cluster.

    Raises:
        ValueError: it is none.
    """
    if not _ENTRY.fullmatch(entry):
        raise ValueError(f"{entry!r} is no HOST, HOST:PORT, *.DOMAIN or http://HOST:PORT, in lower case")
    return entry


def host_of(url: str) -> str:
    """The host that a URL leads to, as the client that will call it reads it; all that may be shown of a secret one."""
    return (URL(url).raw_host or "").lower()


def is_allowed(url: str, allowed: Iterable[str]) -> bool:
    """Whether a URL leads to one of these hosts. Addresses behind a host are not looked at: https asks the receiver for
    a certificate of the host's name, which nothing else in the cluster has.
    """
    if not is_webhook_url(url):
        return False
    try:
        scheme, host, port = URL(url).scheme, host_of(url), URL(url).port
    except ValueError:  # a port beyond 65535
        return False
    return any(_matches(scheme, host, port, entry) for entry in allowed)


def _matches(scheme: str, host: str, port: int | None, entry: str) -> bool:
    wanted, separator, place = entry.rpartition("://")
    name, _, number = place.partition(":")
    if scheme != (wanted if separator else "https") or port != int(number or _PORTS[scheme]):
        return False
    return host.endswith(name[1:]) if name.startswith("*.") else host == name


class Webhooks:
    """The URLs in a folder, where a Secret is mounted: a file for each name. They are read anew each time, since a
    Secret may be changed at any time, and are never logged.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None

    def names(self) -> frozenset[str]:
        """All that are there."""
        if self._folder is None or not self._folder.is_dir():
            return frozenset()
        return frozenset(file.name for file in self._folder.iterdir() if _NAME.fullmatch(file.name) and file.is_file())

    def url(self, name: str) -> str | None:
        """The URL of a name; None where there is none, or what is there is no URL."""
        if self._folder is None or not _NAME.fullmatch(name):
            return None
        try:
            text = (self._folder / name).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return text if len(text) <= _LONGEST_URL and is_webhook_url(text) and _has_port(text) else None


def _has_port(url: str) -> bool:
    try:
        return URL(url).port is not None
    except ValueError:
        return False
