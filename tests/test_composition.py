"""`tasks=a+b`, wherever Hydra composes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin
from omegaconf import OmegaConf

from multitask_bert.config import ExperimentConfig
from multitask_bert.config_tree import to_dict
from tests.composing import CONF, MOOD_YAML, composed, config_of, error_of, run_line


@pytest.fixture
def my_conf(tmp_path: Path) -> Path:
    """A folder of the user's own, outside the repository, with a task `mood` and an experiment `both`."""
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mood.yaml").write_text(MOOD_YAML, encoding="utf-8")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "both.yaml").write_text(
        "# @package _global_\ndefaults: [{override /tasks: wnut17+mood}]\nseed: 7\n", encoding="utf-8"
    )
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What `--cfg job` shows."""
    run_line("--cfg", "job", *arguments)
    tree = OmegaConf.to_container(OmegaConf.create(capsys.readouterr().out))
    assert isinstance(tree, dict)
    return {str(key): value for key, value in tree.items()}


# Any tasks in any order


def test_the_order_of_tasks_changes_nothing() -> None:
    orders = ("ner+sentiment+wnut17", "sentiment+wnut17+ner", "wnut17+sentiment+ner")
    configs = [to_dict(config_of(f"tasks={order}")) for order in orders]
    assert all(list(config["tasks"]) == ["ner", "sentiment", "wnut17"] for config in configs)
    assert all(config == configs[0] for config in configs)


def test_the_composed_trees_of_both_orders_are_equal_to_the_letter() -> None:
    assert OmegaConf.to_yaml(composed("tasks=ner+sentiment")) == OmegaConf.to_yaml(composed("tasks=sentiment+ner"))


def test_joined_tasks_are_the_single_tasks_side_by_side() -> None:
    names = ("masakhaner_swa", "ner", "wnut17")
    alone = {name: config_of(f"tasks={name}").tasks[name] for name in names}
    assert config_of(f"tasks={'+'.join(names)}").tasks == alone


def test_values_of_joined_tasks_can_be_overridden() -> None:
    config = config_of("tasks=sentiment+ner", "tasks.sentiment.heads.sentiment_head.weight=0.5")
    weights = {name: head.weight for task in config.tasks.values() for name, head in task.heads.items()}
    assert weights == {"ner_head": 1.0, "sentiment_head": 0.5}


# Names that cannot be


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ("ner+", "tasks=ner+: a name is missing beside a '+'; write tasks=ner+sentiment"),
        ("ner++wnut17", "tasks=ner++wnut17: a name is missing beside a '+'; write tasks=ner+sentiment"),
        ("ner+wnut17+ner", "tasks=ner+wnut17+ner: ner is named more than once"),
    ],
)
def test_an_empty_or_repeated_name_is_refused(tasks: str, message: str) -> None:
    assert error_of("--cfg", "job", f"tasks={tasks}") == f"error: {message}"


@pytest.mark.parametrize("tasks", ["sentimnet", "ner+sentimnet", "sentimnet+ner"])
def test_an_unknown_task_lists_what_exists_and_the_nearest(tasks: str) -> None:
    first, second, *_ = error_of("--cfg", "job", f"tasks={tasks}").splitlines()
    assert first == "error: tasks: there is no 'sentimnet'; did you mean sentiment?"
    assert second == f"there are: {', '.join(sorted(file.stem for file in (CONF / 'tasks').glob('*.yaml')))}"


def test_an_unknown_task_lists_those_of_the_users_folder_too(my_conf: Path) -> None:
    message = error_of("--config-dir", str(my_conf), "--cfg", "job", "tasks=ner+modo")
    assert message.startswith("error: tasks: there is no 'modo'; did you mean mood?\n")
    assert ", mood, ner, " in message


def test_an_unknown_task_in_an_experiment_file_lists_what_exists(my_conf: Path) -> None:
    (my_conf / "experiment" / "broken.yaml").write_text(
        "# @package _global_\ndefaults: [{override /tasks: ner+moood}]\n", encoding="utf-8"
    )
    message = error_of("--config-dir", str(my_conf), "--cfg", "job", "experiment=broken")
    assert message.startswith("error: tasks: there is no 'moood'; did you mean mood?\nthere are: ")


# A folder of the user's own


def test_a_task_outside_the_repository_joins_those_inside(my_conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = shown(capsys, "--config-dir", str(my_conf), "tasks=mood+ner")
    assert list(tree["tasks"]) == ["mood", "ner"]
    assert tree["tasks"]["mood"]["source"]["train"] == "train.csv"


def test_an_experiment_file_may_choose_joined_tasks(my_conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = shown(capsys, "--config-dir", str(my_conf), "experiment=both")
    assert (list(tree["tasks"]), tree["seed"]) == (["mood", "wnut17"], 7)


def test_the_command_line_overrides_the_tasks_of_an_experiment_file() -> None:
    assert list(config_of("experiment=swahili", "tasks=sentiment+ner").tasks) == ["ner", "sentiment"]


# Several runs


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[ExperimentConfig]:
    """The configs that reach `actions.run`, which does nothing else."""
    configs: list[ExperimentConfig] = []
    monkeypatch.setattr("multitask_bert.actions.run", configs.append)
    return configs


def test_a_multirun_over_joined_tasks_makes_one_run_of_each(seen: list[ExperimentConfig], tmp_path: Path) -> None:
    run_line("--multirun", "tasks=ner,sentiment,ner+sentiment", f"hydra.sweep.dir={tmp_path}")
    assert [list(config.tasks) for config in seen] == [["ner"], ["sentiment"], ["ner", "sentiment"]]
    assert sorted(folder.name for folder in tmp_path.iterdir() if folder.is_dir()) == [
        "0_ner", "1_sentiment", "2_ner+sentiment",
    ]  # fmt: skip


# Tab completion


def completed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """What a shell offers after `python run.py …`."""
    monkeypatch.setenv("COMP_LINE", f"python run.py {line}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        plugins: list[Any] = Plugins.instance().discover(CompletionPlugin)
        (bash,) = (plugin(loader) for plugin in plugins if plugin.provides() == "bash")
        bash.query("config")
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("tasks=se", ["tasks=sentiment"]),
        ("tasks=ner+se", ["tasks=ner+sentiment"]),
        ("seed=3 tasks=wnut17+ner+se", ["tasks=wnut17+ner+sentiment"]),
        ("--multirun tasks=ner,wnut17+se", ["tasks=ner,wnut17+sentiment"]),
    ],
)
def test_a_shell_completes_the_last_of_joined_tasks(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, offered: list[str]
) -> None:
    assert completed(capsys, monkeypatch, line) == offered


def test_a_shell_does_not_offer_a_task_twice(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = completed(capsys, monkeypatch, "tasks=ner+")
    assert "tasks=ner+sentiment" in offered
    assert "tasks=ner+ner" not in offered


@pytest.mark.parametrize("flag", ["--config-dir ", "--config-dir=", "-cd "])
def test_a_shell_completes_the_tasks_of_the_users_folder(
    my_conf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    assert completed(capsys, monkeypatch, f"{flag}{my_conf} tasks=ner+mo") == ["tasks=ner+mood"]
    assert completed(capsys, monkeypatch, f"{flag}{my_conf} tasks=mo") == ["tasks=mood"]


def test_joined_tasks_are_offered_only_while_a_shell_completes() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        options = GlobalHydra.instance().config_loader().get_group_options("tasks", config_name="config", overrides=[])
    assert options == sorted(file.stem for file in (CONF / "tasks").glob("*.yaml"))


# Weights and their checksum

OF_MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
OTHERS = f"model: {{pretrained: runs/a, sha256: {'1' * 64}}}"


@pytest.mark.parametrize(
    ("experiment", "overrides", "sha256"),
    [
        ("seed: 1", [], OF_MINILM),
        ("seed: 1", ["model.pretrained=runs/a"], None),
        ("seed: 1", ["model.pretrained=runs/a", f"model.sha256={'0' * 64}"], "0" * 64),
        ("model: {pretrained: runs/a}", [], None),
        (OTHERS, [], "1" * 64),
        (OTHERS, ["model.pretrained=runs/b"], None),
        ("model: {pooling: first}", [], OF_MINILM),
    ],
)
def test_a_checksum_is_of_the_weights_beside_which_it_stands(
    my_conf: Path, capsys: pytest.CaptureFixture[str], experiment: str, overrides: list[str], sha256: str | None
) -> None:
    (my_conf / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{experiment}\n", encoding="utf-8")
    tree = shown(capsys, "--config-dir", str(my_conf), "experiment=mine", *overrides)
    assert tree["model"]["sha256"] == sha256
