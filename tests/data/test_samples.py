"""The embedded corpora: the same everywhere, split cleanly, and of no use to a reader of single words."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter, defaultdict

import pytest
from seqeval.metrics import f1_score as entity_f1_score
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline

from multitask_bert.data.samples import ner_english, ner_swahili
from multitask_bert.data.samples.corpora import (
    AGREEING_SHARE,
    LANGUAGES,
    SIZES,
    NerExample,
    TextExample,
    names,
    ner_corpus,
    sentiment_corpus,
    topics,
)
from multitask_bert.data.samples.sentiment_patterns import CIRCUMSTANCES, SENTIMENT_PATTERNS
from multitask_bert.data.samples.words import POLAR

NER_DIGEST = "53f3f2b4689edaa38f7b9b53ab0dc330e05db8c8f2af3a5700a2160c18836ad5"
SENTIMENT_DIGEST = "c98a739e352dff7ccbc1dee0ff8170bf8e019b63c27c78f7c881704687b46d6b"
ENGLISH = re.compile(r"\b(the|what|I)\b", re.IGNORECASE)  # is in every English pattern, and in no Swahili one
CLASS_7_PREFIX = re.compile(r"\bcha (ku\w+)")
SPLIT_PAIRS = (("train", "dev"), ("train", "test"), ("dev", "test"))
PATTERN_POOLS = (
    ner_english.PATTERNS,
    ner_english.OPENERS,
    ner_english.CLOSERS,
    ner_swahili.PATTERNS,
    ner_swahili.OPENERS,
    ner_swahili.CLOSERS,
    *SENTIMENT_PATTERNS.values(),
    *CIRCUMSTANCES.values(),
)


@pytest.fixture(scope="module")
def ner() -> dict[str, list[NerExample]]:
    return ner_corpus()


@pytest.fixture(scope="module")
def sentiment() -> dict[str, list[TextExample]]:
    return sentiment_corpus()


def test_corpora_are_the_same_on_every_machine(
    ner: dict[str, list[NerExample]], sentiment: dict[str, list[TextExample]]
) -> None:
    assert (digest(ner), digest(sentiment)) == (NER_DIGEST, SENTIMENT_DIGEST)


def test_making_a_corpus_again_gives_the_same_corpus(
    ner: dict[str, list[NerExample]], sentiment: dict[str, list[TextExample]]
) -> None:
    assert ner_corpus() == ner
    assert sentiment_corpus() == sentiment


def test_splits_have_the_stated_sizes(
    ner: dict[str, list[NerExample]], sentiment: dict[str, list[TextExample]]
) -> None:
    assert {split: len(examples) for split, examples in ner.items()} == SIZES
    assert {split: len(examples) for split, examples in sentiment.items()} == SIZES


def test_no_text_occurs_twice_in_any_casing(
    ner: dict[str, list[NerExample]], sentiment: dict[str, list[TextExample]]
) -> None:
    sentences = [" ".join(words).lower().removesuffix(" .") for examples in ner.values() for words, _ in examples]
    texts = [text.lower() for examples in sentiment.values() for text, _ in examples]
    assert len(set(sentences)) == len(sentences)
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("pair", SPLIT_PAIRS, ids="-".join)
def test_no_word_of_a_name_is_in_the_names_of_two_splits(pair: tuple[str, str]) -> None:
    one, other = (
        {word.lower() for pool in names(split).values() for name in pool for word in name.split()} for split in pair
    )
    assert one & other == set()


@pytest.mark.parametrize("split", ["dev", "test"])
def test_no_word_of_the_names_of_dev_or_test_occurs_in_train(ner: dict[str, list[NerExample]], split: str) -> None:
    train = {word.lower() for words, _ in ner["train"] for word in words}
    assert train & {word.lower() for pool in names(split).values() for name in pool for word in name.split()} == set()


def test_no_entity_of_dev_or_test_is_an_entity_of_train(ner: dict[str, list[NerExample]]) -> None:
    train = {name for name, _ in entities(ner["train"])}
    assert train & {name for split in ("dev", "test") for name, _ in entities(ner[split])} == set()


@pytest.mark.parametrize("pair", SPLIT_PAIRS, ids="-".join)
def test_no_pattern_and_no_topic_is_in_two_splits(pair: tuple[str, str]) -> None:
    for pool in PATTERN_POOLS:
        one, other = ({re.sub(r"{\w+}", "{}", pattern) for pattern in pool[split]} for split in pair)
        assert one & other == set()
    for language in LANGUAGES:
        assert set(topics(pair[0], language)) & set(topics(pair[1], language)) == set()


@pytest.mark.parametrize("split", SIZES)
def test_most_ambiguous_names_occur_with_all_three_types(ner: dict[str, list[NerExample]], split: str) -> None:
    types = defaultdict(set)
    for name, entity_type in entities(ner[split]):
        types[name].add(entity_type)
    ambiguous = [name.lower() for name in names(split)["ambiguous"]]
    assert all(len(types[name]) >= 2 for name in ambiguous)
    assert sum(len(types[name]) == 3 for name in ambiguous) > len(ambiguous) / 2


def test_tags_are_iob2_and_one_per_word(ner: dict[str, list[NerExample]]) -> None:
    for words, tags in (example for examples in ner.values() for example in examples):
        assert len(words) == len(tags)
        for previous, tag in zip(["O", *tags], tags, strict=False):
            assert re.fullmatch(r"O|[BI]-(PER|LOC|ORG)", tag)
            assert not tag.startswith("I-") or previous[2:] == tag[2:]


def test_words_hold_no_white_space_and_no_unfilled_slot(
    ner: dict[str, list[NerExample]], sentiment: dict[str, list[TextExample]]
) -> None:
    words = [word for examples in ner.values() for example in examples for word in example[0]]
    words += [word for examples in sentiment.values() for text, _ in examples for word in text.split(" ")]
    assert all(word and not re.search(r"[\s{}]", word) for word in words)


def test_a_third_of_the_entities_have_several_words(ner: dict[str, list[NerExample]]) -> None:
    found = [name for name, _ in entities(ner["test"])]
    assert sum(" " in name for name in found) > len(found) / 3


@pytest.mark.parametrize("split", SIZES)
def test_classes_are_balanced(sentiment: dict[str, list[TextExample]], split: str) -> None:
    counts = Counter(label for _, label in sentiment[split])
    assert counts["negative"] == counts["positive"]


@pytest.mark.parametrize("split", SIZES)
def test_opinion_words_agree_with_the_label_in_the_stated_share(
    sentiment: dict[str, list[TextExample]], split: str
) -> None:
    for language, is_english in (("en", True), ("sw", False)):
        agreeing = opposing = 0
        for kind in POLAR[language].values():
            for polarity, words in kind.items():
                found = re.compile("|".join(rf"\b{word}\b" for word in words))
                for text, label in sentiment[split]:
                    if (re.search(ENGLISH, text) is not None) is is_english:
                        count = len(found.findall(CLASS_7_PREFIX.sub(r"ya \1", text.lower())))
                        agreeing, opposing = (
                            agreeing + count * (label == polarity),
                            opposing + count * (label != polarity),
                        )
        assert agreeing / (agreeing + opposing) == pytest.approx(AGREEING_SHARE[split], abs=0.02)


def test_a_dictionary_of_train_tags_finds_almost_no_entity_of_test(ner: dict[str, list[NerExample]]) -> None:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for words, tags in ner["train"]:
        for word, tag in zip(words, tags, strict=True):
            counts[word.lower()][tag] += 1
    predicted = [
        [counts[word.lower()].most_common(1)[0][0] if word.lower() in counts else "O" for word in words]
        for words, _ in ner["test"]
    ]
    assert entity_f1_score([tags for _, tags in ner["test"]], predicted) < 0.1


def test_a_bag_of_words_and_word_pairs_stays_below_sixty_five_percent(sentiment: dict[str, list[TextExample]]) -> None:
    classifier = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    classifier.fit([text for text, _ in sentiment["train"]], [label for _, label in sentiment["train"]])
    predicted = classifier.predict([text for text, _ in sentiment["test"]])
    assert f1_score([label for _, label in sentiment["test"]], predicted, average="macro") < 0.65


def digest(corpus: object) -> str:
    return hashlib.sha256(json.dumps(corpus, ensure_ascii=True).encode()).hexdigest()


def entities(examples: list[NerExample]) -> list[tuple[str, str]]:
    """The (lower-cased name, type) of every entity."""
    found: list[tuple[str, str]] = []
    for words, tags in examples:
        for word, tag in zip(words, tags, strict=True):
            if tag.startswith("B-"):
                found.append((word.lower(), tag[2:]))
            elif tag.startswith("I-"):
                found[-1] = (f"{found[-1][0]} {word.lower()}", tag[2:])
    return found
