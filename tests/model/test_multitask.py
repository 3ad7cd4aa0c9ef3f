"""The model beside the Hugging Face head classes, each encoder family beside itself alone, and saved beside loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, BertConfig, BertForSequenceClassification, BertForTokenClassification

from multitask_bert.config.schema import HeadConfig
from multitask_bert.data.collation import collate
from multitask_bert.data.encoding import encode_examples
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.multitask import MultiTaskModel, pool_texts
from multitask_bert.records import Batch, EncodedExample, Example
from multitask_bert.utils.files import CHECKSUMS
from tests.damaging import flip_a_bit
from tests.waiting import CountReads

SIZES = {
    "vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {"pad_token_id": 0, "type_vocab_size": 1},
    "xlm-roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "electra": {"embedding_size": 16},
    "distilbert": {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 2},
    "modernbert": {"global_attn_every_n_layers": 2, "local_attention": 8, "pad_token_id": 0},
    "deberta-v2": {},
}
POLARITY = make_head(HeadConfig("classification"), LabelSet(("bad", "good", "so-so")))
ENTITIES = make_head(HeadConfig("tagging"), LabelSet(("O", "B-PER", "I-PER")))
TEXTS = [("Amina anaishi Arusha", "good"), ("hapana", "bad"), ("siku moja tulienda sokoni kununua samaki", "so-so")]
SENTENCES = [
    (("Amina", "anaishi", "Dar-es-Salaam"), ("B-PER", "O", "O")),
    (("Ndiyo",), ("O",)),
    (("Bi", "Neema", "Mwakyusa", "alisema"), ("O", "B-PER", "I-PER", "O")),
]


def text_examples(tokenizer: Any, heads: dict[str, Head]) -> list[EncodedExample]:
    examples = [Example("here", text, dict.fromkeys(heads, label)) for text, label in TEXTS]
    return encode_examples(examples, heads, tokenizer, max_length=32)


def word_examples(tokenizer: Any, heads: dict[str, Head]) -> list[EncodedExample]:
    examples = [Example("here", " ".join(w), dict.fromkeys(heads, tags), words=w) for w, tags in SENTENCES]
    return encode_examples(examples, heads, tokenizer, max_length=32)


def batch_of(task: str, examples: Sequence[EncodedExample], pad_id: int = 0) -> Batch:
    return collate([(task, example) for example in examples], pad_id=pad_id)


def model_over(backbone: Any, heads: dict[str, dict[str, Head]], **options: Any) -> MultiTaskModel:
    return MultiTaskModel(Encoder(backbone), heads, **options)


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: weight.grad for name, weight in module.named_parameters() if weight.grad is not None}


def test_one_classification_head_equals_bert_for_sequence_classification(tokenizer: Any) -> None:
    theirs = BertForSequenceClassification(BertConfig(**SIZES, num_labels=3)).eval()
    backbone = AutoModel.from_config(BertConfig(**SIZES))
    backbone.load_state_dict(theirs.bert.state_dict())
    ours = model_over(backbone, {"mood": {"polarity": POLARITY}}).eval()
    ours.head_modules["mood"]["polarity"][-1].load_state_dict(theirs.classifier.state_dict())  # type: ignore[index]
    batch = batch_of("mood", text_examples(tokenizer, {"polarity": POLARITY}))

    output = ours(batch)["mood", "polarity"]
    (output.loss_sum / output.count).backward()
    labels = torch.tensor([1, 0, 2])
    expected = theirs(input_ids=batch.input_ids_BS, attention_mask=(batch.sequence_BS >= 0).long(), labels=labels)
    expected.loss.backward()

    torch.testing.assert_close(output.logits_ML, expected.logits, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output.loss_sum / output.count, expected.loss)
    assert_same_gradients(ours, gradients(theirs.bert), gradients(theirs.classifier))


def test_one_tagging_head_equals_bert_for_token_classification(tokenizer: Any) -> None:
    theirs = BertForTokenClassification(BertConfig(**SIZES, num_labels=3)).eval()
    backbone = AutoModel.from_config(BertConfig(**SIZES))
    backbone.load_state_dict(theirs.bert.state_dict(), strict=False)  # theirs has no pooler
    ours = model_over(backbone, {"people": {"entities": ENTITIES}}).eval()
    ours.head_modules["people"]["entities"][-1].load_state_dict(theirs.classifier.state_dict())  # type: ignore[index]
    examples = word_examples(tokenizer, {"entities": ENTITIES})
    batch = batch_of("people", examples)
    labels_BS = torch.full_like(batch.input_ids_BS, -100)
    for row, (example, (words, tags)) in enumerate(zip(examples, SENTENCES, strict=True)):
        places = tokenizer(list(words), is_split_into_words=True).word_ids()
        for word, tag in enumerate(tags):
            labels_BS[row, places.index(word)] = ("O", "B-PER", "I-PER").index(tag)
        assert len(places) == len(example.input_ids)

    output = ours(batch)["people", "entities"]
    (output.loss_sum / output.count).backward()
    mask_BS = (batch.sequence_BS >= 0).long()
    expected = theirs(input_ids=batch.input_ids_BS, attention_mask=mask_BS, labels=labels_BS)
    expected.loss.backward()

    torch.testing.assert_close(output.logits_ML, expected.logits[labels_BS != -100], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(output.loss_sum / output.count, expected.loss)
    assert_same_gradients(ours, gradients(theirs.bert), gradients(theirs.classifier))


def assert_same_gradients(ours: MultiTaskModel, encoder: dict[str, Tensor], head: dict[str, Tensor]) -> None:
    found = gradients(ours.encoder.backbone)
    assert found.keys() == encoder.keys()
    for name, gradient in encoder.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4, msg=name)
    (linear,) = (module for module in ours.head_modules.modules() if isinstance(module, torch.nn.Linear))
    for name, gradient in head.items():
        torch.testing.assert_close(linear.get_parameter(name).grad, gradient, atol=1e-6, rtol=1e-4, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_example_beside_longer_ones_equals_the_example_alone(family: str, tokenizer: Any) -> None:
    torch.manual_seed(0)
    heads = {"entities": ENTITIES}
    model = model_over(AutoModel.from_config(AutoConfig.for_model(family, **SIZES, **FAMILIES[family])), {"t": heads})
    model.eval()
    examples = word_examples(tokenizer, heads)
    together = model(batch_of("t", examples))["t", "entities"].logits_ML
    alone = torch.cat([model(batch_of("t", [example]))["t", "entities"].logits_ML for example in examples])
    torch.testing.assert_close(together, alone, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean", "max"])
def test_pooled_text_equals_pooling_by_hand(pooling: str, tokenizer: Any) -> None:
    head = make_head(HeadConfig("classification", pooling=pooling), POLARITY.labels)
    backbone = AutoModel.from_config(BertConfig(**SIZES))
    model = model_over(backbone, {"mood": {"polarity": head}}).eval()
    examples = text_examples(tokenizer, {"polarity": head})
    by_hand = []
    for example in examples:
        output = backbone(input_ids=torch.tensor([example.input_ids]))
        hidden_SH = output.last_hidden_state[0]
        by_hand.append(
            {
                "pooler": output.pooler_output[0],
                "cls": hidden_SH[0],
                "mean": hidden_SH.mean(0),
                "max": hidden_SH.max(0).values,
            }[pooling]
        )
    linear = model.head_modules["mood"]["polarity"]  # type: ignore[index]
    logits_ML = model(batch_of("mood", examples))["mood", "polarity"].logits_ML
    torch.testing.assert_close(logits_ML, linear(torch.stack(by_hand)), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_pooling_asks_for_no_value_and_never_sees_padding(pooling: str, tokenizer: Any) -> None:
    batch = batch_of("mood", text_examples(tokenizer, {"polarity": POLARITY}))
    owner_BS = batch.sequence_BS
    assert bool((owner_BS < 0).any())
    hidden_BSH = torch.randn(*owner_BS.shape, 4)
    hidden_BSH[owner_BS < 0] = torch.nan
    hidden_BSH.requires_grad_()
    with CountReads() as counter:
        pooled_NH = pool_texts(hidden_BSH, batch, pooling)
        pooled_NH.sum().backward()
    assert counter.num_reads == 0
    for number, found in enumerate(pooled_NH):
        own = hidden_BSH[owner_BS == number]
        torch.testing.assert_close(found, own.mean(0) if pooling == "mean" else own.max(0).values)
    assert hidden_BSH.grad is not None
    assert bool((hidden_BSH.grad[owner_BS < 0] == 0).all())


def test_a_head_reads_the_same_beside_one_that_pools_the_whole_text(tokenizer: Any) -> None:
    heads = {"first": POLARITY, "second": make_head(HeadConfig("classification", pooling="mean"), POLARITY.labels)}
    model = model_over(AutoModel.from_config(BertConfig(**SIZES)), {"mood": heads}).eval()
    both = model(batch_of("mood", text_examples(tokenizer, heads)))
    for name, head in heads.items():
        alone = model(batch_of("mood", text_examples(tokenizer, {name: head})))
        torch.testing.assert_close(both["mood", name].logits_ML, alone["mood", name].logits_ML, atol=1e-6, rtol=1e-5)


def test_two_heads_on_one_text_cost_one_pass_of_the_encoder(tokenizer: Any) -> None:
    heads = {"first": POLARITY, "second": make_head(HeadConfig("classification", pooling="mean"), POLARITY.labels)}
    model = model_over(AutoModel.from_config(BertConfig(**SIZES)), {"mood": heads})
    num_passes = 0

    def count(*_: Any) -> None:
        nonlocal num_passes
        num_passes += 1

    model.encoder.backbone.register_forward_hook(count)
    outputs = model(batch_of("mood", text_examples(tokenizer, heads)))
    assert (set(outputs), num_passes) == ({("mood", "first"), ("mood", "second")}, 1)


def test_a_missing_label_adds_nothing_to_the_loss(tokenizer: Any) -> None:
    heads: dict[str, Head] = {"polarity": POLARITY}
    model = model_over(AutoModel.from_config(BertConfig(**SIZES)), {"mood": heads}).eval()
    labelled, other = text_examples(tokenizer, heads)[:2]
    unlabelled = encode_examples([Example("here", "hapana", {"polarity": None})], heads, tokenizer, max_length=32)[0]
    assert unlabelled.input_ids == other.input_ids
    output = model(batch_of("mood", [labelled, unlabelled]))["mood", "polarity"]
    alone = model(batch_of("mood", [labelled]))["mood", "polarity"]
    assert (output.count, alone.count) == (1, 1)
    torch.testing.assert_close(output.loss_sum, alone.loss_sum)


@pytest.mark.parametrize("family", FAMILIES)
def test_saved_model_loads_with_equal_logits_labels_and_tokenizer(family: str, tokenizer: Any, tmp_path: Path) -> None:
    heads: dict[str, dict[str, Head]] = {"mood": {"polarity": POLARITY}, "people": {"entities": ENTITIES}}
    model = model_over(
        AutoModel.from_config(AutoConfig.for_model(family, **SIZES, **FAMILIES[family])), heads, pooling="mean"
    ).eval()
    model.save(tmp_path / "model", tokenizer)
    loaded, loaded_tokenizer = MultiTaskModel.load(tmp_path / "model")
    loaded.eval()
    batches = (
        batch_of("mood", text_examples(loaded_tokenizer, loaded.heads["mood"])),
        batch_of("people", word_examples(loaded_tokenizer, loaded.heads["people"])),
    )
    for batch in batches:
        for key, output in model(batch).items():
            assert torch.equal(output.logits_ML, loaded(batch)[key].logits_ML)
    assert loaded.heads["mood"]["polarity"].labels == POLARITY.labels
    assert loaded.encoder.config.to_dict() == model.encoder.config.to_dict()
    assert not list(tmp_path.glob(".*"))  # nothing half-written stays behind


def test_saving_again_replaces_the_whole_folder(tokenizer: Any, tmp_path: Path) -> None:
    model = model_over(AutoModel.from_config(BertConfig(**SIZES)), {"mood": {"polarity": POLARITY}})
    model.save(tmp_path / "model", tokenizer)
    (tmp_path / "model" / "stray.txt").touch()
    model.save(tmp_path / "model", tokenizer)
    assert not (tmp_path / "model" / "stray.txt").exists()


@pytest.mark.parametrize("has_checksums", [True, False])
@pytest.mark.parametrize("name", ["model.safetensors", "multitask.json", "encoder_config.json"])
@pytest.mark.parametrize("content", [None, b"", b'{"a": 1'])
def test_a_damaged_model_folder_is_named(
    name: str, content: bytes | None, has_checksums: bool, tokenizer: Any, tmp_path: Path
) -> None:
    model = model_over(AutoModel.from_config(BertConfig(**SIZES)), {"mood": {"polarity": POLARITY}})
    folder = tmp_path / "model"
    model.save(folder, tokenizer)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    if not has_checksums:
        (folder / CHECKSUMS).unlink()
    with pytest.raises(InputError, match=f"{folder}.*no complete model of a run"):
        MultiTaskModel.load(folder)


def test_a_weight_that_is_another_is_found_by_the_checksums(tokenizer: Any, tmp_path: Path) -> None:
    """A flipped bit in the weights is still a model, of other predictions."""
    model_over(AutoModel.from_config(BertConfig(**SIZES)), {"mood": {"polarity": POLARITY}}).save(tmp_path, tokenizer)
    flip_a_bit(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"model\.safetensors is not what was written, says checksums\.json"):
        MultiTaskModel.load(tmp_path)
    (tmp_path / CHECKSUMS).write_text('{"../elsewhere": "aa"}', encoding="utf-8")
    with pytest.raises(InputError, match=r"checksums\.json names \.\./elsewhere, which is no file of the folder"):
        MultiTaskModel.load(tmp_path)
    (tmp_path / CHECKSUMS).write_text('["model.safetensors"]', encoding="utf-8")
    with pytest.raises(InputError, match=r"checksums\.json is no table of file names"):
        MultiTaskModel.load(tmp_path)
    (tmp_path / CHECKSUMS).unlink()
    MultiTaskModel.load(tmp_path)
