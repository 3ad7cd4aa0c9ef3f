"""One tag per word: entity spans in IOB2 and plain tags."""

from __future__ import annotations

import numpy as np
import pytest

from multitask_bert.config.schema import HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads.iob2 import may_follow
from multitask_bert.heads.tagging import TaggingHead
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, EncodedExample, Example, Prediction, Target, Tokens

SPANS = TaggingHead(HeadConfig("tagging"), LabelSet(("O", "B-LOC", "I-LOC", "B-PER", "I-PER")))
PLAIN = TaggingHead(HeadConfig("tagging", scheme="plain"), LabelSet(("ADJ", "NOUN", "VERB")))
SENTENCE = Example("train.txt:10", "Amina yuko Dar", {}, words=("Amina", "yuko", "Dar"))


def tokens(*word_starts: int) -> Tokens:
    return Tokens((), (), (), (), word_starts=word_starts)


def encoded(*word_starts: int) -> EncodedExample:
    return EncodedExample(SENTENCE, (), (), word_starts, {})


def logits(*winners: int, num_labels: int = 5) -> np.ndarray:
    return np.eye(num_labels)[list(winners)]


def test_each_type_of_train_gets_b_and_i_also_where_only_one_occurs() -> None:
    found = TaggingHead.collect(HeadConfig("tagging"), [("O", "B-PER"), None, ("I-LOC", "O")])
    assert found == SPANS.labels


def test_types_named_in_the_config_make_the_tags() -> None:
    assert TaggingHead.collect(HeadConfig("tagging", labels=["PER"]), []).names == ("O", "B-PER", "I-PER")


def test_plain_tags_are_taken_as_they_are() -> None:
    config = HeadConfig("tagging", scheme="plain")
    assert TaggingHead.collect(config, [("VERB", "NOUN"), ("ADJ",)]) == PLAIN.labels


@pytest.mark.parametrize("tag", ["B_LOC", "b-LOC", "X", "", "E-PER", "B-"])
def test_a_tag_outside_the_scheme_names_its_own_line(tag: str) -> None:
    with pytest.raises(InputError, match=rf"train\.txt:12: tag '{tag}' is not IOB2 \(expected O, B-X or I-X\)"):
        TaggingHead.parse(SPANS.config, ("O", "O", tag), SENTENCE.where)


def test_an_entity_type_that_train_lacks_names_its_line_and_the_known_types() -> None:
    with pytest.raises(InputError, match=r"train\.txt:11: label 'ORG' does not occur.*known: LOC, PER"):
        SPANS.check_label(("O", "B-ORG", "O"), SENTENCE)


def test_an_orphan_i_tag_is_accepted() -> None:
    tags = TaggingHead.parse(SPANS.config, ("O", "I-LOC", "O"), SENTENCE.where)
    SPANS.check_label(tags, SENTENCE)
    assert SPANS.encode(tags, tokens(1, 2, 3)).values == (0, 2, 0)


def test_only_the_first_token_of_a_word_has_a_target() -> None:
    assert SPANS.encode(("B-PER", "O", "B-LOC"), tokens(1, 4, 5)) == Target(
        token_indices=(1, 4, 5), values=(3, 0, 1), num_known=3
    )


def test_a_truncated_word_has_no_target() -> None:
    assert SPANS.encode(("B-PER", "O", "B-LOC"), tokens(1, 4, -1)) == Target(
        token_indices=(1, 4), values=(3, 0), num_known=2
    )


def test_missing_tags_are_unknown_and_not_o() -> None:
    assert SPANS.encode(None, tokens(1, 2)) == Target(token_indices=(1, 2), values=(UNKNOWN, UNKNOWN), num_known=0)


def test_a_prediction_has_a_tag_for_every_word_and_o_for_truncated_ones() -> None:
    assert SPANS.decode(logits(3, 1), encoded(1, -1, 5)).value == ("B-PER", "O", "B-LOC")


def test_a_truncated_word_with_plain_tags_is_wrong() -> None:
    found = PLAIN.decode(logits(1, num_labels=3), encoded(1, -1))
    assert PLAIN.score([("NOUN", "VERB")], [found]) == {"accuracy": 0.5, "f1": 0.5}  # F1 of NOUN 1.0, of VERB 0.0


def test_truncated_words_are_not_a_class_in_the_macro_f1() -> None:
    found = PLAIN.decode(logits(1, 2, num_labels=3), encoded(1, 2, -1))
    assert PLAIN.score([("NOUN", "VERB", "VERB")], [found])["f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert PLAIN.for_module([("NOUN", "VERB", "VERB")], [found])["predictions"] == [["NOUN", "VERB", ""]]


def test_scores_are_on_entities_and_not_on_words() -> None:
    gold, found = [("B-PER", "I-PER", "O", "B-LOC")], [Prediction(("B-PER", "O", "O", "B-LOC"))]
    scores = SPANS.score(gold, found)
    assert scores == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "f1_strict": 0.5}


