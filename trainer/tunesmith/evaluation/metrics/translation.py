"""BLEU and chrF by sacrebleu: what each row adds are its sufficient statistics, and the value is made by it too."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from tunesmith.evaluation.metrics.base import Text, TextMetric
from tunesmith.evaluation.metrics.words import is_unspaced
from tunesmith.evaluation.statistics import Floats


class _OfSacrebleu(TextMetric):
    """A metric of sacrebleu."""

    library: Any

    def parts(self, answers: Sequence[Text], references: Sequence[str]) -> Floats:
        """[rows, statistics]; none of a missing answer count."""
        library = self.library
        statistics = []
        for answer, reference in zip(answers, references, strict=True):
            expected = library._extract_reference_info([library._preprocess_segment(reference)])
            given = library._preprocess_segment(answer or "")
            statistics.append(library._compute_segment_statistics(given, expected))
        return np.array(statistics, np.float64)

    def measure(self, sums: Floats) -> Floats:
        flat = sums.reshape(-1, sums.shape[-1]).tolist()
        values = [self.library._compute_score_from_stats(some).score for some in flat]
        return np.array(values, np.float64).reshape(sums.shape[:-1])


class Bleu(_OfSacrebleu):
    """BLEU of the whole test set, 0 to 100: n-grams of up to 4 words, with a penalty for short answers.

    Where no answer has 4 words, shorter n-grams alone count (effective order), so that single rows have a value too;
    otherwise the value is that of sacrebleu's default.
    """

    citation = "Papineni et al. 2002, doi:10.3115/1073083.1073135; Post 2018, arXiv:1804.08771"

    def __init__(self) -> None:
        super().__init__()
        self.library = BLEU(effective_order=True)
        signature = f"nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:{version('sacrebleu')}"
        self.settings["bleu"] = signature

    def parts(self, answers: Sequence[Text], references: Sequence[str]) -> Floats:
        unspaced = sum(map(is_unspaced, references))
        self.warnings = (
            [f"bleu takes a run of letters for one word, and {unspaced:,} references have no spaces; look at chrf"]
            if unspaced
            else []
        )
        return super().parts(answers, references)


class Chrf(_OfSacrebleu):
    """chrF2 of the whole test set, 0 to 100: n-grams of up to 6 characters, recall counting twice."""

    citation = "Popović 2015, doi:10.18653/v1/W15-3049"

    def __init__(self) -> None:
        super().__init__()
        self.library = CHRF()
        self.settings["chrf"] = f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version('sacrebleu')}"
