"""A run that keeps the heads of an earlier one begins with their weights, label by label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig

from multitask_bert.config.schema import HeadConfig, ModelConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet
from multitask_bert.model.earlier_heads import keep_heads
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.multitask import MultiTaskModel
from tests.conftest import TINY


def model_of(head: HeadConfig | None = None, **labels: tuple[str, ...]) -> MultiTaskModel:
    """A model with a classification head `label` per task, over these labels."""
    shape = {key: value for key, value in TINY.items() if key != "model_type"}
    head = head or HeadConfig("classification")
    heads = {task: {"label": make_head(head, LabelSet(names))} for task, names in labels.items()}
    return MultiTaskModel(Encoder(AutoModel.from_config(BertConfig(**shape))), heads)


def rows(model: MultiTaskModel, task: str) -> dict[str, torch.Tensor]:
    """Weights and bias of each label's output."""
    (weight,) = (value for key, value in model.head_modules[task].state_dict().items() if key.endswith("weight"))
    (bias,) = (value for key, value in model.head_modules[task].state_dict().items() if key.endswith("bias"))
    names = model.heads[task]["label"].labels.names
    return {label: torch.cat([weight[row], bias[row : row + 1]]) for row, label in enumerate(names)}


@pytest.fixture
def earlier(tmp_path: Path, tokenizer: Any) -> MultiTaskModel:
    torch.manual_seed(1)
    model = model_of(mood=("bad", "good"), topic=("sport", "war"))
    with torch.no_grad():
        for parameter in model.head_modules.parameters():
            parameter.normal_()
    model.save(tmp_path / "model", tokenizer)
    return model


def test_heads_of_the_same_name_keep_their_weights_and_others_are_drawn(
    earlier: MultiTaskModel, tmp_path: Path
) -> None:
    torch.manual_seed(2)
    model = model_of(mood=("bad", "good"), other=("sport", "war"))
    drawn = rows(model, "other")
    told = keep_heads(model, ModelConfig(str(tmp_path / "model"), keep_heads=True))
    assert told == ["mood.label: continues from the earlier run", "other.label: begins anew"]
    assert all(torch.equal(rows(model, "mood")[label], row) for label, row in rows(earlier, "mood").items())
    assert all(torch.equal(rows(model, "other")[label], row) for label, row in drawn.items())


def test_labels_keep_their_own_outputs_when_others_come_or_go(earlier: MultiTaskModel, tmp_path: Path) -> None:
    model = model_of(mood=("awful", "good", "so-so"))
    drawn = rows(model, "mood")
    told = keep_heads(model, ModelConfig(str(tmp_path / "model"), keep_heads=True))
    assert told == ["mood.label: continues from the earlier run; new labels: awful, so-so; labels left out: bad"]
    found = rows(model, "mood")
    assert torch.equal(found["good"], rows(earlier, "mood")["good"])
    assert torch.equal(found["awful"], drawn["awful"])
    assert torch.equal(found["so-so"], drawn["so-so"])


def test_what_cannot_be_kept_is_refused(earlier: MultiTaskModel, tmp_path: Path) -> None:
    config = ModelConfig(str(tmp_path / "model"), keep_heads=True)
    with pytest.raises(InputError, match=r"the run's heads are mood\.label, topic\.label; no head of this run has one"):
        keep_heads(model_of(feeling=("bad", "good")), config)
    with pytest.raises(InputError, match=r"model\.pretrained=owner/name is not the model of a run"):
        keep_heads(model_of(mood=("bad", "good")), ModelConfig("owner/name", keep_heads=True))
    other = model_of(mood=("bad", "good"))
    other.heads["mood"]["label"] = make_head(HeadConfig("multilabel"), LabelSet(("bad", "good")))
    with pytest.raises(
        InputError, match=r"tasks\.mood\.heads\.label is a multilabel head now, and was a classification"
    ):
        keep_heads(other, config)


def test_a_head_is_refused_where_its_texts_are_pooled_in_another_way(earlier: MultiTaskModel, tmp_path: Path) -> None:
    config = ModelConfig(str(tmp_path / "model"), keep_heads=True)
    model = model_of(mood=("bad", "good"))
    model.pooling = "mean"
    with pytest.raises(
        InputError, match=r"model\.pooling=mean: tasks\.mood\.heads\.label learned from texts pooled by "
    ):
        keep_heads(model, config)
    other_way = {"pooler": "mean", "cls": "mean", "mean": "cls"}[earlier.pooling]
    model.heads["mood"]["label"].config.pooling = other_way
    with pytest.raises(
        InputError, match=rf"^tasks\.mood\.heads\.label\.pooling={other_way}: .* set tasks\.mood\.heads"
    ):
        keep_heads(model, config)
    model.heads["mood"]["label"].config.pooling = earlier.pooling
    assert keep_heads(model, config) == ["mood.label: continues from the earlier run"]


def test_a_head_with_layers_of_other_sizes_is_refused_and_one_that_tunes_more_is_kept(
    earlier: MultiTaskModel, tmp_path: Path
) -> None:
    config = ModelConfig(str(tmp_path / "model"), keep_heads=True)
    labels = ("bad", "good")
    with pytest.raises(
        InputError, match=r"tasks\.mood\.heads\.label has layers of other sizes .*hidden_size there: null"
    ):
        keep_heads(model_of(HeadConfig("classification", hidden_size=5), mood=labels), config)
    with pytest.raises(InputError, match="layers of other sizes"):  # and other labels
        keep_heads(model_of(HeadConfig("classification", hidden_size=5), mood=("awful", "good")), config)
    model = model_of(HeadConfig("classification", calibrate=True), mood=labels)
    assert keep_heads(model, config) == ["mood.label: continues from the earlier run"]
    assert all(torch.equal(rows(model, "mood")[label], row) for label, row in rows(earlier, "mood").items())
