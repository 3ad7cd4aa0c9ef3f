"""The folders of somebody else's runs, sweeps and models: what they try, and that nothing of it happens."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from transformers import AutoModel, BertConfig

from multitask_bert.config.schema import DownloadConfig, ExperimentConfig, HeadConfig, ModelConfig, SourceConfig
from multitask_bert.config.tree import to_dict
from multitask_bert.data.downloads import locate
from multitask_bert.data.storage import _load
from multitask_bert.errors import InputError
from multitask_bert.heads import make_head
from multitask_bert.labels import LabelSet
from multitask_bert.model.encoder import Encoder, load_encoder, load_encoder_config, load_tokenizer
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import Prediction
from multitask_bert.saving.run_folder import config_of, write_reproduction
from multitask_bert.trust.foreign_folders import link_problems, upload_problems
from multitask_bert.utils.files import CHECKSUMS, sha256_of
from tests.composing import error_of
from tests.conftest import PACKAGED, TINY
from tests.metric_modules import module_code
from tests.strangers import PAYLOAD, Touch, as_json

pytestmark = pytest.mark.slow  # whole commands

MakeConfig = Callable[..., ExperimentConfig]
SHAPE = {name: size for name, size in TINY.items() if name != "model_type"}


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is there if a payload got through."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("SECRET", "s3cret")
    monkeypatch.delitem(sys.modules, "payload", raising=False)
    (tmp_path / "payload.py").write_text(PAYLOAD, encoding="utf-8")
    return tmp_path / "trace"


@pytest.fixture
def run_dir(trace: Path, make_config: MakeConfig) -> Path:
    """A stranger's run, as far as it takes to be looked at."""
    run_dir = trace.parent / "run"
    (run_dir / ".hydra").mkdir(parents=True)
    OmegaConf.save(OmegaConf.create(to_dict(make_config())), run_dir / ".hydra" / "config.yaml")
    return run_dir


def change(run_dir: Path, **values: Any) -> None:
    """Entries of the run's config, by their full names."""
    path = run_dir / ".hydra" / "config.yaml"
    tree = OmegaConf.load(path)
    for key, value in values.items():
        OmegaConf.update(tree, key, value, force_add=True)
    OmegaConf.save(tree, path)


# Runs


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("balancing._target_", "payload.Payload"),
        ("trainer._target_", "payload.Payload"),
        ("logger.evil._target_", "payload.Payload"),
        ("optimizer.options.x", [{"_target_": "os.system"}]),
        ("name", "${oc.env:SECRET}"),
        ("optimizer.options", "${oc.create:'{a: {_target_: os.system}}'}"),
        ("tasks.mood.heads.polarity.class_weights", {"_target_": "payload.Payload"}),
    ],
)
def test_the_config_in_a_strangers_run_is_read_with_the_same_care(key: str, value: object, run_dir: Path) -> None:
    change(run_dir, **{key: value})
    with pytest.raises(InputError) as refusal:
        config_of(run_dir)
    assert str(refusal.value).startswith(f"{run_dir}/.hydra/config.yaml: {key}")
    assert "s3cret" not in str(refusal.value)


def test_what_is_put_together_as_a_reference_is_not_followed(run_dir: Path) -> None:
    change(run_dir, **{"study.source": "$", "study.table": "{oc.env:SECRET}", "name": "${study.source}${study.table}"})
    with pytest.raises(InputError) as refusal:
        config_of(run_dir)
    assert str(refusal.value).startswith("name=${oc.env:SECRET}: is put together as a reference")


