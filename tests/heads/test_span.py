"""Answers as spans of a context: where they are, windows, no answer, and the loss beside Hugging Face's."""

from __future__ import annotations

import itertools
import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForQuestionAnswering, PreTrainedTokenizerFast

from multitask_bert.config import HeadConfig, InputError
from multitask_bert.data.encoding import encode_examples
from multitask_bert.heads.span import NUM_LOGGED, SpanHead
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example, Prediction, Target
from tests.tiny_bert import SIZES, assert_same_loss_and_gradients, batch_of, inputs_of, same_model

ALWAYS, SOMETIMES = LabelSet(("answer",)), LabelSet(("answer", "no answer"))
CONTEXT = "Amina was born in Arusha in 1990. Juma was born in Dar-es-Salaam."
QUESTION = "Where was Amina born?"


def head_with(labels: LabelSet = ALWAYS, **options: Any) -> SpanHead:
    return SpanHead(HeadConfig("span", **options), labels)


HEAD = head_with(stride=16)


def windows_of(tokenizer: Any, value: Any, context: str = CONTEXT, **options: Any) -> list[EncodedExample]:
    """A question about a context, in windows of `max_length` pieces."""
    max_length = options.pop("max_length", 64)
    example = Example("squad.json:1", QUESTION, {"h": value}, text_pair=context)
    return encode_examples([example], {"h": head_with(**{"stride": 16, **options})}, tokenizer, max_length=max_length)


def marked_text(window: EncodedExample) -> str | None:
    """The text that the target marks: empty for "no answer here", None if it is unknown."""
    target = window.targets["h"]
    values = np.array(target.values)
    if np.isnan(values).all():
        assert target.num_known == 0
        return None
    assert target.num_known == 1
    assert values.sum(axis=0).tolist() == [1.0, 1.0]
    first, last = (target.anchors[int(place)] for place in values.argmax(axis=0))
    if (first, last) == (0, 0):
        return ""
    assert window.example.text_pair is not None
    return window.example.text_pair[window.offsets[first][0] : window.offsets[last][1]]


ONE = (("Arusha", 18),)


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


def test_an_answer_without_a_start_is_looked_for() -> None:
    assert SpanHead.parse(HEAD.config, [{"text": "Arusha"}], "here") == (("Arusha", -1),)


@pytest.mark.parametrize(
    "raw",
    [
        "Arusha", 5, ["Arusha"], [{"text": "", "answer_start": 0}], [{"text": "a", "answer_start": "0"}],
        [{"answer_start": 0}], {"text": "a", "answer_start": 0}, {"text": ["a"], "answer_start": []},
    ],
)  # fmt: skip
def test_what_is_no_list_of_answers_names_its_line(raw: Any) -> None:
    with pytest.raises(InputError, match=r"squad\.json:9: "):
        SpanHead.parse(HEAD.config, raw, "squad.json:9")


def test_the_labels_tell_whether_train_has_questions_without_an_answer() -> None:
    assert SpanHead.collect(HEAD.config, [ONE, None, ONE]) == ALWAYS
    found = SpanHead.collect(HEAD.config, [ONE, (), ONE])
    assert (found, found.counts) == (SOMETIMES, (2, 1))


def test_every_piece_of_the_context_and_the_first_token_are_places(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, ONE)
    num_question = len(tokenizer(QUESTION)["input_ids"])
    assert window.targets["h"].anchors == (0, *range(num_question, len(window.input_ids) - 1))


@pytest.mark.parametrize(
    ("text", "start", "marked"),
    [
        ("Arusha", 18, "Arusha"),
        (" Arusha ", 17, "Arusha"),  # spaces belong to no piece
        ("in Arusha in 1990", 15, "in Arusha in 1990"),
        ("Amina", 0, "Amina"),
        ("Dar-es-Salaam.", 51, "Dar-es-Salaam."),
        ("rush", 19, "Arush"),  # begins inside a token
        ("99", 29, "1990"),  # begins and ends inside a token
    ],
)
def test_the_pieces_that_cover_an_answer_are_marked(text: str, start: int, marked: str, tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, ((text, start),))
    assert marked_text(window) == marked


@pytest.mark.parametrize("start", [-1, 0, 17, 19, 10_000])
def test_an_answer_with_a_wrong_start_is_found_where_its_text_occurs_once(start: int, tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, (("Arusha", start),))
    assert marked_text(window) == "Arusha"


@pytest.mark.parametrize("answer", [("was born", -1), ("Mwanza", 3), ("Mwanza", -1)])
def test_an_answer_that_cannot_be_placed_is_unknown_and_never_no_answer(answer: Any, tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, (answer,))
    assert marked_text(window) is None


def test_an_answer_that_occurs_twice_stays_at_its_right_start(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, (("was born", 39),))
    place = int(np.array(window.targets["h"].values)[:, 0].argmax())
    assert window.offsets[window.targets["h"].anchors[place]] == (39, 42)


def test_the_first_answer_that_can_be_placed_is_learnt(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, (("Mwanza", 3), ("1990", 28), ("Arusha", 18)))
    assert marked_text(window) == "1990"


def test_a_missing_label_is_unknown(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, None)
    assert marked_text(window) is None


def test_no_answer_is_the_first_token(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, ())
    assert marked_text(window) == ""


def test_unplaced_answers_are_counted_and_the_first_ones_named(caplog: pytest.LogCaptureFixture) -> None:
    head = head_with()
    for line in range(NUM_LOGGED + 3):
        head.check_label((("Mwanza", 3),), Example(f"squad.json:{line}", QUESTION, {}, text_pair=CONTEXT))
    head.check_label(ONE, Example("squad.json:99", QUESTION, {}, text_pair=CONTEXT))
    assert head.num_unplaced == NUM_LOGGED + 3
    assert len(caplog.messages) == NUM_LOGGED + 1
    assert "squad.json:0: answer 'Mwanza' stands neither at answer_start=3" in caplog.messages[0]


