"""The studies in conf/experiment: each says where its number comes from, and its whole recipe runs on small files.

The hub's data sets are saved here in small with their columns and classes (tests/data/hub_layouts.py), public files
written with their layout; the encoder is a tiny one. Only sizes differ from what the recipes are for.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pytest
from datasets import Dataset, DatasetDict, Features
from omegaconf import OmegaConf

from multitask_bert import actions
from multitask_bert.config.checks import check
from multitask_bert.config.schema import ExpectedScore, ExperimentConfig, ModelConfig
from multitask_bert.heads import check_heads, reported_keys
from multitask_bert.studies.verification import VERIFICATION
from tests.composing import CONF, command_of, config_of, error_of
from tests.conftest import PACKAGED, TINY
from tests.data.hub_layouts import LAYOUTS

pytestmark = pytest.mark.slow

FILES = sorted((CONF / "experiment").glob("*.yaml"))
NAMES = [file.stem for file in FILES]
OWN = ["noisy_english", "snips_200_steps", "swahili", "swahili_5e-5"]  # run here; the others need the hub
PAPERS = [name for name in NAMES if name not in OWN]
NOT_YET = "not yet run at full size"
SNIPS = {"seq.in": "play some jazz", "seq.out": "O O B-genre", "label": "PlayMusic"}
SOME_OF_GLUE = ("glue_cola", "glue_rte", "glue_stsb")  # is enough of the joint ones; test_public_tasks.py reads all
NER = "Asha B-PER\nalikuja O\nTanga B-LOC\n"


def with_all_its_tasks(name: str) -> ExperimentConfig:
    """A study's config with every task that it expects a score of."""
    config = config_of(f"experiment={name}")
    known = [file.stem for file in (CONF / "tasks").glob("*.yaml")]
    begun = {task for task in known for key in config.study.expected if key.startswith(f"eval_{task}_")}
    if not begun <= set(config.tasks):
        config = config_of(f"experiment={name}", f"tasks={'+'.join(sorted(begun))}")
    return replace(config, verify=True)


def test_the_studies_of_the_hub_and_our_own_are_all_here() -> None:
    assert set(OWN) < set(NAMES)
    assert len(PAPERS) == 9


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.stem))
def test_a_study_says_its_source_table_seeds_and_status(file: Path) -> None:
    study = config_of(f"experiment={file.stem}").study
    assert study.source
    assert study.table
    assert len(study.seeds) >= 3
    assert study.status
    assert (NOT_YET in study.status) == (file.stem in PAPERS)
    assert file.stem in OWN or "https://" in study.source
    assert "# Expected on " in file.read_text(encoding="utf-8").rpartition("\n\n")[2]


@pytest.mark.parametrize("name", NAMES)
def test_every_score_that_a_study_expects_is_one_that_its_tasks_report(name: str) -> None:
    config = with_all_its_tasks(name)
    assert config.study.expected.keys() <= set(reported_keys(config.tasks))
    check(config)
    check_heads(config)