def test_what_a_config_in_memory_holds_is_written_and_not_resolved(tmp_path: Path, make_config: MakeConfig) -> None:
    config = make_config()
    config.name = "${oc.env:HOME}"
    assert to_dict(config)["name"] == "${oc.env:HOME}"
    write_reproduction(config, tmp_path)
    assert "\nname: ${oc.env:HOME}\n" in (tmp_path / "reproduce.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("how", ["action=evaluate", "action=reproduce", "resume=true"])
def test_no_action_on_a_strangers_run_runs_its_code(how: str, run_dir: Path, trace: Path) -> None:
    change(run_dir, **{"balancing._target_": "payload.Payload"})
    for name in ("provenance.json", "results.json"):
        (run_dir / name).write_text(json.dumps(COMPARED), encoding="utf-8")
    told = error_of(how, f"run_dir={run_dir}")
    assert told.startswith(f"error: {run_dir}/.hydra/config.yaml: balancing._target_=payload.Payload")
    assert not trace.exists()
    assert "payload" not in sys.modules


COMPARED = {
    "weights": "a", "tokenizer": "b", "data": {"c": 1}, "final": {"weights": "a", "metrics": "b"},
    "metrics": {"eval": {"x": 1.0}},
}  # fmt: skip


def test_a_strangers_run_does_not_download_to_where_it_says(run_dir: Path, trace: Path) -> None:
    payload = trace.parent / "payload.py"
    download = {"url": "http://127.0.0.1:9/payload.txt", "sha256": sha256_of(payload)}
    change(run_dir, **{"data_root": str(trace), "tasks.mood.source.downloads": {"train": download}})
    with pytest.raises(InputError, match=rf"data_root={trace}: a file names this .*MULTITASK_BERT_ALLOW=data_root"):
        config_of(run_dir)
    assert config_of(run_dir, ExperimentConfig(data_root="mine")).data_root == "mine"


@pytest.mark.parametrize("place", [{"folder": "../home"}, {"folder": "mood/../../home"}, {"train": "../home/x.tsv"}])
def test_a_strangers_task_does_not_download_to_above_the_data(place: dict[str, str], trace: Path) -> None:
    payload = trace.parent / "payload.py"
    download = {"train": DownloadConfig("http://127.0.0.1:9/payload.txt", sha256_of(payload))}
    source = SourceConfig(**{"format": "tsv", "folder": "mood", "train": "x.tsv", "downloads": download, **place})
    with pytest.raises(InputError, match=r"`source\.folder`, `source\.train` and the like, .* lead out of data_root="):
        locate(source, "train", data_root=str(trace.parent / "data"))
    assert not (trace.parent / "home").exists()


def test_going_on_in_a_strangers_run_makes_no_database_where_it_says(run_dir: Path, trace: Path) -> None:
    target = "multitask_bert.tracking.mlflow.logger.MlflowLogger"
    change(run_dir, **{"logger.mlflow": {"_target_": target, "tracking_uri": f"sqlite:///{trace}"}})
    told = error_of("resume=true", f"run_dir={run_dir}")
    assert told.startswith(f"error: {run_dir}: logger.mlflow.tracking_uri=sqlite:///{trace}: this database does not")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("how", "name"),
    [("action=upload", "/etc/hostname"), ("action=upload", "../secret.txt"), ("resume=true", "../secret.txt")],
)
def test_files_of_elsewhere_are_not_uploaded(how: str, name: str, run_dir: Path) -> None:
    (run_dir.parent / "secret.txt").write_text("s3cret", encoding="utf-8")
    state = {"tracking_uri": "http://127.0.0.1:1", "artifacts": {name: "pending"}}
    (run_dir / "mlflow.json").write_text(json.dumps(state), encoding="utf-8")
    told = error_of(how, f"run_dir={run_dir}")
    assert told.startswith(f"error: {run_dir}: mlflow.json: artifacts: {name} leads out of this folder")


def test_a_folder_with_a_link_to_elsewhere_is_not_uploaded(run_dir: Path) -> None:
    (run_dir.parent / "secret.txt").write_text("s3cret", encoding="utf-8")
    (run_dir / "model").mkdir()
    (run_dir / "model" / "config.json").symlink_to(run_dir.parent / "secret.txt")
    as_json(run_dir / "mlflow.json", tracking_uri="http://127.0.0.1:1", artifacts={"model": "pending"})
    (problem,) = upload_problems(run_dir, "mlflow.json")
    assert problem.startswith("mlflow.json: artifacts: model leads out of this folder")


