"""What metrics need of a machine: no network, no home directory, and of WordNet what is there."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nltk.data
import pytest
from nltk.corpus import LazyCorpusLoader, WordNetCorpusReader

from tunesmith.api.load import InputError
from tunesmith.evaluation.metrics import meteor
from tunesmith.evaluation.metrics.meteor import Meteor

OFFLINE = """
import json, socket, sys

def refuse(*arguments):
    raise AssertionError(f"reaches out for {arguments}")

socket.socket.connect = socket.getaddrinfo = refuse
from tunesmith.evaluation.scorers import TEXT_METRICS
metrics = [make() for name, make in TEXT_METRICS.items() if name in sys.argv[1:]]
found = [metric.compute(predictions=["a big car"], references=["a big auto"]) for metric in metrics]
print(json.dumps([found, [metric.settings for metric in metrics], [metric.warnings for metric in metrics]]))
"""


def compute(names: list[str], **environment: str) -> Any:
    """In a process of its own."""
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    result = subprocess.run([sys.executable, "-c", OFFLINE, *names], env=kept, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def test_no_network_and_no_home_directory_is_needed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.touch()  # a file: nothing can be made below it, by root either
    names = ["bleu", "chrf", "rougeL", "meteor", "exactMatch", "macroF1"]
    found, _, _ = compute(names, HOME=str(home), HF_HOME=str(home / "hf"), NLTK_DATA=str(home))
    assert [next(iter(values)) for values in found] == ["exactMatch", "macroF1", "bleu", "chrf", "rougeL", "meteor"]


def write_wordnet(folder: Path) -> None:
    """A WordNet of one set: car, auto. nltk looks stems up, so these are their own."""
    folder.mkdir(parents=True)
    kinds = {"noun": "n", "verb": "v", "adj": "a", "adv": "r"}
    for kind in kinds:
        (folder / f"{kind}.exc").touch()
        (folder / f"index.{kind}").touch()
        (folder / f"data.{kind}").touch()
    (folder / "cntlist.rev").touch()
    (folder / "index.sense").touch()
    (folder / "lexnames").write_text("00\tadj.all\t3\n")
    head = "  1 no licence, made up here\n"
    lines = f"{head}{len(head):08d} 00 n 02 car 0 auto 0 000 | a machine with four wheels  \n"
    (folder / "data.noun").write_text(lines)
    words = ("auto", "car")
    (folder / "index.noun").write_text("".join(f"{word} n 1 0 1 1 {len(head):08d}  \n" for word in words))


@pytest.mark.parametrize("with_wordnet", [True, False], ids=["with WordNet", "without"])
def test_meteor_knows_synonyms_where_wordnet_is_and_says_so_where_not(with_wordnet: bool, tmp_path: Path) -> None:
    if with_wordnet:
        write_wordnet(tmp_path / "corpora" / "wordnet")
    (found,), (settings,), (warnings,) = compute(["meteor"], NLTK_DATA=str(tmp_path), HOME=str(tmp_path))
    if with_wordnet:
        assert found["meteor"] == pytest.approx(1 - 0.5 / 27)
        assert settings == {"meteor": "exact, stem and WordNet"}
        assert warnings == []
    else:
        assert found["meteor"] == pytest.approx((1 - 0.5 / 8) * 2 / 3)
        assert settings == {"meteor": "exact and stem, without WordNet"}
        assert len(warnings) == 1
        assert "set NLTK_DATA=DIR" in warnings[0]


nltk_leaves_files_open = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def wordnet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a small WordNet, which nltk finds."""
    folder = tmp_path / "corpora" / "wordnet"
    write_wordnet(folder)
    monkeypatch.setattr(nltk.data, "path", [str(tmp_path)])
    monkeypatch.setattr(meteor, "wordnet", LazyCorpusLoader("wordnet", WordNetCorpusReader, None))
    yield folder
    monkeypatch.undo()
    gc.collect()  # what nltk leaves open is told here, not in another test


@nltk_leaves_files_open
def test_a_wordnet_that_others_may_write_is_not_called_missing(wordnet: Path) -> None:
    (wordnet / "data.noun").chmod(0o666)
    (warning,) = Meteor().warnings
    assert f"will not read data from '{wordnet}" in warning and "(chmod go-w)" in warning
    assert "not in nltk's data path" not in warning


@nltk_leaves_files_open
@pytest.mark.filterwarnings("ignore:No WordNet synset found")  # nltk's own, of each word
def test_a_wordnet_with_other_line_ends_is_named(wordnet: Path) -> None:
    file = wordnet / "data.noun"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    with pytest.raises(InputError) as refusal:
        Meteor().score("a car", "an auto")
    assert str(refusal.value).startswith(f"{wordnet}: the files of WordNet do not fit together ('car' ")
