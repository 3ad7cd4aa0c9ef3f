"""Answers as spans of a context: where they are, windows, no answer, and the loss beside Hugging Face's."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertForQuestionAnswering

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.errors import InputError
from multitask_bert.heads.span import NUM_LOGGED, SpanHead
from multitask_bert.records import Example
from tests.questions import ALWAYS, CONTEXT, LONG, ONE, QUESTION, SOMETIMES, head_with, marked_text, windows_of
from tests.tiny_bert import SIZES, assert_same_loss_and_gradients, batch_of, inputs_of, same_model

HEAD = head_with(stride=16)


@pytest.mark.parametrize(
    "raw",
    [
        [{"text": "Arusha", "answer_start": 18}],
        {"text": ["Arusha"], "answer_start": [18]},
        json.dumps([{"text": "Arusha", "answer_start": 18}]),
        [{"text": "Arusha", "answer_start": 18, "answer_end": 24}],
    ],
)
def test_answers_come_in_the_layouts_of_squad_and_of_its_data_set(raw: Any) -> None:
    assert SpanHead.parse(HEAD.config, raw, "here") == ONE


@pytest.mark.parametrize("raw", [[], {"text": [], "answer_start": []}, "[]"])
def test_an_empty_list_says_that_there_is_no_answer(raw: Any) -> None:
    assert SpanHead.parse(HEAD.config, raw, "here") == ()


@pytest.mark.parametrize("raw", [None, "", " "])
def test_an_empty_field_is_a_missing_label(raw: Any) -> None:
    assert SpanHead.parse(HEAD.config, raw, "here") is None


def test_an_answer_without_a_start_is_searched_for() -> None:
    for raw in (
        [{"text": "Arusha"}],
        [{"text": "Arusha", "answer_start": []}],
        {"text": ["Arusha"], "answer_start": []},
    ):
        assert SpanHead.parse(HEAD.config, raw, "here") == (("Arusha", -1),)


@pytest.mark.parametrize(
    "raw",
    [
        "Arusha", 5, ["Arusha"], [{"text": "", "answer_start": 0}], [{"text": "a", "answer_start": "0"}],
        [{"answer_start": 0}], {"text": "a", "answer_start": 0}, {"text": ["a", "b"], "answer_start": [0]},
        pytest.param(f"[{'7' * 5000}]", id="digits"), pytest.param("[" * 9999, id="deep"),
    ],
)  # fmt: skip
def test_a_label_that_is_not_a_list_of_answers_is_refused_with_its_line(raw: Any) -> None:
    with pytest.raises(InputError, match=r"squad\.json:9: "):
        SpanHead.parse(HEAD.config, raw, "squad.json:9")


def test_the_labels_tell_whether_train_has_questions_without_an_answer() -> None:
    assert SpanHead.collect(HEAD.config, [ONE, None, ONE]) == ALWAYS
    found = SpanHead.collect(HEAD.config, [ONE, (), ONE])
    assert (found, found.counts) == (SOMETIMES, (2, 1))


def test_an_answer_may_begin_and_end_at_every_context_token_and_the_first_one(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, ONE)
    num_question = len(tokenizer(QUESTION)["input_ids"])
    assert window.targets["h"].token_indices == (0, *range(num_question, len(window.input_ids) - 1))


@pytest.mark.parametrize(
    ("text", "start", "marked"),
    [
        ("Arusha", 18, "Arusha"),
        (" Arusha ", 17, "Arusha"),  # spaces belong to no token
        ("in Arusha in 1990", 15, "in Arusha in 1990"),
        ("Amina", 0, "Amina"),
        ("Dar-es-Salaam.", 51, "Dar-es-Salaam."),
        ("rush", 19, "Arush"),  # begins inside a token
        ("99", 29, "1990"),  # begins and ends inside a token
    ],
)
def test_the_tokens_that_cover_an_answer_are_marked(text: str, start: int, marked: str, tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, ((text, start),))
    assert marked_text(window) == marked


@pytest.mark.parametrize("start", [-1, 0, 17, 19, 10_000])
def test_an_answer_with_a_wrong_start_is_found_where_its_text_occurs_once(start: int, tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, (("Arusha", start),))
    assert marked_text(window) == "Arusha"


@pytest.mark.parametrize("answer", [("was born", -1), ("Mwanza", 3), ("Mwanza", -1)])
def test_an_answer_that_is_not_found_is_unknown_and_never_no_answer(answer: Any, tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, (answer,))
    assert marked_text(window) is None


def test_an_answer_that_occurs_twice_stays_at_its_right_start(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, (("was born", 39),))
    place = int(np.array(window.targets["h"].values)[:, 0].argmax())
    assert window.offsets[window.targets["h"].token_indices[place]] == (39, 42)


def test_the_first_answer_that_is_found_is_learned(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, (("Mwanza", 3), ("1990", 28), ("Arusha", 18)))
    assert marked_text(window) == "1990"


def test_a_missing_label_is_unknown(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, None)
    assert marked_text(window) is None


def test_no_answer_is_the_first_token(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, ())
    assert marked_text(window) == ""


def test_answers_that_are_not_found_are_counted_and_the_first_ones_named(caplog: pytest.LogCaptureFixture) -> None:
    head = head_with()
    for line in range(NUM_LOGGED + 3):
        head.check_label((("Mwanza", 3),), Example(f"squad.json:{line}", QUESTION, {}, text_pair=CONTEXT))
    head.check_label(ONE, Example("squad.json:99", QUESTION, {}, text_pair=CONTEXT))
    assert head.num_not_found == NUM_LOGGED + 3
    assert len(caplog.messages) == NUM_LOGGED + 1
    assert "squad.json:0: answer 'Mwanza' stands neither at answer_start=3" in caplog.messages[0]


def test_a_question_without_a_context_is_refused() -> None:
    with pytest.raises(InputError, match=r"squad\.json:1: span needs a question and a context"):
        HEAD.check_label(ONE, Example("squad.json:1", QUESTION, {}))


def test_only_windows_that_hold_the_whole_answer_are_marked_with_it(tokenizer: Any) -> None:
    answer = "Arusha mjini"
    windows = windows_of(tokenizer, ((answer, LONG.index(answer)),), LONG, max_length=32, stride=8)
    assert len(windows) > 5
    begin, end = LONG.index(answer), LONG.index(answer) + len(answer)
    for window in windows:
        context = [window.offsets[place] for place in window.targets["h"].token_indices[1:]]
        holds = context[0][0] <= begin and end <= context[-1][1]
        assert marked_text(window) == (answer if holds else "")
    assert marked_text(windows[-1]) == answer


def test_every_answer_of_a_long_context_is_marked_in_some_window(tokenizer: Any) -> None:
    """With a stride as long as the answer, no answer falls between two windows."""
    for word in ("Siku ya 0", "Siku ya 17", "39 ilikuwa", "njema. Amina"):
        windows = windows_of(tokenizer, ((word, LONG.index(word)),), LONG, max_length=32, stride=8)
        assert word in [marked_text(window) for window in windows]


def test_loss_and_gradients_equal_bert_for_question_answering_over_the_same_tokens(tokenizer: Any) -> None:
    """Theirs may begin at any token; with the question, separators and padding closed to it, both are one."""
    torch.manual_seed(0)
    theirs = BertForQuestionAnswering(BertConfig(**SIZES))
    ours = same_model(theirs, HEAD, theirs.qa_outputs)
    examples = [
        Example("here", QUESTION, {"h": ONE}, text_pair=CONTEXT),
        Example("here", "When?", {"h": ()}, text_pair="Amina was born."),
        Example("here", "Who?", {"h": (("Juma", 34),)}, text_pair=CONTEXT),
    ]
    encoded = encode_examples(examples, {"h": HEAD}, tokenizer, max_length=64)
    batch = batch_of(encoded)
    target = batch.targets["t", "h"]
    is_place_BS = torch.zeros(batch.input_ids_BS.numel(), dtype=torch.bool)
    is_place_BS[target.token_M] = True
    is_place_BS = is_place_BS.reshape(batch.input_ids_BS.shape)
    theirs.qa_outputs.register_forward_hook(
        lambda module, inputs, output: output.masked_fill(~is_place_BS[:, :, None], -1e9)
    )
    places = [
        [e.targets["h"].token_indices[i] for i in np.array(e.targets["h"].values).argmax(axis=0)] for e in encoded
    ]
    begin_B, end_B = torch.tensor(places).T
    expected = theirs(**inputs_of(batch), start_positions=begin_B, end_positions=end_B)
    assert_same_loss_and_gradients(ours, batch, theirs, expected.loss)


def test_a_window_of_unknown_answer_adds_nothing_to_the_loss(tokenizer: Any) -> None:
    known, unknown = windows_of(tokenizer, ONE) + windows_of(tokenizer, None)
    target = batch_of([known, unknown]).targets["t", "h"]
    logits_ML = torch.randn(len(target.value_M), 2, requires_grad=True)
    output = HEAD.loss(logits_ML, target)
    alone = HEAD.loss(logits_ML[: len(target.value_M) // 2], batch_of([known]).targets["t", "h"])
    assert output.count == alone.count == 1
    torch.testing.assert_close(output.loss_sum, alone.loss_sum)
    output.loss_sum.backward()
    assert logits_ML.grad is not None
    assert not logits_ML.grad.isnan().any()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"labels": ["a"]}, "labels: span has none"),
        ({"pooling": "mean"}, "pooling=mean: span has no such option"),
        ({"label_smoothing": 0.1}, "label_smoothing=0.1: span has no such option"),
    ],
)
def test_settings_that_cannot_work_are_named(options: dict[str, Any], problem: str) -> None:
    (found,) = SpanHead.problems(HeadConfig("span", **options))
    assert problem in found
    assert math.isinf(HEAD.threshold)