# Links, which lead out of a folder


LINKED = (
    "metrics.jsonl", "run.log", ".writable", "mlflow.json", "mlflow.lock", "reproduce.yaml", ".hydra/config.yaml",
    "checkpoints", "checkpoints/last", "checkpoints/best/state.json", "model", "tensorboard", "seed_1",
)  # fmt: skip
ACTIONS = ("action=evaluate", "action=reproduce", "action=upload", "action=report", "resume=true")


@pytest.fixture
def elsewhere(trace: Path) -> Path:
    """A folder of the user, whose files must stay as they are."""
    folder = trace.parent / "elsewhere"
    folder.mkdir()
    (folder / "diary.txt").write_text("dear diary", encoding="utf-8")
    return folder


def link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("name", LINKED)
@pytest.mark.parametrize("how", ACTIONS)
def test_no_link_in_a_strangers_run_is_followed_out_of_it(how: str, name: str, run_dir: Path, elsewhere: Path) -> None:
    is_file = "." in name.removeprefix(".hydra")
    link(run_dir / name, elsewhere / "diary.txt" if is_file else elsewhere)
    (run_dir / "sweep.json").write_text('{"study": "x", "storage": "study.journal"}', encoding="utf-8")
    told = error_of(how, f"run_dir={run_dir}")
    assert f"{run_dir}: {name} is a link that leads out of this folder" in told
    assert [path.name for path in elsewhere.iterdir()] == ["diary.txt"]
    assert (elsewhere / "diary.txt").read_text(encoding="utf-8") == "dear diary"


def test_a_linked_folder_with_a_linked_settings_folder_is_no_run_to_go_on_with(run_dir: Path, elsewhere: Path) -> None:
    shutil.move(run_dir / ".hydra", elsewhere / ".hydra")
    (run_dir / ".hydra").symlink_to(elsewhere / ".hydra")
    assert ".hydra is a link that leads out of this folder" in error_of("resume=true", f"run_dir={run_dir}")


@pytest.mark.parametrize("name", ["run.log", ".writable", ".hydra", "metrics.jsonl"])
def test_a_new_run_in_a_strangers_folder_follows_no_link(
    name: str, trace: Path, elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(trace.parent / "theirs" / name, elsewhere / "new")
    for folder in (trace.parent / "theirs", "."):
        told = error_of("tasks=sentiment", "model=tiny", f"hydra.run.dir={folder}")
        assert told == (
            f"error: hydra.run.dir={folder}: {name} is a link that leads out of this folder; replace it by what it "
            f"leads to"
        )
        monkeypatch.chdir(trace.parent / "theirs")
        if name == ".writable":
            break  # the folder that one stands in is looked at where it holds a run
    assert [path.name for path in elsewhere.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize("name", ["study.journal", "sweep.lock", "trial_0000", "trial_0000/run.log", "multirun.yaml"])
def test_a_sweep_in_a_strangers_folder_follows_no_link(name: str, trace: Path, elsewhere: Path) -> None:
    link(trace.parent / "theirs" / name, elsewhere / "new")
    told = error_of("-m", "sweep=lr_warmup", "model=tiny", f"hydra.sweep.dir={trace.parent / 'theirs'}")
    assert f"{trace.parent / 'theirs'}: {name} is a link that leads out of this folder" in told
    assert [path.name for path in elsewhere.iterdir()] == ["diary.txt"]


def test_a_pipe_in_a_strangers_run_is_not_waited_for(run_dir: Path) -> None:
    os.mkfifo(run_dir / "results.json")
    assert "results.json is neither a file nor a folder" in error_of("action=reproduce", f"run_dir={run_dir}")


def test_links_within_a_run_are_followed(run_dir: Path) -> None:
    (run_dir / "checkpoints" / "best").mkdir(parents=True)
    link(run_dir / "model", Path("checkpoints/best"))
    assert list(link_problems(run_dir)) == []
    link(run_dir / "itself", Path("itself"))
    assert [problem.partition(" ")[0] for problem in link_problems(run_dir)] == ["itself"]


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    ("how", "name", "told"),
    [
        ("action=reproduce", "results.json", "results.json is damaged"),
        ("action=upload", "mlflow.json", "mlflow.json: is damaged"),
        ("action=report", "sweep.json", "sweep.json is nested too deeply"),
        ("action=evaluate", "model/checksums.json", "checksums.json is nested too deeply"),
        ("action=evaluate", ".hydra/config.yaml", "config.yaml:1: nested more than 50 deep"),
    ],
)
def test_what_is_nested_without_end_is_damaged(how: str, name: str, told: str, run_dir: Path) -> None:
    (run_dir / "provenance.json").write_text("{}", encoding="utf-8")
    (run_dir / name).parent.mkdir(exist_ok=True)
    (run_dir / name).write_text(DEEP, encoding="utf-8")
    assert told in error_of(how, f"run_dir={run_dir}")


@pytest.mark.parametrize("how", ["action=evaluate", "action=reproduce", "resume=true"])
def test_aliases_in_a_strangers_run_do_not_keep_one_waiting(how: str, run_dir: Path) -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{this}: &{this} [{', '.join([f'*{last}'] * 9)}]" for last, this in zip("abcdefg", "bcdefgh", strict=True)
    ]
    (run_dir / ".hydra" / "config.yaml").write_text("\n".join(lines), encoding="utf-8")
    (run_dir / "reproduce.yaml").write_text("\n".join(lines), encoding="utf-8")
    told = error_of(how, f"run_dir={run_dir}")
    assert told.startswith(f"error: {run_dir}/.hydra/config.yaml:1: aliases (*name) stand for more than 10,000 values")


