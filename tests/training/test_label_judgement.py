"""What models make of the labels of train: probabilities by head type, folds, and label errors that are found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from multitask_bert.config.schema import ExperimentConfig, HeadConfig
from multitask_bert.data.splits import as_split
from multitask_bert.data.splitting import deal_into_folds
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import UNKNOWN, Example, Target
from multitask_bert.training.label_judgement import judge, judge_out_of_sample
from multitask_bert.training.trainer import Trainer

MakeConfig = Callable[..., ExperimentConfig]


def probabilities(head: Head, logits_ML: torch.Tensor, *values: object) -> list[float]:
    target = Target(tuple(range(len(values))), values, num_known=1)
    found = head.label_probabilities(logits_ML.numpy(), target)
    assert found is not None
    return [float(value) for value in found]


def test_label_probabilities_are_torchs_softmax_of_each_given_label_and_nan_where_it_is_missing() -> None:
    torch.manual_seed(0)
    logits_ML = torch.randn(3, 3)
    softmax_ML = logits_ML.softmax(-1)
    labels = LabelSet(("O", "B-X", "I-X"))
    tagging, classes = make_head(HeadConfig("tagging"), labels), make_head(HeadConfig("classification"), labels)
    found = probabilities(tagging, logits_ML, 2, UNKNOWN, 0)
    assert found[::2] == pytest.approx([float(softmax_ML[0, 2]), float(softmax_ML[2, 0])])
    assert np.isnan(found[1])
    assert probabilities(classes, logits_ML[:1], 1) == pytest.approx([float(softmax_ML[0, 1])])


def test_the_probability_of_a_choice_is_among_the_choices_of_its_example() -> None:
    head = make_head(HeadConfig("choice"), LabelSet(()))
    logits_ML = torch.tensor([[1.0], [3.0], [0.5]])
    assert probabilities(head, logits_ML, 0, 1, 0) == pytest.approx([float(logits_ML[:, 0].softmax(0)[1])])
    assert np.isnan(probabilities(head, logits_ML, UNKNOWN, UNKNOWN, UNKNOWN)).all()


def test_each_label_of_a_multilabel_head_has_the_probability_of_its_own_cell() -> None:
    head = make_head(HeadConfig("multilabel", column="x"), LabelSet(("a", "b", "c")))
    logits_ML = torch.tensor([[2.0, -1.0, 0.3]])
    found = probabilities(head, logits_ML, (1.0, 0.0, float("nan")))
    assert found[:2] == pytest.approx([float(torch.tensor(2.0).sigmoid()), 1 - float(torch.tensor(-1.0).sigmoid())])
    assert np.isnan(found[2])


@pytest.mark.parametrize("head_type", ["regression", "span"])
def test_numbers_and_answers_have_no_probabilities(head_type: str) -> None:
    head = make_head(HeadConfig(head_type), LabelSet(("answer",) if head_type == "span" else ()))
    assert head.label_probabilities(np.zeros((1, 1)), Target((0,), (0.5,), num_known=1)) is None


def test_folds_spread_each_class_evenly_and_never_divide_a_text() -> None:
    labels = ["good"] * 12 + ["bad"] * 6
    examples = [Example(f"t:{n}", f"text {n}", {"h": label}) for n, label in enumerate(labels)]
    folds = deal_into_folds([*examples, *examples], 3, seed=1, purpose="t")
    assert folds[:18] == folds[18:]
    for fold in range(3):
        of_fold = [label for label, other in zip(labels, folds, strict=False) if other == fold]
        assert (of_fold.count("good"), of_fold.count("bad")) == (4, 2)
    assert folds != deal_into_folds([*examples, *examples], 3, seed=2, purpose="t")


def test_more_folds_than_texts_are_refused() -> None:
    examples = [Example("t:1", "Text", {"h": "a"}), Example("t:2", "text", {"h": "a"})]
    with pytest.raises(InputError, match=r"diagnose\.folds=2: task t has only 1 different training texts"):
        deal_into_folds(examples, 2, seed=1, purpose="t")


def test_every_label_is_judged_once_by_a_model_that_was_not_trained_on_its_text(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on: list[dict[str, set[str]]] = []

    def train(trainer: Trainer) -> None:
        trained_on.append(
            {task: {one.text for one in as_split(data).examples()} for task, data in trainer.train_datasets.items()}
        )

    monkeypatch.setattr(Trainer, "train", train)
    judged_with: list[tuple[int, str, set[str]]] = []

    def judge_and_note(trainer: Trainer, task: str, split: object) -> object:
        found = judge(trainer, task, split)  # type: ignore[arg-type]
        texts = {one.example.text for by_index in found.values() for one in by_index.values()}
        judged_with.append((len(trained_on) - 1, task, texts))
        return found

    monkeypatch.setattr("multitask_bert.training.label_judgement.judge", judge_and_note)
    judged = judge_out_of_sample(make_config(), 3, lambda line: None)
    assert {key: len(labels) for key, labels in judged.items()} == {
        ("mood", "polarity"): 30,
        ("people", "entities"): 40,
    }
    assert len(judged_with) == 6
    for number, task, texts in judged_with:
        assert texts
        assert texts.isdisjoint(trained_on[number][task])


def test_a_labels_lowest_probability_names_its_word(make_config: MakeConfig) -> None:
    trainer = Trainer.from_config(make_config("people"))
    head = trainer.model.heads["people"]["entities"]
    with torch.no_grad():  # every word is O, for the model
        linear = trainer.model.head_modules["people"]["entities"][-1]  # type: ignore[index]
        linear.weight.zero_()
        linear.bias.copy_(torch.tensor([4.0 if name == "O" else 0.0 for name in head.labels.names]))
    (first, *_) = judge(trainer, "people", as_split(trainer.train_datasets["people"]))["entities"].values()
    num_others = len(head.labels) - 1
    assert first.probability == pytest.approx(1 / (np.exp(4.0) + num_others))
    assert isinstance(first.lowest, int)
    assert first.gold[first.lowest] == "B-PER"
    assert set(first.predicted) == {"O"}


@pytest.mark.slow
def test_flipped_labels_are_the_first_suspects(make_config: MakeConfig, data_root: Path, tmp_path: Path) -> None:
    lines = (data_root / "mood" / "train.tsv").read_text(encoding="utf-8").splitlines()
    for split in ("dev", "test", "train"):
        (tmp_path / "mood").mkdir(exist_ok=True)
        source = data_root / "mood" / f"{split}.tsv"
        (tmp_path / "mood" / f"{split}.tsv").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    flipped = {5, 16}
    other = {"good": "bad", "bad": "good"}
    cells = [line.split("\t") for line in lines]
    for index in flipped:
        cells[index][1] = other[cells[index][1]]
    (tmp_path / "mood" / "train.tsv").write_text("\n".join("\t".join(row) for row in cells), encoding="utf-8")
    config = make_config("mood", num_epochs=40)
    config.data_root, config.optimizer.lr = str(tmp_path), 3e-3
    (labels,) = judge_out_of_sample(config, 3, lambda line: None).values()
    ranked = sorted(labels, key=lambda one: one.probability)
    assert {int(one.example.where.rpartition(":")[2]) - 1 for one in ranked[:2]} == flipped
