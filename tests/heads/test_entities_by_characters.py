"""Entities by characters: scores are those of the places that predicting says, in texts of any kind."""

from __future__ import annotations

import itertools
import json
import logging
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multitask_bert.config.schema import HeadConfig, SourceConfig, TaskConfig
from multitask_bert.data.encoding import encode_examples
from multitask_bert.data.processor import DataProcessor
from multitask_bert.data.readers import READERS
from multitask_bert.heads.base import Head
from multitask_bert.heads.tagging import TaggingHead
from multitask_bert.inference.encoding import encode_inputs
from multitask_bert.inference.inputs import read_input
from multitask_bert.labels import LabelSet
from multitask_bert.records import EncodedExample, Example, Prediction

LABELS = LabelSet(("O", "B-X", "I-X", "B-Y", "I-Y"))
METRICS = ["f1", "precision", "recall", "f1_per_label"]
Spans = Sequence[tuple[int, int, str]]
ALPHABETS = {
    "words": "abc  .", "punctuation": "ab.,-'  ", "no spaces": "我住在今天", "mixed": "我a .-'\u0301\u200b",
    "wide": "a \t\u00a0", "Thai": "กนรมำ\u0e35\u0e48๒", "kana": "かガー々a、\u3099",
}  # fmt: skip


def head(constrained: bool = False) -> TaggingHead:
    return TaggingHead(HeadConfig("tagging", metrics=METRICS, constrained=constrained), LABELS)


def random_text(draw: random.Random, alphabet: str) -> tuple[str, list[list[Any]]]:
    """A text, and entities that begin and end anywhere in it, also next to each other."""
    text = "".join(draw.choices(alphabet, k=draw.randint(1, 30)))
    borders = sorted(draw.choices(range(len(text) + 1), k=8))
    places = [(a, b) for a, b in itertools.pairwise(borders) if text[a:b].strip() and draw.random() < 0.6]
    return text, [[a, b, draw.choice("XY")] for a, b in places]


def read(path: Path, records: Sequence[Mapping[str, Any]], heads: Mapping[str, HeadConfig]) -> list[Example]:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return list(READERS["jsonl"](path, SourceConfig("jsonl", text="text"), heads))