def test_ordinary_aliases_are_read(run_dir: Path) -> None:
    path = run_dir / ".hydra" / "config.yaml"
    tree = OmegaConf.load(path)
    del tree["study"]
    study = "study: {source: &source paper, table: *source, caveats: &much more}\n"
    path.write_text(OmegaConf.to_yaml(tree) + study, encoding="utf-8")
    found = config_of(run_dir).study
    assert (found.source, found.table, found.caveats) == ("paper", "paper", "more")


def test_a_database_that_is_another_ones_is_not_opened(run_dir: Path, trace: Path, database: Path) -> None:
    """MLflow and Optuna would add their tables to it."""
    import sqlite3
    from contextlib import closing

    diary = trace.parent / "diary.db"
    with closing(sqlite3.connect(diary)) as of_user:
        of_user.execute("CREATE TABLE diary (day TEXT)")
    before = diary.read_bytes()
    as_json(run_dir / "mlflow.json", tracking_uri=f"sqlite:///{diary}", artifacts={})
    assert "this database does not exist" in error_of("action=upload", f"run_dir={run_dir}")
    as_json(run_dir / "sweep.json", study="x", storage=f"sqlite:///{diary}")
    assert f"storage=sqlite:///{diary}: holds no study" in error_of("action=report", f"run_dir={run_dir}")
    as_json(run_dir / "sweep.json", study="x", storage=str(trace.parent / "payload.py"))
    assert "payload.py: holds no study" in error_of("action=report", f"run_dir={run_dir}")
    assert diary.read_bytes() == before
    as_json(run_dir / "mlflow.json", tracking_uri=f"sqlite:///{database}", artifacts={})
    assert list(upload_problems(run_dir, "mlflow.json")) == []  # one of MLflow


