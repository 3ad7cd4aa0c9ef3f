"""Small good files of every format, and tasks that read them: what many tests of the data room start from."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multitask_bert.config.schema import HeadConfig, SourceConfig, TaskConfig

CONLL = {
    "train": "Asha\tB-PER\nalikuja\tO\n\nDodoma\tB-LOC\n",
    "dev": "Juma\tB-PER\n\nleo\tO\nMoshi\tB-LOC\n",
    "test": "kesho\tO\n",
}
TSV = {
    "train": "id\ttext\tlabel\n1\tsawa\tgood\n2\tvibaya\tbad\n3\tsijui\t\n",
    "dev": "id\ttext\tlabel\n4\tnzuri\tgood\n",
    "test": "id\ttext\tlabel\n5\tmbaya\tbad\n",
}
CSV = {split: content.replace("\t", ",") for split, content in TSV.items()}
JSONL = {
    "train": '{"text": "sawa", "label": "good"}\n{"text": "vibaya", "label": "bad"}\n{"text": "si", "label": null}\n',
    "dev": '{"text": "nzuri", "label": "good"}\n',
    "test": '{"text": "mbaya", "label": "bad"}\n',
}
TOKENS = {
    "train": '{"tokens": ["Asha", "alikuja"], "tags": ["B-PER", "O"]}\n{"tokens": ["Dodoma"], "tags": ["B-LOC"]}\n',
    "dev": '{"tokens": ["Juma"], "tags": ["B-PER"]}\n',
}
ENTITIES = {
    "train": '{"text": "Asha, Moshi.", "entities": [{"start": 0, "end": 4, "label": "PER"}, [6, 11, "LOC"]]}\n',
    "dev": '{"text": "Juma!", "entities": [{"start": 0, "end": 4, "label": "PER"}]}\n',
}


def conllu_word(number: str, form: str, upos: str) -> str:
    return f"{number}\t{form}\t_\t{upos}\t_\t_\t_\t_\t_\t_\n"


CONLLU = {
    "train": "# text = Asha alikuja\n" + conllu_word("1", "Asha", "PROPN") + conllu_word("2", "alikuja", "VERB"),
    "dev": conllu_word("1", "Juma", "PROPN"),
}
QUESTION = {"id": "q1", "question": "Nani alikuja?", "answers": [{"text": "Asha", "answer_start": 0}]}


def squad_file(*questions: Mapping[str, Any], context: str = "Asha alikuja leo.", title: str = "watu") -> str:
    article = {"title": title, "paragraphs": [{"context": context, "qas": list(questions)}]}
    return json.dumps({"version": "1.1", "data": [article, {**article, "title": "miji"}]}, ensure_ascii=False)


SQUAD = {"train": squad_file(QUESTION), "dev": squad_file(QUESTION)}
PARALLEL = {
    "train/seq.in": "Asha alikuja\nDodoma\n",
    "train/seq.out": "B-PER O\nB-LOC\n",
    "train/label": "mtu\nmji\n",
    "dev/seq.in": "Juma\n",
    "dev/seq.out": "B-PER\n",
    "dev/label": "mtu\n",
}


def parquet_file(columns: Mapping[str, Any]) -> bytes:
    import pyarrow
    from pyarrow.parquet import write_table

    file = io.BytesIO()
    write_table(pyarrow.table(dict(columns)), file)
    return file.getvalue()


PARQUET = {
    "train": parquet_file({"text": ["sawa", "vibaya"], "label": ["good", "bad"]}),
    "dev": parquet_file({"text": ["nzuri"], "label": ["good"]}),
}
NER = {"entities": HeadConfig(type="tagging")}
MOOD = {"mood": HeadConfig(type="classification", column="label")}
GOOD_FILES: Mapping[str, Mapping[str, str | bytes]] = {
    "conll": CONLL, "csv": CSV, "tsv": TSV, "jsonl": JSONL, "tokens": TOKENS, "entities": ENTITIES,
    "conllu": CONLLU, "squad": SQUAD, "parallel": PARALLEL, "parquet": PARQUET,
}  # fmt: skip
HEADS: Mapping[str, Mapping[str, HeadConfig]] = {
    "conll": NER, "csv": MOOD, "tsv": MOOD, "jsonl": MOOD, "parquet": MOOD,
    "tokens": {"entities": HeadConfig(type="tagging", column="tags")},
    "entities": {"entities": HeadConfig(type="tagging", column="entities")},
    "conllu": {"pos": HeadConfig(type="tagging", scheme="plain", column="upos")},
    "squad": {"topic": HeadConfig(type="classification", column="title")},
    "parallel": {
        "slots": HeadConfig(type="tagging", column="seq.out"),
        "intent": HeadConfig(type="classification", column="label"),
    },
}  # fmt: skip
SOURCES: Mapping[str, Mapping[str, Any]] = {
    "conll": {}, "conllu": {}, "squad": {}, "parallel": {"words": "seq.in"},
    "tokens": {"format": "jsonl", "words": "tokens"}, "entities": {"format": "jsonl", "text": "text"},
}  # fmt: skip


def make_task(
    folder: Path,
    kind: str,
    files: Mapping[str, str | bytes] | None = None,
    *,
    heads: Mapping[str, HeadConfig] | None = None,
    **source: Any,
) -> TaskConfig:
    """A task whose files lie in `folder`; `files` are its splits (or parts of them, `train/seq.in`), by name."""
    files = GOOD_FILES[kind] if files is None else files
    named = {}
    for name, content in files.items():
        write(folder, name, content)
        split, slash, _ = name.partition("/")
        named[split] = split if slash else f"{name}.txt"
    config = {"format": kind, "folder": str(folder), **named, **SOURCES.get(kind, {"text": "text"}), **source}
    return TaskConfig(SourceConfig(**config), dict(HEADS[kind] if heads is None else heads))


def write(folder: Path, name: str, content: str | bytes | None) -> None:
    """The file of a split, or of a part of it; None removes it."""
    path = folder / (name if "/" in name else f"{name}.txt")
    if content is None:
        path.unlink()
        return
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
