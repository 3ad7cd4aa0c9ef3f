"""Predicted spans: the best of a window, of several windows, or no answer."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from multitask_bert.records import EncodedExample, Example, Prediction, Target
from tests.questions import CONTEXT, LONG, ONE, QUESTION, SOMETIMES, head_with, marked_text, windows_of

HEAD = head_with(stride=16)


@pytest.mark.parametrize("max_answer_length", [1, 3, 30])
@pytest.mark.parametrize("seed", range(4))
def test_the_predicted_span_is_the_best_of_all(max_answer_length: int, seed: int, tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, ONE)
    num_candidates = len(window.targets["h"].token_indices)
    logits_ML = np.random.default_rng(seed).normal(size=(num_candidates, 2))
    found = head_with(max_answer_length=max_answer_length).decode(logits_ML, window)
    spans = [
        (first, last)
        for first, last in itertools.product(range(1, num_candidates), repeat=2)
        if first <= last < first + max_answer_length
    ]
    first, last = max(spans, key=lambda span: logits_ML[span[0], 0] + logits_ML[span[1], 1])
    candidates = window.targets["h"].token_indices
    span = window.offsets[candidates[first]][0], window.offsets[candidates[last]][1]
    assert found.span == span
    assert found.value == CONTEXT[span[0] : span[1]]
    assert found.scores == pytest.approx((logits_ML[first, 0] + logits_ML[last, 1], logits_ML[0].sum()))


def test_gold_marks_as_logits_give_the_gold_answer_back(tokenizer: Any) -> None:
    for window in windows_of(tokenizer, (("Arusha mjini", LONG.index("Arusha mjini")),), LONG, max_length=32, stride=8):
        found = head_with(SOMETIMES).join([head_with().decode(np.array(window.targets["h"].values), window)])
        assert found.value == marked_text(window)


def byte_level(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)


def with_marks(tokenizer: Tokenizer) -> None:
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")


@pytest.mark.parametrize("family", [byte_level, with_marks])
def test_tokenizers_that_include_the_space_before_a_word_give_the_answer_without_it(family: Any) -> None:
    """Every run of words of the context: marked by its target, it is predicted with its own span."""
    pieces = Tokenizer(models.BPE(unk_token="<unk>"))
    family(pieces)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = [*pre_tokenizers.ByteLevel.alphabet(), "▁"]
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    pieces.train_from_iterator([CONTEXT, QUESTION], trainer)
    ends = [("</s>", 2), ("<s>", 0)]
    pieces.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=ends
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=pieces, cls_token="<s>", sep_token="</s>", unk_token="<unk>", pad_token="<pad>"
    )
    begins = [0, *(index + 1 for index, letter in enumerate(CONTEXT) if letter == " ")]
    ends_of_words = [*(begin - 1 for begin in begins[1:]), len(CONTEXT)]
    for begin, end in itertools.product(begins, ends_of_words):
        if begin < end:
            (window,) = windows_of(tokenizer, ((CONTEXT[begin:end], begin),), max_length=256)
            found = head_with(max_answer_length=99).decode(np.array(window.targets["h"].values), window)
            assert (found.value, found.span) == (CONTEXT[begin:end], (begin, end))


def test_an_answer_keeps_the_accents_on_its_last_letter(tokenizer: Any) -> None:
    context = "Amina alikunywa cafe\u0301\u0323 mjini."
    (window,) = windows_of(tokenizer, (("cafe", 16),), context)
    found = HEAD.decode(np.array(window.targets["h"].values), window)
    assert (found.value, found.span) == ("cafe\u0301\u0323", (16, 22))


def test_a_context_without_tokens_has_no_answer() -> None:
    window = EncodedExample(
        Example("here", "q", {}, text_pair=""), (101, 102, 102), (0, 0, 0), (), {"h": Target((0,), (), 1)}
    )
    found = HEAD.join([HEAD.decode(np.zeros((1, 2)), window)])
    assert (found.value, found.span) == ("", None)
    assert HEAD.present(found, window)["answer"] is None


SURE, UNSURE, NONE = (
    Prediction("sure", (9.0, 2.0), (0, 4)),
    Prediction("unsure", (50.0, 49.0), (0, 6)),
    Prediction("x", (1.0, 5.0), (0, 1)),
)


def test_of_several_windows_the_one_with_the_best_margin_answers() -> None:
    assert head_with(SOMETIMES).join([NONE, UNSURE, SURE]).value == "sure"


def test_no_answer_is_predicted_only_where_train_has_such_questions_or_a_threshold_is_set() -> None:
    assert HEAD.join([NONE]).value == "x"
    assert head_with(SOMETIMES).join([NONE]) == Prediction("", (1.0, 5.0))
    assert head_with(no_answer_threshold=-5.0).join([NONE]).value == "x"
    assert head_with(no_answer_threshold=7.0).join([SURE]).value == ""


def test_an_answer_is_presented_with_its_span_and_margin(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, ONE)
    found = HEAD.join([HEAD.decode(np.array(window.targets["h"].values), window)])
    assert HEAD.present(found, window) == {"answer": "Arusha", "start": 18, "end": 24, "margin": 2.0}


def test_scores_take_the_best_gold_answer_and_leave_out_missing_ones() -> None:
    golds = [(("Arusha", 18), ("in Arusha", 15)), (), None]
    found = [Prediction("the Arusha!"), Prediction("Juma"), Prediction("x")]
    assert HEAD.score(golds, found) == {"f1": 0.5, "exact_match": 0.5}
    assert HEAD.is_right(golds[0], found[0])
    assert not HEAD.is_right(golds[1], found[1])