def test_looking_at_a_strangers_sweep_makes_no_file_where_it_says(trace: Path) -> None:
    for storage in (str(trace), f"sqlite:///{trace}"):
        as_json(trace.parent / "sweep.json", study="x", storage=storage)
        told = error_of("action=report", f"run_dir={trace.parent}")
        assert f"sweep.json: storage={storage}: this file does not exist" in told
        assert not trace.exists()


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a b/.."])
def test_the_name_of_a_run_leads_its_reproduction_nowhere_else(
    name: str, tmp_path: Path, make_config: MakeConfig
) -> None:
    config = make_config()
    config.name = name
    write_reproduction(config, tmp_path)
    written = OmegaConf.to_container(OmegaConf.load(tmp_path / "reproduce.yaml"))
    assert isinstance(written, dict)
    place = written["hydra"]["run"]["dir"]
    assert place.startswith("outputs/${now:%Y-%m-%d}/${now:%H-%M-%S-%f}_")
    assert place.count("/") == 2
    assert written["name"] == name


# Models


@pytest.fixture
def pretrained(trace: Path, tokenizer: Any) -> Path:
    """A model folder as the hub has them."""
    torch.manual_seed(0)
    folder = trace.parent / "pretrained"
    AutoModel.from_config(BertConfig(**SHAPE)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def saved(trace: Path, tokenizer: Any) -> Path:
    """A model folder of ours, with one head; its checksums, which a stranger would make anew, are no obstacle."""
    torch.manual_seed(0)
    head = make_head(HeadConfig("classification", column="mood"), LabelSet(("bad", "good")))
    model = MultiTaskModel(Encoder(AutoModel.from_config(BertConfig(**SHAPE))), {"mood": {"polarity": head}})
    model.save(trace.parent / "saved", tokenizer)
    (trace.parent / "saved" / CHECKSUMS).unlink()
    return trace.parent / "saved"


def load(folder: Path) -> None:
    config = ModelConfig(str(folder))
    load_tokenizer(config)
    load_encoder(config, load_encoder_config(config))


def test_a_folder_of_each_kind_loads_where_nothing_is_wrong_with_it(pretrained: Path, saved: Path) -> None:
    load(pretrained)
    model, _ = MultiTaskModel.load(saved)
    assert all(weight.isfinite().all() for weight in model.parameters())


def only_a_pickle(folder: Path, trace: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"embeddings": Touch(trace)}, folder / "pytorch_model.bin")


def a_pickle_called_safetensors(folder: Path, trace: Path) -> None:
    torch.save({"embeddings": Touch(trace)}, folder / "model.safetensors")


def an_index_of_pickles(folder: Path, trace: Path) -> None:
    only_a_pickle(folder, trace)
    as_json(folder / "model.safetensors.index.json", metadata={}, weight_map={"x": "pytorch_model.bin"})


def an_index_that_climbs(folder: Path, trace: Path) -> None:
    shutil.move(folder / "model.safetensors", folder.parent / "other.safetensors")
    as_json(folder / "model.safetensors.index.json", metadata={}, weight_map={"x": "../other.safetensors"})


def an_adapter(folder: Path, trace: Path) -> None:
    as_json(folder / "adapter_config.json", base_model_name_or_path="evil/model", peft_type="LORA")
    torch.save({"x": Touch(trace)}, folder / "adapter_model.bin")


def code_of_its_own(folder: Path, trace: Path) -> None:
    shutil.copy(folder.parent / "payload.py", folder / "payload.py")
    names = {"AutoConfig": "payload.Payload", "AutoModel": "payload.Payload"}
    as_json(folder / "config.json", model_type="evil", auto_map=names)


def a_tokenizer_of_its_own(folder: Path, trace: Path) -> None:
    shutil.copy(folder.parent / "payload.py", folder / "payload.py")
    names = {"AutoTokenizer": ["payload.Payload", "payload.Payload"]}
    as_json(folder / "tokenizer_config.json", tokenizer_class="Payload", auto_map=names)
    (folder / "tokenizer.json").unlink()
    as_json(folder / "config.json", model_type="evil")


def a_kernel(folder: Path, trace: Path) -> None:
    name = "encoder_config.json" if (folder / "encoder_config.json").is_file() else "config.json"
    as_json(folder / name, _attn_implementation="evil/kernel")


def of_many_layers(folder: Path, trace: Path) -> None:
    as_json(folder / "config.json", num_hidden_layers=10**9)