@pytest.mark.parametrize("name", NAMES)
def test_the_commands_in_a_study_are_its_own_and_accepted(name: str) -> None:
    file = CONF / "experiment" / f"{name}.yaml"
    lines = [line.removeprefix("#").strip() for line in file.read_text(encoding="utf-8").splitlines()]
    commands = [shlex.split(line)[2:] for line in lines if line.startswith("python run.py ")]
    assert commands[0] == command_of(file)[2:]
    for words in commands:
        assert f"experiment={name}" in words
        if words[0] == "-m":  # its jobs' tasks as one run: every name is right
            words = [word.replace(",", "+") for word in words[1:]]
        config = config_of(*(word for word in words if word != "verify=true" and not word.startswith("data_root=")))
        config.verify = "verify=true" in words
        check(config)
        check_heads(config)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_the_papers_has_every_study_and_its_scores(name: str) -> None:
    page = (CONF.parent / "docs" / "papers.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith(f"| `{name}` ")]
    assert len(rows) == 1
    for key, expected in config_of(f"experiment={name}").study.expected.items():
        assert f"{100 * expected.score:.2f}" in rows[0], key


# The whole path, in small


def save_hub_layout(task: str, config: ExperimentConfig, folder: Path) -> None:
    columns, rows, _ = LAYOUTS[task]
    datasets.disable_progress_bars()
    data = Dataset.from_list(rows * 4, features=Features(columns))
    source = config.tasks[task].source
    saved = DatasetDict({split: data for split in (source.train, source.dev, source.test) if split})
    saved.save_to_disk(str(folder / task))
    source.path = str(folder / task)


def save_public_files(task: str, config: ExperimentConfig, folder: Path) -> None:
    source = config.tasks[task].source
    source.downloads = {}  # these are not the files whose hashes it has
    for split in (source.train, source.dev, source.test):
        assert split is not None
        path = folder / source.folder / split
        if source.format == "conll":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{NER}\n" * 8, encoding="utf-8")
            continue
        path.mkdir(parents=True)
        for name, line in SNIPS.items():
            other = {"seq.in": "is it raining", "seq.out": "O O O", "label": "GetWeather"}[name]
            (path / name).write_text(f"{line}\n{other}\n" * 4, encoding="utf-8")


@pytest.fixture
def small(tmp_path: Path) -> Callable[[str], ExperimentConfig]:
    """A study's recipe with a tiny encoder, on small files, for two steps of one seed; any score passes."""

    def make(name: str) -> ExperimentConfig:
        config = replace(config_of(f"experiment={name}", "trainer.device=cpu"), verify=True, logger={})
        if len(config.tasks) > len(SOME_OF_GLUE):
            config.tasks = {task: config.tasks[task] for task in SOME_OF_GLUE}
        for task in config.tasks:
            save = save_hub_layout if config.tasks[task].source.format == "datasets" else save_public_files
            save(task, config, tmp_path / "data")
        config.data_root = str(tmp_path / "data")
        architecture = {**TINY, "max_position_embeddings": 256}
        config.model = ModelConfig(tokenizer=PACKAGED, architecture=architecture, pooling=config.model.pooling)
        config.trainer.num_epochs, config.trainer.max_steps = min(config.trainer.num_epochs, 2), 2
        config.study.seeds = [1]
        for expected in config.study.expected.values():
            expected.tolerance = 10.0
        return config

    return make


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_runs_from_its_files_to_pass_and_with_other_numbers_to_fail(
    small: Callable[[str], ExperimentConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    config = small(name)
    check(config)
    check_heads(config)
    actions.verify(config, tmp_path / "run")
    assert capsys.readouterr().out.splitlines()[-1] == "PASS"
    described = json.loads((tmp_path / "run" / VERIFICATION).read_text(encoding="utf-8"))
    here = {key for key in config.study.expected if key.startswith(tuple(f"eval_{task}_" for task in config.tasks))}
    assert set(described["scores"]) == here
    assert all(score["mean"] is not None for score in described["scores"].values())
    assert described["source"] == config.study.source
    for expected in config.study.expected.values():
        expected.score = 99.0
    with pytest.raises(SystemExit, match="1"):
        actions.verify(replace(config, resume=True), tmp_path / "run")
    assert capsys.readouterr().out.splitlines()[-1] == "FAIL"


def test_the_second_stage_of_joint_glue_starts_with_the_joint_encoder(
    small: Callable[[str], ExperimentConfig], tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    config = small("glue_joint")
    actions.verify(config, tmp_path / "joint")
    first = load_file(tmp_path / "joint" / "seed_1" / "model" / "model.safetensors")
    config.tasks = {"glue_rte": config.tasks["glue_rte"]}
    config.model = ModelConfig(str(tmp_path / "joint" / "seed_1" / "model"))
    config.optimizer.lr, config.optimizer.weight_decay = 0.0, 0.0
    actions.verify(config, tmp_path / "alone")
    second = load_file(tmp_path / "alone" / "seed_1" / "model" / "model.safetensors")
    of_encoder = [name for name in first if name.startswith("encoder.")]
    assert len(of_encoder) > 20
    assert all(second[name].equal(first[name]) for name in of_encoder)


# From the command line


@pytest.fixture
def with_tasks(tmp_path: Path, make_config: Callable[..., ExperimentConfig]) -> tuple[str, ...]:
    """Words of a command that verifies the tasks people and mood of the tests in a step; mood passes, people fails."""
    config = make_config()
    (tmp_path / "conf" / "tasks").mkdir(parents=True)
    for name, task in config.tasks.items():
        OmegaConf.save(OmegaConf.create({name: task}), tmp_path / "conf" / "tasks" / f"{name}.yaml")
    scores = {
        "eval_mood_polarity_f1": ExpectedScore(0.5, 9.0),
        "eval_people_entities_f1": ExpectedScore(-1.0, 0.1),
    }
    (tmp_path / "conf" / "experiment").mkdir()
    study = OmegaConf.create({"study": {"expected": scores, "seeds": [1]}})
    text = f"# @package _global_\n{OmegaConf.to_yaml(study)}"
    (tmp_path / "conf" / "experiment" / "ours.yaml").write_text(text, encoding="utf-8")
    return (
        "--config-dir", str(tmp_path / "conf"), "experiment=ours", "model=tiny", "trainer=quick", "trainer.max_steps=1",
        "logger=none", "verify=true", f"data_root={config.data_root}", f"hydra.sweep.dir={tmp_path / 'out'}",
        f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip


def test_in_a_multirun_every_job_is_verified_and_one_that_fails_makes_the_command_fail(
    with_tasks: tuple[str, ...], tmp_path: Path
) -> None:
    message = error_of("-m", *with_tasks, "tasks=people,mood")
    assert message == f"error: FAIL: {tmp_path / 'out' / '0_people'}"
    passed = {
        path.parent.name: json.loads(path.read_text(encoding="utf-8"))["passed"]
        for path in (tmp_path / "out").glob(f"*/{VERIFICATION}")
    }
    assert passed == {"0_people": False, "1_mood": True}


def test_a_sweep_does_not_verify(with_tasks: tuple[str, ...]) -> None:
    message = error_of("-m", *with_tasks, "tasks=mood", "sweep=lr_warmup")
    assert "verify=true: a sweep cannot verify; leave verify or the sweep out" in message


def test_what_cannot_be_verified_is_refused_before_anything_is_trained(
    with_tasks: tuple[str, ...], tmp_path: Path
) -> None:
    words: list[Any] = [word for word in with_tasks if word != "experiment=ours"]
    assert error_of(*words, "tasks=mood").startswith("error: verify: nothing is expected of this run; choose a study")
    assert not (tmp_path / "run" / "seed_1").exists()
