"""Long texts in windows, through model, training, evaluation and prediction, each beside another way to the same."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModel, BertConfig

from multitask_bert.config.schema import BatchingConfig, ExperimentConfig, HeadConfig, SourceConfig, TaskConfig
from multitask_bert.data.collation import collate
from multitask_bert.data.encoding import encode_examples
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, check_heads, make_head, window_strides
from multitask_bert.inference.predictor import Predictor
from multitask_bert.labels import LabelSet
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import EncodedExample, Example
from multitask_bert.training.output import RunOutput
from multitask_bert.training.trainer import Trainer
from tests.conftest import TINY
from tests.training.recorded import recorded

MakeConfig = Callable[..., ExperimentConfig]
SHAPE = {key: value for key, value in TINY.items() if key != "model_type"}
MOODS, TAGS = LabelSet(("bad", "good", "so-so")), LabelSet(("O", "B-PER", "I-PER"))
HEADS: dict[str, Head] = {
    "mood": make_head(HeadConfig("classification"), MOODS),
    "topics": make_head(HeadConfig("multilabel"), LabelSet(("a", "b"))),
    "score": make_head(HeadConfig("regression"), LabelSet(())),
    "tags": make_head(HeadConfig("tagging"), TAGS),
}
LABELS = {"mood": "good", "topics": {"a": True, "b": False}, "score": 0.5}
POOLINGS = ["pooler", "cls", "mean", "max"]
FILLERS = ("na", "siku", "moja", "tulienda", "sokoni", "kununua", "samaki", "leo", "kesho", "jana")
LENGTH, STRIDE = 16, 4


def model_with(pooling: str) -> MultiTaskModel:
    torch.manual_seed(3)
    encoder = Encoder(AutoModel.from_config(BertConfig(**SHAPE)))
    model = MultiTaskModel(encoder, {"t": HEADS}, pooling=pooling, max_length=LENGTH, input_types={"t": "text"},
                           window_strides={"t": STRIDE}).eval()  # fmt: skip
    with torch.no_grad():
        for weight in model.head_modules.parameters():
            weight.normal_(std=2.0)  # so that predictions differ from text to text
        encoder.backbone.embeddings.word_embeddings.weight.mul_(20.0)
    return model


def encode(text: str, tokenizer: Any, **options: Any) -> EncodedExample:
    words = tuple(text.split(" "))
    labels = {**LABELS, "tags": tuple("O" if word in FILLERS else "B-PER" for word in words)}
    example = Example("a:1", text, labels, words=words)
    (encoded,) = encode_examples([example], HEADS, tokenizer, max_length=LENGTH, **{"window_stride": STRIDE, **options})
    return encoded


def text_of(num_words: int, seed: int = 0) -> str:
    return " ".join(random.Random(seed).choices(FILLERS, k=num_words))


def alone(encoded: EncodedExample) -> list[EncodedExample]:
    """Each window as an example of its own, in which the words are read that the whole text reads there."""
    found = []
    for begin, end in itertools.pairwise((*encoded.sequence_starts, len(encoded.input_ids))):
        tags = encoded.targets["tags"]
        own = [n for n, index in enumerate(tags.token_indices) if begin <= index < end]
        indices = tuple(tags.token_indices[n] - begin for n in own)
        targets = dict(encoded.targets)
        targets["tags"] = replace(tags, token_indices=indices, values=tuple(tags.values[n] for n in own))
        found.append(replace(
            encoded, input_ids=encoded.input_ids[begin:end], token_type_ids=encoded.token_type_ids[begin:end],
            sequence_starts=(0,), targets=targets,
        ))  # fmt: skip
    return found


def run(model: MultiTaskModel, examples: Sequence[EncodedExample], layout: str = "padded", **options: Any) -> Any:
    return model(collate([("t", example) for example in examples], pad_id=0, layout=layout), **options)


def logits(outputs: Any) -> dict[str, Tensor]:
    return {head: output.logits_ML for (_, head), output in outputs.items()}


@pytest.mark.parametrize("pooling", POOLINGS)
@torch.no_grad()
def test_logits_of_a_long_text_are_those_of_its_windows_combined_by_hand(tokenizer: Any, pooling: str) -> None:
    """Heads over texts are linear here, so the mean of the windows' vectors has the mean of the windows' logits."""
    model, encoded = model_with(pooling), encode(text_of(70), tokenizer)
    found = logits(run(model, [encoded]))
    by_window = [logits(run(model, [window])) for window in alone(encoded)]
    assert len(by_window) > 4
    for head in ("mood", "topics", "score"):
        torch.testing.assert_close(found[head], torch.stack([one[head] for one in by_window]).mean(0))
        assert len(found[head]) == 1
    torch.testing.assert_close(found["tags"], torch.cat([one["tags"] for one in by_window]))
    assert len(found["tags"]) == 70


@pytest.mark.parametrize("pooling", POOLINGS)
@torch.no_grad()
def test_long_and_short_texts_in_a_batch_have_their_own_logits_in_both_layouts(tokenizer: Any, pooling: str) -> None:
    model = model_with(pooling)
    examples = [encode(text_of(number, number), tokenizer) for number in (3, 60, 1, 25, 8)]
    by_example = [logits(run(model, [one])) for one in examples]
    for layout in ("padded", "packed"):
        found = logits(run(model, examples, layout))
        for head, expected in found.items():
            torch.testing.assert_close(expected, torch.cat([one[head] for one in by_example]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", POOLINGS)
@torch.no_grad()
def test_windows_of_a_long_text_can_run_a_few_at_a_time(tokenizer: Any, pooling: str) -> None:
    model, examples = model_with(pooling), [encode(text_of(number), tokenizer) for number in (90, 4)]
    whole = logits(run(model, examples))
    for max_tokens in (1, 40, 100):
        for head, expected in logits(run(model, examples, max_tokens=max_tokens)).items():
            torch.testing.assert_close(expected, whole[head], atol=1e-5, rtol=1e-4)


def test_a_long_text_counts_once_in_each_loss_and_each_word_once(tokenizer: Any) -> None:
    model, encoded = model_with("cls"), encode(text_of(70) + " Amina Juma", tokenizer)
    outputs = run(model, [encoded])
    counts = {head: output.count for (_, head), output in outputs.items()}
    assert counts == {"mood": 1, "topics": 2, "score": 1, "tags": 72}
    mean_1L = torch.stack([logits(run(model, [window]))["mood"] for window in alone(encoded)]).mean(0)
    torch.testing.assert_close(outputs["t", "mood"].loss_sum, cross_entropy(mean_1L, torch.tensor([1])))
    per_word = [run(model, [window])["t", "tags"].loss_sum for window in alone(encoded)]
    torch.testing.assert_close(outputs["t", "tags"].loss_sum, torch.stack(per_word).sum())


@torch.no_grad()
def test_predictions_for_a_long_text_are_those_of_its_logits(tokenizer: Any) -> None:
    model = model_with("mean")
    long = text_of(70)
    records = Predictor(model, tokenizer, device="cpu", max_tokens=64).predict([long, "leo", text_of(9)])
    for record in records:
        found = record["predictions"]["t"]
        encoded = encode(record["text"], tokenizer)
        expected = logits(run(model, [encoded]))
        probabilities = expected["mood"][0].softmax(-1).tolist()
        assert list(found["mood"]["probabilities"].values()) == pytest.approx(probabilities, abs=2e-5)
        assert found["score"]["value"] == pytest.approx(float(expected["score"]), abs=1e-4)
        assert found["tags"]["tags"] == [TAGS.names[best] for best in expected["tags"].argmax(-1)]
        assert len(found["tags"]["tags"]) == len(record["text"].split(" "))
        assert "truncated" not in record


# Whole runs


def documents(number: int, seed: int, num_words: tuple[int, int]) -> list[list[tuple[str, str]]]:
    """Invented texts, some words of which are names of two words."""
    draw = random.Random(seed)
    texts = []
    for _ in range(number):
        words: list[tuple[str, str]] = []
        while len(words) < draw.randint(*num_words):
            words.append((draw.choice(FILLERS), "O"))
            if draw.random() < 0.3:
                words += [
                    (draw.choice(("Amina", "Juma", "Neema")), "B-PER"),
                    (draw.choice(("Bakari", "Omari")), "I-PER"),
                ]
        texts.append(words)
    return texts


DEV = documents(12, len("dev"), (30, 60))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """long, short: names in CoNLL files, of 30 to 60 words or 1 to 4; mood: texts with the mood in their last words."""
    root = tmp_path_factory.mktemp("long")
    for name, num_words in (("long", (30, 60)), ("short", (1, 4))):
        for split, number in (("train", 60), ("dev", 12)):
            sentences = documents(number, len(split), num_words)
            lines = "\n".join("".join(f"{word} {tag}\n" for word, tag in words) for words in sentences)
            (root / f"{name}.{split}.txt").write_text(lines, encoding="utf-8")
    for split, number in (("train", 64), ("dev", 24)):
        rows = [f"{text_of(30, n)}{(' bora', ' hovyo')[n % 2] * 5}\t{('good', 'bad')[n % 2]}" for n in range(number)]
        (root / f"mood.{split}.tsv").write_text("\n".join(["text\tmood", *rows]), encoding="utf-8")
    return root


def with_tasks(config: ExperimentConfig, folder: Path, *names: str) -> ExperimentConfig:
    def source(kind: str, name: str, end: str, **fields: Any) -> SourceConfig:
        files = {"train": f"{name}.train.{end}", "dev": f"{name}.dev.{end}"}
        return SourceConfig(kind, folder=str(folder), test_fraction=0, **files, **fields)

    tasks = {
        name: TaskConfig(source("conll", name, "txt"), {"names": HeadConfig("tagging")}) for name in ("long", "short")
    }
    tasks["mood"] = TaskConfig(
        source("tsv", "mood", "tsv", text="text"), {"mood": HeadConfig("classification", column="mood")}
    )
    return replace(config, tasks={name: tasks[name] for name in names})


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_a_run_in_windows_reads_long_texts_whole_and_its_model_predicts_as_it_was_scored(
    make_config: MakeConfig, folder: Path, tmp_path: Path, tokenizer: Any, layout: str
) -> None:
    config = make_config(max_length=LENGTH, windows=True, layout=layout, num_epochs=8, patience=None)
    config = with_tasks(config, folder, "long", "mood")
    config = replace(config, optimizer=replace(config.optimizer, lr=5e-3), model=replace(config.model, pooling="mean"))
    trainer = Trainer.from_config(config, RunOutput(tmp_path))
    assert [report.num_cut for report in trainer.output.data_reports] == [0] * 4
    trainer.train()
    scores = trainer.evaluate()
    trainer.close()
    assert scores["eval_long_names_f1"] > 0.95
    assert scores["eval_mood_mood_accuracy"] > 0.95
    trainer.model.save(tmp_path / "model", trainer.tokenizer)
    predictor = Predictor.load(tmp_path / "model", device="cpu")
    for index, found in enumerate(predictor.predict([{"words": [w for w, _ in words]} for words in DEV])):
        tags = found["predictions"]["long"]["names"]["tags"]
        assert tuple(tags) == trainer.results["eval"]["long"].predictions["names"][index].value
    # A name at every place of a long text, so also across the border of two windows.
    for place in range(0, 40, 3):
        words = [*text_of(place, 7).split(), "Amina", "Omari", *text_of(40 - place, 8).split()]
        (found,) = predictor.predict([" ".join(words)])
        (name,) = found["predictions"]["long"]["names"]["entities"]
        assert found["text"][name["start"] : name["end"]] == name["text"] == "Amina Omari"
        assert found["predictions"]["mood"]["mood"]["label"] in ("good", "bad")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("update", ["task", "round"])
def test_a_run_on_short_texts_is_the_same_to_the_bit_with_windows_on_and_off(
    make_config: MakeConfig, tmp_path: Path, layout: str, update: str
) -> None:
    traces = []
    for windows in (True, False):
        config = make_config(windows=windows, layout=layout, update=update, num_epochs=1)
        trainer, recorder = recorded(config, tmp_path / str(windows))
        trainer.train()
        trainer.close()
        traces.append([recorder.values(key) for key in ("train_loss", "eval_loss", "eval_people_entities_f1")])
        assert trainer.model.window_strides == ({"mood": 8, "people": 8} if windows else {})
    assert traces[0] == traces[1]
    assert len(traces[0][0]) > 4


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["padded", "packed"])
def test_tasks_with_and_without_windows_share_a_run(
    make_config: MakeConfig, folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: str
) -> None:
    config = make_config(max_length=LENGTH, layout=layout, update="round", max_tokens=64, num_epochs=1)
    config = with_tasks(config, folder, "long", "short", "mood")
    config.tasks["long"] = replace(config.tasks["long"], windows=True)
    with caplog.at_level(logging.WARNING):
        trainer = Trainer.from_config(config, RunOutput(tmp_path))
    assert "88 texts were truncated to batching.max_length=16 tokens: batching.windows=true reads" in caplog.text
    assert {report.task: report.num_cut for report in trainer.output.data_reports if report.split == "train"} == {
        "long": 0, "short": 0, "mood": 64,
    }  # fmt: skip
    trainer.train()
    trainer.evaluate()
    assert {one.is_in_windows for one in trainer.eval_datasets["long"]} == {True}  # type: ignore[attr-defined]
    predictions = trainer.results["eval"]["long"].predictions["names"]
    assert [len(found.value) for found in predictions] == [len(words) for words in DEV]
    assert trainer.model.window_strides == {"long": 4}
    trainer.close()


# What is refused, and which tasks read windows


def config_of(*types: str, windows: bool | None = None, batching: BatchingConfig | None = None) -> ExperimentConfig:
    task = TaskConfig(SourceConfig("jsonl", train="a"), {name: HeadConfig(name) for name in types}, windows=windows)
    return ExperimentConfig(tasks={"t": task}, batching=batching or BatchingConfig())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            config_of("choice", windows=True),
            r"tasks\.t\.windows=true: tasks\.t\.heads\.choice \(choice\) cannot .* tasks\.t\.windows=false$",
        ),
        (
            config_of("choice", batching=BatchingConfig(windows=True)),
            r"batching\.windows=true: tasks\.t\.heads\.choice ",
        ),
        (config_of("span", windows=False), r"tasks\.t\.windows=false: span \(span\) always reads windows; remove it$"),
        (
            config_of("span", batching=BatchingConfig(max_length=64)),
            r"tasks\.t\.heads\.span\.stride=64: must be below batching\.max_length=64$",
        ),
    ],
)
def test_windows_that_cannot_be_are_refused_by_the_name_of_the_field(config: ExperimentConfig, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        check_heads(config)


@pytest.mark.parametrize(
    ("types", "windows", "batching", "expected"),
    [
        (("classification", "tagging"), None, BatchingConfig(), {}),
        (("classification", "tagging"), None, BatchingConfig(windows=True), {"t": 32}),
        (("regression",), True, BatchingConfig(stride=5), {"t": 5}),
        (("multilabel",), False, BatchingConfig(windows=True), {}),
        (("span",), None, BatchingConfig(windows=True), {}),
        (("choice",), False, BatchingConfig(windows=True), {}),
    ],
)
def test_a_task_reads_windows_where_it_or_batching_says_so(
    types: tuple[str, ...], windows: bool | None, batching: BatchingConfig, expected: dict[str, int]
) -> None:
    config = config_of(*types, windows=windows, batching=batching)
    check_heads(config)
    assert window_strides(config) == expected