def of_a_deep_config(folder: Path, trace: Path) -> None:
    (folder / "config.json").write_text(DEEP, encoding="utf-8")


def of_a_deep_tokenizer(folder: Path, trace: Path) -> None:
    (folder / "tokenizer.json").write_text(DEEP, encoding="utf-8")


def of_odd_sizes(folder: Path, trace: Path) -> None:
    as_json(folder / "config.json", hidden_size="wide")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (only_a_pickle, "a whole model.safetensors is needed"),
        (a_pickle_called_safetensors, "a whole model.safetensors is needed"),
        (an_index_of_pickles, "names pytorch_model.bin, which is no .safetensors file beside it"),
        (an_index_that_climbs, "names ../other.safetensors, which is no .safetensors file beside it"),
        (an_adapter, "its adapter_config.json leads to another model"),
        (code_of_its_own, "contains custom code"),
        (a_tokenizer_of_its_own, "no tokenizer can be read"),
        (a_kernel, "_attn_implementation=evil/kernel is code from a repository"),
        (of_many_layers, "num_hidden_layers=1000000000: must be a number from 0 to 1000"),
        (of_a_deep_config, "no tokenizer can be read"),
        (of_a_deep_tokenizer, "no tokenizer can be read"),
        (of_odd_sizes, "no tokenizer can be read"),
    ],
)
def test_a_strangers_pretrained_model_runs_no_code(
    spoil: Callable[[Path, Path], None], told: str, pretrained: Path, trace: Path
) -> None:
    spoil(pretrained, trace)
    with pytest.raises(InputError) as refusal:
        load(pretrained)
    assert told in str(refusal.value)
    assert str(pretrained) in str(refusal.value)
    assert not trace.exists()


@pytest.mark.parametrize("spoil", [only_a_pickle, a_pickle_called_safetensors, a_tokenizer_of_its_own, a_kernel])
def test_a_strangers_model_of_ours_runs_no_code(
    spoil: Callable[[Path, Path], None], saved: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked whether to run code"))
    spoil(saved, trace)
    told = (
        "is code from a repository, which is not run" if spoil is a_kernel else "no complete model of a run can be read"
    )
    with pytest.raises(InputError, match=told):
        MultiTaskModel.load(saved)
    assert not trace.exists()


def test_an_architecture_in_a_config_names_no_kernel() -> None:
    architecture = {**TINY, "attn_implementation": "evil/kernel"}
    with pytest.raises(InputError, match=r"model\.architecture: _attn_implementation=evil/kernel is code"):
        load_encoder_config(ModelConfig(tokenizer=PACKAGED, architecture=architecture))


def test_a_metric_that_a_model_names_is_run_only_where_the_user_opens_it(
    saved: Path, trace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import os\n\nos.mkdir({str(trace)!r})\n" + module_code("int64", "{'evil': 1.0}")
    (trace.parent / "evil").mkdir()
    (trace.parent / "evil" / "evil.py").write_text(code, encoding="utf-8")
    description = json.loads((saved / "multitask.json").read_text(encoding="utf-8"))
    description["heads"]["mood"]["polarity"]["config"]["metrics"] = [str(trace.parent / "evil")]
    as_json(saved / "multitask.json", **description)
    model, _ = MultiTaskModel.load(saved)
    with pytest.raises(InputError, match=f"{trace.parent}/evil is code, which no file may name by itself"):
        model.heads["mood"]["polarity"].score(["bad"], [Prediction("bad")])
    assert not trace.exists()
    monkeypatch.setenv("MULTITASK_BERT_ALLOW", os.path.relpath(trace.parent / "evil"))
    assert model.heads["mood"]["polarity"].score(["bad"], [Prediction("bad")]) == {"evil": 1.0}
    assert trace.is_dir()


def test_a_cached_array_of_objects_is_not_unpickled(trace: Path) -> None:
    path = trace.parent / "array.npy"
    np.save(path, np.array([Touch(trace)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"[Pp]ickle|[Oo]bject"):
        _load(path)
    assert not trace.exists()
