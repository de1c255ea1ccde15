"""Where notifications may go: no host but the allowed ones, however a URL is written."""

from pathlib import Path

import pytest

from tunesmith_operator.main import parse_settings
from tunesmith_operator.receivers import Webhooks, host_of, is_allowed

ALLOWED = ("good.example", "*.hooks.example", "ports.example:8443", "http://events.monitoring.svc:8080", "10.1.2.3")


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example",
        "https://good.example/services/T0/B0/x-y_z",
        "https://GOOD.example:443/?key=a%20b",
        "https://a.hooks.example/x",
        "https://a.b.hooks.example/x",
        "https://ports.example:8443/x",
        "http://events.monitoring.svc:8080/",
        "https://10.1.2.3/",
    ],
)
def test_an_allowed_host(url: str) -> None:
    assert is_allowed(url, ALLOWED)
    assert not is_allowed(url, ())


@pytest.mark.parametrize(
    "url",
    [
        # another host
        "https://evil.example/good.example",
        "https://good.example.evil.example/",
        "https://evilgood.example/",
        "https://evil.example/?@good.example",
        "https://good.example@evil.example/",
        "https://user:secret@good.example/",
        "https://@good.example/",
        "https://evil.example#@good.example/",
        "https://evil.example\\@good.example/",
        "https://good.example\\.evil.example/",
        "https://good.example%2eevil.example/",
        "https://good.example%00.evil.example/",
        "https://good.example .evil.example/",
        "https://good.example\t/",
        "https://good.example/\r\nHost: evil.example",
        "https://good.example/x\n",
        "//good.example/",
        "good.example",
        "",
        # a wildcard covers what is below its domain alone
        "https://hooks.example/",
        "https://evilhooks.example/",
        "https://.hooks.example/",
        "https://hooks.example.evil.example/",
        # another port or scheme
        "https://good.example:8443/",
        "https://good.example:0/",
        "https://good.example:99999/",
        "https://good.example:/",
        "https://ports.example/",
        "http://good.example/",
        "http://good.example:443/",
        "http://events.monitoring.svc/",
        "https://events.monitoring.svc:8080/",
        "file://good.example/etc/passwd",
        "gopher://good.example/",
        "HTTPS://evil.example/",
        # other spellings of a host or an address
        "https://good.example./",
        "https://ｇood.example/",  # noqa: RUF001 - in full width
        "https://good。example/",
        "https://gооd.example/",  # noqa: RUF001 - with Cyrillic letters
        "https://[::1]/",
        "https://[::ffff:10.1.2.3]/",
        "https://167838211/",
        "https://0x0a010203/",
        "https://012.1.2.3/",
        "https://10.1.515/",
    ],
)
def test_no_other_host_however_it_is_written(url: str) -> None:
    assert not is_allowed(url, ALLOWED)


def test_what_is_shown_of_a_url_is_its_host() -> None:
    assert host_of("https://Hooks.Example:8443/services/secret?key=secret") == "hooks.example"


@pytest.mark.parametrize(
    "entry", ["https://good.example", "*", "*.", "a.*.b", "Good.example", "good.example/x", "u@good.example", "a:b"]
)
def test_an_entry_that_is_none_stops_the_operator(entry: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings([], {"TUNESMITH_NOTIFICATION_HOSTS": f"good.example,{entry}"})
    assert f"{entry!r} is no HOST" in capsys.readouterr().err


def test_webhooks_are_read_anew_each_time(tmp_path: Path) -> None:
    webhooks = Webhooks(str(tmp_path))
    assert (webhooks.names(), webhooks.url("team")) == (frozenset(), None)
    kept = tmp_path / "..2026_01_01"  # as the kubelet mounts a Secret: links to a folder that is exchanged
    kept.mkdir()
    (kept / "team").write_text("https://hooks.example/one\n")
    (tmp_path / "..data").symlink_to(kept)
    (tmp_path / "team").symlink_to(Path("..data") / "team")
    assert (webhooks.names(), webhooks.url("team")) == (frozenset({"team"}), "https://hooks.example/one")
    (kept / "team").write_text("https://hooks.example/two")
    assert webhooks.url("team") == "https://hooks.example/two"
    for content in ("", "no url", "https://user@hooks.example/", "https://hooks.example:99999/", "ftp://hooks.example"):
        (kept / "team").write_text(content)
        assert webhooks.url("team") is None
    assert webhooks.url("../secret") is None
    assert Webhooks("").names() == Webhooks(str(tmp_path / "gone")).names() == frozenset()