def test_sentences_without_tags_do_not_count_in_the_score() -> None:
    found = [Prediction(("B-PER",)), Prediction(("B-LOC",))]
    assert SPANS.score([("B-PER",), None], found)["f1"] == 1.0


@pytest.mark.parametrize(("scheme", "tags"), [("iob1", ("I-PER", "O", "I-LOC")), ("bioes", ("S-PER", "O", "S-LOC"))])
def test_other_schemes_are_learned_and_scored_as_iob2(scheme: str, tags: tuple[str, ...]) -> None:
    config = HeadConfig("tagging", scheme=scheme)
    gold = TaggingHead.parse(config, tags, SENTENCE.where)
    head = TaggingHead(config, TaggingHead.collect(config, [gold]))
    assert head.labels == SPANS.labels
    assert head.score([gold], [Prediction(("B-PER", "O", "B-LOC"))])["f1_strict"] == 1.0


def test_an_entity_without_its_end_names_the_line_of_the_word_and_the_schemes() -> None:
    with pytest.raises(
        InputError, match=r"train\.txt:11: tag 'O' stands where .*`scheme:` .*\(iob2, iob1, bioes; plain"
    ):
        TaggingHead.parse(HeadConfig("tagging", scheme="bioes"), ("B-PER", "O", "S-LOC"), SENTENCE.where)


def test_constrained_decoding_begins_entities_with_b_and_free_decoding_need_not() -> None:
    wild = logits(4, 2, 2) + 0.5 * logits(3, 1, 0)  # I-PER I-LOC I-LOC; second best B-PER B-LOC O
    constrained = TaggingHead(HeadConfig("tagging", constrained=True), SPANS.labels)
    assert SPANS.decode(wild, encoded(1, 2, 3)).value == ("I-PER", "I-LOC", "I-LOC")
    assert constrained.decode(wild, encoded(1, 2, 3)).value == ("B-PER", "B-LOC", "I-LOC")


def test_constrained_decoding_does_not_continue_an_entity_after_an_unread_word() -> None:
    constrained = TaggingHead(HeadConfig("tagging", constrained=True), SPANS.labels)
    assert constrained.decode(logits(3, 4) + 0.5 * logits(0, 3), encoded(1, -1, 2)).value == ("B-PER", "O", "B-PER")


@pytest.mark.parametrize("seed", range(10))
def test_constrained_predictions_are_valid_whatever_the_logits_and_truncated_words(seed: int) -> None:
    generator = np.random.default_rng(seed)
    starts = [place if generator.random() < 0.8 else -1 for place in range(1, 13)]
    constrained = TaggingHead(HeadConfig("tagging", constrained=True), SPANS.labels)
    found = constrained.decode(generator.normal(size=(sum(s >= 0 for s in starts), 5)), encoded(*starts)).value
    assert all(may_follow(before, tag) for before, tag in zip((None, *found), found, strict=False))


def test_f1_by_entity_type_is_reported_beside_the_headline() -> None:
    head = TaggingHead(HeadConfig("tagging", metrics=["f1", "f1_per_label"]), SPANS.labels)
    found = head.score([("B-PER", "O", "B-LOC")], [Prediction(("B-PER", "O", "O"))])
    assert found == {"f1": pytest.approx(2 / 3), "f1_of_LOC": 0.0, "f1_of_PER": 1.0}


def test_plain_tags_have_an_f1_each() -> None:
    head = TaggingHead(HeadConfig("tagging", scheme="plain", metrics=["accuracy", "f1_per_label"]), PLAIN.labels)
    found = head.score([("NOUN", "VERB")], [Prediction(("NOUN", "NOUN"))])
    assert found == {"accuracy": 0.5, "f1_of_ADJ": 0.0, "f1_of_NOUN": pytest.approx(2 / 3), "f1_of_VERB": 0.0}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (HeadConfig("tagging", scheme="iob"), "scheme=iob: choose iob2, iob1, bioes (entity spans) or plain"),
        (HeadConfig("tagging", metrics=["f1_weighted"]), "f1_weighted is not defined for scheme iob2"),
        (HeadConfig("tagging", scheme="plain", metrics=["f1_strict"]), "f1_strict is not defined for scheme plain"),
        (HeadConfig("tagging", scheme="plain", constrained=True), "constrained=True: has no effect with scheme=plain"),
        (HeadConfig("tagging", pooling="mean"), "pooling=mean: tagging has no such option"),
        (HeadConfig("tagging", metrics=["bleu"]), "tagging does not report bleu"),
    ],
)
def test_settings_that_cannot_work_are_named(config: HeadConfig, problem: str) -> None:
    assert any(problem in found for found in TaggingHead.problems(config))
