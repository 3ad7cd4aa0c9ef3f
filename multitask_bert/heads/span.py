"""`type: span`: the answer to a question as a span of a context; extractive question answering.

The first text is the question, the second the context. A long context is read in overlapping windows, whose predictions
are combined. An answer begins and ends at tokens of the context; the first token of the window stands for "no answer
here".
"""

from __future__ import annotations

import json
import logging
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads.base import Head
from multitask_bert.heads.scoring import Comparison, only_known
from multitask_bert.heads.segments import segment_log_softmax
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example, HeadOutput, Offset, Prediction, Target, TargetBatch, Tokens

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

log = logging.getLogger(__name__)

Answer = tuple[str, int]  # text, and its first character in the context (-1: not known)
ANSWER, NO_ANSWER = "answer", "no answer"  # what questions have; the second only where train holds such
NOWHERE: Offset = (-1, -1)
NUM_LOGGED = 5  # answers not found in their context that are named one by one; the others are only counted


class SpanHead(Head):
    """Dropout and a linear layer with two outputs per token, begin and end, as `BertForQuestionAnswering`.

    A label is a tuple of gold answers; an empty one says that the context holds no answer. Of a prediction, `scores`
    are the summed logits of the answer and of "no answer"; `span` is in characters of the context.
    """

    known_metrics = ("exact_match", "f1")
    own_options = ("stride", "max_answer_length", "no_answer_threshold")
    pair_fields = ("question", "context")
    pools_text = False
    reads_windows = True
    fewest_labels = 1

    def __init__(self, config: HeadConfig, labels: LabelSet) -> None:
        super().__init__(config, labels)
        self.num_not_found = 0  # examples whose answers are nowhere in their context, and are not learned from

    @classmethod
    def default_metrics(cls, config: HeadConfig) -> tuple[str, ...]:
        return ("f1", "exact_match")

    @classmethod
    def problems(cls, config: HeadConfig) -> Iterator[str]:
        yield from super().problems(config)
        if config.labels is not None:
            yield "labels: span has none; remove it"

    @classmethod
    def parse(cls, config: HeadConfig, raw: Any, where: str) -> tuple[Answer, ...] | None:
        """A list of `{text, answer_start}`, or `{text: […], answer_start: […]}`; both also as JSON in a string."""
        if isinstance(raw, str) and raw.strip():
            try:
                raw = json.loads(raw)
            except (ValueError, RecursionError) as error:  # no JSON, too deep, or a number of thousands of digits
                raise InputError(f"{where}: {raw[:60]!r} is no JSON list of answers ({error})") from error
        if raw is None or (isinstance(raw, str) and not raw.strip()):
            return None
        if isinstance(raw, Mapping):
            texts, starts = raw.get("text"), raw.get("answer_start")
            if starts is None or starts in ([], ()):  # not known
                starts = [-1] * len(texts if isinstance(texts, list | tuple) else ())
            if not isinstance(texts, list | tuple) or not isinstance(starts, list | tuple) or len(texts) != len(starts):
                raise InputError(f"{where}: answers need `text` and `answer_start`, lists of one length")
            raw = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
        if not isinstance(raw, list | tuple):
            raise InputError(f"{where}: span needs a list of answers, but found {str(raw)[:60]!r}")
        return tuple(_answer(one, where) for one in raw)

    @classmethod
    def collect(cls, config: HeadConfig, values: Iterable[Any]) -> LabelSet:
        found = [ANSWER if value else NO_ANSWER for value in values if value is not None]
        return LabelSet((ANSWER, *([NO_ANSWER] if NO_ANSWER in found else []))).counted(found)

    @property
    def num_outputs(self) -> int:
        return 2

    def check_label(self, value: Any, example: Example) -> None:
        """Count, and name in the log, answers that cannot be learned because they are not found in the context."""
        if example.text_pair is None:
            raise InputError(f"{example.where}: span needs a question and a context; name both texts in the source")
        if value and not _answer_spans(value, example.text_pair):
            self.num_not_found += 1
            if self.num_not_found <= NUM_LOGGED:
                text, start = value[0]
                log.warning(
                    "%s: answer '%s' stands neither at answer_start=%d nor exactly once elsewhere in the context; the "
                    "question is scored, but not learned from", example.where, text[:60], start,
                )  # fmt: skip
            if self.num_not_found == NUM_LOGGED + 1:
                log.warning("%s: another such answer; further ones are counted only", example.where)

    def encode(self, value: Any, tokens: Tokens) -> Target:
        context = [index for index, is_second in enumerate(tokens.is_second_text) if is_second]
        candidates = (0, *context)
        span = self._span_in_window(value, tokens, context)
        if span is None:
            return Target(candidates, ((math.nan, math.nan),) * len(candidates), num_known=0)
        first, last = span
        return Target(candidates, tuple((float(i == first), float(i == last)) for i in candidates), num_known=1)

    def loss(self, logits_ML: Tensor, target: TargetBatch) -> HeadOutput:
        """Cross-entropy over the candidate tokens of each window, the mean of begin and end, summed over windows."""
        log_ML = segment_log_softmax(logits_ML.float(), target.example_M)
        # Unknown targets become 0 before the product: masked after it, their gradient would be 0 * NaN.
        total = -(target.value_M.float().nan_to_num(nan=0.0) * log_ML).sum() / 2
        return HeadOutput(logits_ML, total, target.num_known)

    def decode(self, logits_ML: np.ndarray, encoded: EncodedExample) -> Prediction:
        """The best answer of a window, also where "no answer" is more likely: `join` decides."""
        import numpy as np

        begin_M, end_M = logits_ML.astype(np.float64).T
        nothing = float(begin_M[0] + end_M[0])
        best, span = -math.inf, None
        for length in range(min(self.config.max_answer_length, len(begin_M) - 1)):
            scores = begin_M[1 : len(begin_M) - length] + end_M[1 + length :]
            first = int(scores.argmax())
            if scores[first] > best:
                best, span = float(scores[first]), (first, first + length)
        if span is None:  # the context has no tokens
            return Prediction("", (best, nothing))
        offsets = _offsets_of_context(encoded, len(begin_M) - 1)
        begin, end = offsets[span[0]][0], offsets[span[1]][1]
        context = encoded.example.text_pair or ""
        while end < len(context) and unicodedata.combining(context[end]):  # accents that the tokenizer dropped
            end += 1
        text = context[begin:end]
        begin += len(text) - len(text.lstrip())  # some tokenizers include the space before a word
        return Prediction(text.strip(), (best, nothing), span=(begin, begin + len(text.strip())))

    def join(self, predictions: Sequence[Prediction]) -> Prediction:
        """The answer that beats "no answer" by most; an empty one if that is too little."""
        best = max(predictions, key=lambda found: found.scores[0] - found.scores[1])
        if best.scores[0] - best.scores[1] <= self.threshold:
            return Prediction("", best.scores)
        return best

    def present(self, prediction: Prediction, encoded: EncodedExample) -> dict[str, Any]:
        """The answer (None: there is none), its span in the context, its margin over "no answer" in logits."""
        answer, nothing = prediction.scores
        margin = None if answer == -math.inf else round(answer - nothing, 6)
        if prediction.span is None:
            return {"answer": None, "margin": margin}
        begin, end = prediction.span
        return {"answer": prediction.value, "start": begin, "end": end, "margin": margin}

    @property
    def threshold(self) -> float:
        """The margin that an answer needs over "no answer"."""
        if self.config.no_answer_threshold is not None:
            return self.config.no_answer_threshold
        return 0.0 if NO_ANSWER in self.labels else -math.inf

    def compare(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> Comparison:
        from multitask_bert.utils import metrics

        known = only_known(golds, predictions)
        texts = [[text for text, _ in gold] for gold, _ in known]
        return Comparison(metrics.ANSWERS, texts, [found.value for _, found in known])

    def for_module(self, golds: Sequence[Any], predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
        """References and predictions in the form that the module `squad` takes."""
        known = list(enumerate(only_known(golds, predictions)))
        return {
            "references": [
                {"id": str(n), "answers": {"text": [t for t, _ in gold], "answer_start": [start for _, start in gold]}}
                for n, (gold, _) in known
            ],
            "predictions": [{"id": str(n), "prediction_text": found.value} for n, (_, found) in known],
        }

    def dummy_examples(self) -> Sequence[tuple[Any, Any]]:
        return [((("Amina", 0),), "Amina"), ((("Tanga", 6),), "Tanga")]

    def is_right(self, gold: Any, prediction: Prediction) -> bool:
        from multitask_bert.utils.metrics.answers import best_over, exact_match

        return best_over(exact_match, [text for text, _ in gold], prediction.value) == 1.0

    def _span_in_window(self, value: Any, tokens: Tokens, context: Sequence[int]) -> tuple[int, int] | None:
        """First and last token of the answer, (0, 0) if it is not in this window; None if it is not known."""
        if value is None:
            return None
        if not value:
            return 0, 0
        spans = _answer_spans(value, tokens.second_text)
        if not spans:
            return None
        for begin, end in spans:
            if context and tokens.offsets[context[0]][0] <= begin and end <= tokens.offsets[context[-1]][1]:
                first = next(index for index in context if tokens.offsets[index][1] > begin)
                last = next(index for index in reversed(context) if tokens.offsets[index][0] < end)
                return (first, last) if first <= last else None  # the tokenizer drops every character of the answer
        return 0, 0


def _answer(raw: Any, where: str) -> Answer:
    text, start = (raw.get("text"), raw.get("answer_start", -1)) if isinstance(raw, Mapping) else (None, -1)
    start = -1 if start is None or start == [] else start  # not known
    if not isinstance(text, str) or not text.strip() or not isinstance(start, int) or isinstance(start, bool):
        raise InputError(
            f"{where}: an answer needs `text` (not empty) and `answer_start` (a number), but found {str(raw)[:60]!r}; "
            f"a question without an answer has an empty list"
        )
    return text, start


def _answer_spans(answers: Iterable[Answer], context: str | None) -> list[Offset]:
    """Begin and end of the answers in the context, without outer spaces; those that are not found are left out.

    An answer that does not stand at its `answer_start` is searched for, and found if it occurs exactly once.
    """
    found = []
    for text, start in answers:
        stripped = text.strip()
        if context is not None and (start < 0 or context[start : start + len(text)] != text):
            start = context.find(stripped)
            if start < 0 or context.find(stripped, start + 1) >= 0:
                continue
        elif start < 0:
            continue
        else:
            start += len(text) - len(text.lstrip())
        found.append((start, start + len(stripped)))
    return found


def _offsets_of_context(encoded: EncodedExample, num_tokens: int) -> Sequence[Offset]:
    """The offsets of the window's context tokens: the last ones, except for the special tokens at the end."""
    end = max(index for index, offset in enumerate(encoded.offsets) if offset != NOWHERE) + 1
    return encoded.offsets[end - num_tokens : end]
