"""Metrics: answers beside references, as classes of Hugging Face's `evaluate` whose values are made of sums over rows.

base         what they have in common
words        words of any language, and what two of our metrics make of them; free of other libraries
overlap      exactMatch, tokenF1, numericMatch
classes      accuracy, macroF1, microF1
translation  bleu, chrf
rouge        rouge1, rouge2, rougeL, rougeLsum, rougeW; subsequences has what the last three count
meteor       meteor
bert_score   bertScore
own          evaluation.own
"""

from tunesmith.evaluation.metrics.words import exact_match, token_f1

__all__ = ["exact_match", "token_f1"]
