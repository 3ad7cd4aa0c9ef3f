"""Reads the embedded synthetic corpora `ner` and `sentiment`, which are generated and stand in no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from multitask_bert.config.schema import HeadConfig, SourceConfig
from multitask_bert.data.samples.corpora import ner_corpus, sentiment_corpus
from multitask_bert.errors import InputError
from multitask_bert.heads import parse_label
from multitask_bert.records import Example


def read_samples(path: Path, source: SourceConfig, heads: Mapping[str, HeadConfig]) -> Iterator[Example]:
    """The examples of the split that is the last part of `path`; no file is read."""
    if source.samples == "ner":
        for number, (words, tags) in enumerate(ner_corpus()[path.name], start=1):
            where = f"samples/ner/{path.name}:{number}"
            labels = {name: parse_label(head, tuple(tags), where) for name, head in heads.items()}
            yield Example(where, " ".join(words), labels, words=tuple(words))
    elif source.samples == "sentiment":
        for number, (text, label) in enumerate(sentiment_corpus()[path.name], start=1):
            where = f"samples/sentiment/{path.name}:{number}"
            yield Example(where, text, {name: parse_label(head, label, where) for name, head in heads.items()})
    else:
        raise InputError(f"source.samples={source.samples}: the embedded corpora are ner and sentiment; name one")