def pieces_tokenizer(*pieces: str) -> Any:
    """A tokenizer with these pieces, which, unlike BERT's, does not split Chinese text into characters first."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    of_library = Tokenizer(WordPiece({piece: n for n, piece in enumerate(["[UNK]", *pieces])}, unk_token="[UNK]"))
    of_library.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=of_library, unk_token="[UNK]")


def random_logits(draw: random.Random, encoded: EncodedExample) -> np.ndarray:
    """Of each word with tokens; the same for the same text."""
    return np.random.default_rng(draw.randrange(9)).normal(size=(len(encoded.targets["h"].token_indices), len(LABELS)))


def character_scores(golds: Sequence[Spans], founds: Sequence[Spans]) -> dict[str, float]:
    """Out of sets of places, for all entities and for those of each type."""

    def measure(kinds: str) -> tuple[float, float, float]:
        gold = {(n, *one) for n, spans in enumerate(golds) for one in spans if one[2] in kinds}
        found = {(n, *one) for n, spans in enumerate(founds) for one in spans if one[2] in kinds}
        right = len(gold & found)
        precision, recall = right / max(1, len(found)), right / max(1, len(gold))
        return 2 * precision * recall / ((precision + recall) or 1), precision, recall

    f1, precision, recall = measure("XY")
    return {"f1": f1, "precision": precision, "recall": recall, "f1_of_X": measure("X")[0], "f1_of_Y": measure("Y")[0]}


@pytest.mark.parametrize("max_length", [64, 8])
@pytest.mark.parametrize("constrained", [False, True])
@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_scores_equal_those_of_the_offsets_that_predicting_gives(
    tokenizer: Any, tmp_path: Path, alphabet: str, constrained: bool, max_length: int
) -> None:
    draw = random.Random(3)
    ours = head(constrained)
    heads: dict[str, Head] = {"h": ours}
    drawn = [random_text(draw, ALPHABETS[alphabet]) for _ in range(300)]
    records = [{"text": text, "h": spans} for text, spans in drawn if text.strip()]
    examples = read(tmp_path / "a.jsonl", records, {"h": HeadConfig("tagging", column="h")})
    scored = encode_examples(examples, heads, tokenizer, max_length=max_length, as_predicted=True)
    inputs = [read_input({"text": record["text"]}, "here") for record in records]
    predicted = [one for (one,) in encode_inputs("text", inputs, heads, tokenizer, max_length=max_length)]
    predictions: list[Prediction] = []
    founds: list[Spans] = []
    for ours_now, theirs in zip(scored, predicted, strict=True):
        assert ours_now.input_ids == theirs.input_ids
        assert ours_now.targets["h"].token_indices == theirs.targets["h"].token_indices
        logits = random_logits(draw, theirs)
        gold = np.zeros_like(logits)  # so that a good part is right
        gold[range(len(gold)), ours_now.targets["h"].values] = draw.choice([0.0, 5.0])
        predictions.append(ours.decode(logits + gold, ours_now))
        shown = ours.present(ours.decode(logits + gold, theirs), theirs)
        founds.append([(one["start"], one["end"], one["label"]) for one in shown["entities"]])
    golds = [example.example.labels["h"] for example in scored]
    expected = character_scores([[(a, b, c) for a, b, c in record["h"]] for record in records], founds)
    assert ours.score(golds, predictions) == pytest.approx(expected, abs=1e-12)
    if alphabet in ("words", "punctuation", "no spaces"):
        assert 0 < expected["f1"] < 1
    if constrained:  # else an entity may begin with I-, which is right for the F1 only
        are_right = [{*map(tuple, record["h"])} == {*found} for record, found in zip(records, founds, strict=True)]
        assert [ours.is_right(gold, found) for gold, found in zip(golds, predictions, strict=True)] == are_right


def test_an_entity_inside_a_word_is_learned_as_the_whole_word_and_scored_by_its_characters(
    tokenizer: Any, tmp_path: Path
) -> None:
    heads: dict[str, Head] = {"h": head()}
    record = {"text": "mDodomani leo", "h": [[1, 7, "X"]]}
    examples = read(tmp_path / "a.jsonl", [record], {"h": HeadConfig("tagging", column="h")})
    (trained,) = encode_examples(examples, heads, tokenizer, max_length=32)
    (scored,) = encode_examples(examples, heads, tokenizer, max_length=32, as_predicted=True)
    assert trained.example.words == ("mDodomani", "leo")
    assert trained.targets["h"].values == (1, 0)
    assert trained.targets["h"].token_indices == scored.targets["h"].token_indices
    assert scored.example.labels == {"h": ("O", "B-X", "O", "O")}  # m, Dodoma, ni, leo
    whole_word = heads["h"].decode(np.eye(5)[[1, 0]], scored)
    assert whole_word.value == ("B-X", "I-X", "I-X", "O")
    assert heads["h"].score([scored.example.labels["h"]], [whole_word])["f1"] == 0.0


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_training_reads_the_tokens_that_predicting_reads_wherever_entities_begin(
    tokenizer: Any, tmp_path: Path, alphabet: str
) -> None:
    draw = random.Random(4)
    heads: dict[str, Head] = {"h": head()}
    drawn = [random_text(draw, ALPHABETS[alphabet]) for _ in range(200)]
    records = [{"text": text, "h": spans} for text, spans in drawn if text.strip()]
    examples = read(tmp_path / "a.jsonl", records, {"h": HeadConfig("tagging", column="h")})
    trained = encode_examples(examples, heads, tokenizer, max_length=64)
    inputs = [read_input({"text": record["text"]}, "here") for record in records]
    for ours, (theirs,) in zip(trained, encode_inputs("text", inputs, heads, tokenizer, max_length=64), strict=True):
        assert (ours.input_ids, ours.word_starts) == (theirs.input_ids, theirs.word_starts)
        assert ours.targets["h"].token_indices == theirs.targets["h"].token_indices


def test_a_piece_of_several_letters_without_spaces_begins_one_entity(tmp_path: Path) -> None:
    tokenizer = pieces_tokenizer("我", "##在", "##北京", "##上海")
    heads: dict[str, Head] = {"h": head()}
    record = {"text": "我在北京上海", "h": [[2, 4, "X"], [4, 6, "X"]]}
    examples = read(tmp_path / "a.jsonl", [record], {"h": HeadConfig("tagging", column="h")})
    (trained,) = encode_examples(examples, heads, tokenizer, max_length=32)
    (scored,) = encode_examples(examples, heads, tokenizer, max_length=32, as_predicted=True)
    assert trained.targets["h"] == scored.targets["h"]
    assert trained.targets["h"].values == (0, 0, 1, 1)
    found = heads["h"].decode(np.eye(5)[[0, 0, 1, 1]], scored)
    assert found.value == scored.example.labels["h"] == ("O", "O", "B-X", "I-X", "B-X", "I-X")


def test_an_entity_with_white_space_at_its_end_is_missed(tokenizer: Any, tmp_path: Path) -> None:
    heads: dict[str, Head] = {"h": head()}
    record = {"text": "Dar es Salaam leo", "h": [[0, 7, "X"], [14, 17, "Y"]]}
    examples = read(tmp_path / "a.jsonl", [record], {"h": HeadConfig("tagging", column="h")})
    (scored,) = encode_examples(examples, heads, tokenizer, max_length=32, as_predicted=True)
    found = heads["h"].decode(np.eye(5)[[1, 2, 0, 3]], scored)
    assert heads["h"].score([scored.example.labels["h"]], [found])["f1"] == 0.5


@pytest.mark.parametrize("cached", [False, True])
def test_all_splits_have_the_words_that_predicting_gives_and_entities_inside_them_are_counted(
    tokenizer: Any, tmp_path: Path, cached: bool, caplog: pytest.LogCaptureFixture
) -> None:
    from multitask_bert.data.caching import Cache

    records = [{"text": f"m{name}ni leo {number}", "h": [[1, 1 + len(name), "X"]]}
               for number, name in enumerate(["Dodoma", "Arusha", "Moshi"] * 20)]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records), encoding="utf-8")
    task = TaskConfig(
        SourceConfig("jsonl", folder=str(tmp_path), train="a.jsonl", text="text"),
        {"h": HeadConfig("tagging", column="h")},
    )
    cache = Cache(tmp_path / "cache") if cached else None
    processor = DataProcessor({"t": task}, data_root="unused", seed=1, cache=cache)
    with caplog.at_level(logging.WARNING):
        data = processor.process(tokenizer, max_length=32)
    splits = {"train": data.train["t"], "dev": data.dev["t"], "test": data.test["t"]}
    num_words = {split: {len(one.targets["h"].token_indices) for one in dataset} for split, dataset in splits.items()}
    assert num_words == {"train": {3}, "dev": {3}, "test": {3}}
    said = [message.partition(": ")[2] for message in caplog.messages if "begin or end where no word does" in message]
    where = "begin or end where no word does (inside one, or at white space)"
    missed = "no prediction finds them, and they count as missed"
    assert said == [
        f"48 of 48 train entities of heads.h {where}: they are learned as the whole words that they touch",
        *[f"6 of 6 {split} entities of heads.h {where}: {missed}" for split in ("dev", "test")],
    ]