def test_a_question_without_a_context_is_refused() -> None:
    with pytest.raises(InputError, match=r"squad\.json:1: span needs a question and a context"):
        HEAD.check_label(ONE, Example("squad.json:1", QUESTION, {}))


LONG = " ".join(f"Siku ya {number} ilikuwa njema." for number in range(40)) + " Amina alizaliwa Arusha mjini."


def test_only_windows_that_hold_the_whole_answer_are_marked_with_it(tokenizer: Any) -> None:
    answer = "Arusha mjini"
    windows = windows_of(tokenizer, ((answer, LONG.index(answer)),), LONG, max_length=32, stride=8)
    assert len(windows) > 5
    begin, end = LONG.index(answer), LONG.index(answer) + len(answer)
    for window in windows:
        context = [window.offsets[place] for place in window.targets["h"].anchors[1:]]
        holds = context[0][0] <= begin and end <= context[-1][1]
        assert marked_text(window) == (answer if holds else "")
    assert marked_text(windows[-1]) == answer


def test_every_answer_of_a_long_context_is_marked_in_some_window(tokenizer: Any) -> None:
    """With a stride as long as the answer, no answer falls between two windows."""
    for word in ("Siku ya 0", "Siku ya 17", "39 ilikuwa", "njema. Amina"):
        windows = windows_of(tokenizer, ((word, LONG.index(word)),), LONG, max_length=32, stride=8)
        assert word in [marked_text(window) for window in windows]


def test_loss_and_gradients_equal_bert_for_question_answering_over_the_same_places(tokenizer: Any) -> None:
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
    is_place_BS[target.anchor_M] = True
    is_place_BS = is_place_BS.reshape(batch.input_ids_BS.shape)
    theirs.qa_outputs.register_forward_hook(
        lambda module, inputs, output: output.masked_fill(~is_place_BS[:, :, None], -1e9)
    )
    places = [[e.targets["h"].anchors[i] for i in np.array(e.targets["h"].values).argmax(axis=0)] for e in encoded]
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


@pytest.mark.parametrize("max_answer_length", [1, 3, 30])
@pytest.mark.parametrize("seed", range(4))
def test_the_predicted_span_is_the_best_of_all(max_answer_length: int, seed: int, tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, ONE)
    num_places = len(window.targets["h"].anchors)
    logits_ML = np.random.default_rng(seed).normal(size=(num_places, 2))
    found = head_with(max_answer_length=max_answer_length).decode(logits_ML, window)
    spans = [
        (first, last)
        for first, last in itertools.product(range(1, num_places), repeat=2)
        if first <= last < first + max_answer_length
    ]
    first, last = max(spans, key=lambda span: logits_ML[span[0], 0] + logits_ML[span[1], 1])
    anchors = window.targets["h"].anchors
    place = window.offsets[anchors[first]][0], window.offsets[anchors[last]][1]
    assert found.place == place
    assert found.value == CONTEXT[place[0] : place[1]]
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
def test_tokenizers_that_count_the_space_to_the_word_give_the_answer_without_it(family: Any) -> None:
    """Every run of words of the context: marked by its target, it is predicted with its own place."""
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
    begins = [0, *(place + 1 for place, letter in enumerate(CONTEXT) if letter == " ")]
    ends_of_words = [*(begin - 1 for begin in begins[1:]), len(CONTEXT)]
    for begin, end in itertools.product(begins, ends_of_words):
        if begin < end:
            (window,) = windows_of(tokenizer, ((CONTEXT[begin:end], begin),), max_length=256)
            found = head_with(max_answer_length=99).decode(np.array(window.targets["h"].values), window)
            assert (found.value, found.place) == (CONTEXT[begin:end], (begin, end))


def test_a_context_without_pieces_has_no_answer() -> None:
    window = EncodedExample(
        Example("here", "q", {}, text_pair=""), (101, 102, 102), (0, 0, 0), (), {"h": Target((0,), (), 1)}
    )
    found = HEAD.join([HEAD.decode(np.zeros((1, 2)), window)])
    assert (found.value, found.place) == ("", None)
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


def test_an_answer_is_presented_with_its_place_and_margin(tokenizer: Any) -> None:
    (window,) = windows_of(tokenizer, ONE)
    found = HEAD.join([HEAD.decode(np.array(window.targets["h"].values), window)])
    assert HEAD.present(found, window) == {"answer": "Arusha", "start": 18, "end": 24, "margin": 2.0}


def test_scores_take_the_best_gold_answer_and_leave_out_missing_ones() -> None:
    golds = [(("Arusha", 18), ("in Arusha", 15)), (), None]
    found = [Prediction("the Arusha!"), Prediction("Juma"), Prediction("x")]
    assert HEAD.score(golds, found) == {"f1": 0.5, "exact_match": 0.5}
    assert HEAD.is_right(golds[0], found[0])
    assert not HEAD.is_right(golds[1], found[1])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"stride": -1}, "stride=-1: must be at least 0"),
        ({"max_answer_length": 0}, "max_answer_length=0: must be at least 1"),
        ({"labels": ["a"]}, "labels: span has none"),
        ({"pooling": "mean"}, "pooling=mean: span has no such option"),
        ({"label_smoothing": 0.1}, "label_smoothing=0.1: span has no such option"),
    ],
)
def test_settings_that_cannot_work_are_named(options: dict[str, Any], problem: str) -> None:
    (found,) = SpanHead.problems(HeadConfig("span", **options))
    assert problem in found
    assert math.isinf(HEAD.threshold)
