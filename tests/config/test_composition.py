"""`tasks=a+b`, wherever Hydra composes."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin
from omegaconf import OmegaConf

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import from_tree, to_dict
from multitask_bert.saving.run_folder import config_files_of, write_reproduction
from tests.composing import CONF, MOOD_YAML, composed, config_of, error_of, run_line

pytestmark = pytest.mark.slow  # whole commands


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


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[ExperimentConfig]:
    """The configs that reach `actions.run`, which does nothing else."""
    configs: list[ExperimentConfig] = []
    monkeypatch.setattr("multitask_bert.actions.run", configs.append)
    return configs


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


def test_a_test_set_can_be_added_to_a_task_on_the_command_line() -> None:
    assert composed("+tasks.ner.source.tests.swa=swa.txt").tasks.ner.source.tests == {"swa": "swa.txt"}
    assert composed("+tasks.ner.source.tests={swa: swa.txt}").tasks.ner.source.tests == {"swa": "swa.txt"}


def test_an_experiment_file_may_choose_joined_tasks(my_conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = shown(capsys, "--config-dir", str(my_conf), "experiment=both")
    assert (list(tree["tasks"]), tree["seed"]) == (["mood", "wnut17"], 7)


def test_the_command_line_overrides_the_tasks_of_an_experiment_file() -> None:
    assert list(config_of("experiment=swahili", "tasks=sentiment+ner").tasks) == ["ner", "sentiment"]


# A file of the user's with the name of a shipped one

OWN_SENTIMENT = """
sentiment:
  source: {format: csv, folder: mine, train: train.csv, text: text}
  heads: {mood_head: {type: classification, column: mood}}
"""
OWN = {
    "tasks/sentiment": OWN_SENTIMENT,
    "model/tiny": "pretrained: null\narchitecture: {model_type: bert, hidden_size: 8}\ntokenizer: mine\n",
    "optimizer/adamw": "_target_: torch.optim.Adam\n",
    "scheduler/linear": "warmup_ratio: 0.25\n",
    "mixing/round_robin": "when_exhausted: cycle\n",
    "batching/padded": "batch_size: 3\n",
    "trainer/quick": "max_steps: 4\n",
    "logger/none": "mine: {_target_: multitask_bert.tracking.tensorboard.TensorBoardLogger}\n",
    "experiment/swahili": "# @package _global_\nseed: 77\n",
    "sweep/mixing": "# @package _global_\nseed: 78\n",
}
KEY_OF_OWN = {
    "tasks/sentiment": ("tasks.sentiment.source.format", "csv"),
    "model/tiny": ("model.tokenizer", "mine"),
    "optimizer/adamw": ("optimizer._target_", "torch.optim.Adam"),
    "scheduler/linear": ("scheduler.warmup_ratio", 0.25),
    "mixing/round_robin": ("mixing.when_exhausted", "cycle"),
    "batching/padded": ("batching.batch_size", 3),
    "trainer/quick": ("trainer.max_steps", 4),
    "logger/none": ("logger.mine._target_", "multitask_bert.tracking.tensorboard.TensorBoardLogger"),
    "experiment/swahili": ("seed", 77),
    "sweep/mixing": ("seed", 78),
}


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def ways_to_name(folder: Path) -> list[list[str]]:
    return [["--config-dir", str(folder)], [f"hydra.searchpath=[file://{folder}]"]]


def notices(file: Path) -> list[str]:
    """What a run's log says of files of the same name, without the time."""
    lines = file.read_text(encoding="utf-8").splitlines()
    return [line.partition("WARNING ")[2].partition(": ")[2] for line in lines if " is read, and not " in line]


@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize("name", OWN)
def test_a_users_own_file_wins_over_the_shipped_one_of_its_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, way: int
) -> None:
    assert (CONF / f"{name}.yaml").is_file()
    write(tmp_path, {name: OWN[name]})
    group, option = name.split("/")
    tree = shown(capsys, *ways_to_name(tmp_path)[way], f"{group}={option}")
    key, value = KEY_OF_OWN[name]
    assert OmegaConf.select(OmegaConf.create(tree), key) == value


@pytest.mark.parametrize("way", [0, 1])
@pytest.mark.parametrize("order", ["ner+sentiment", "sentiment+ner"])
def test_a_joined_task_may_be_the_users_and_another_the_shipped_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], way: int, order: str
) -> None:
    write(tmp_path, {"tasks/sentiment": OWN_SENTIMENT})
    tree = shown(capsys, *ways_to_name(tmp_path)[way], f"tasks={order}")
    assert tree["tasks"]["ner"] == OmegaConf.to_container(composed("tasks=ner").tasks.ner)
    assert tree["tasks"]["sentiment"]["source"]["format"] == "csv"


def test_an_experiment_of_ours_takes_the_users_task_of_that_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"tasks/wnut17": OWN_SENTIMENT.replace("sentiment:", "wnut17:")})
    tree = shown(capsys, "--config-dir", str(tmp_path), "experiment=noisy_english")
    assert tree["tasks"]["wnut17"]["source"]["train"] == "train.csv"


def test_the_run_says_which_file_won_and_keeps_where_each_part_was_found(
    tmp_path: Path, seen: list[ExperimentConfig]
) -> None:
    mine = write(tmp_path / "mine", {"tasks/sentiment": OWN_SENTIMENT, "tasks/mood": MOOD_YAML})
    run_line("--config-dir", str(mine), "tasks=sentiment+mood+ner", f"hydra.run.dir={tmp_path / 'run'}")
    ours = CONF / "tasks" / "sentiment.yaml"
    assert notices(tmp_path / "run" / "run.log") == [
        f"tasks/sentiment: {mine / 'tasks' / 'sentiment.yaml'} is read, and not {ours}"
    ]
    files = config_files_of(tmp_path / "run")
    assert files["tasks/sentiment"] == f"{mine}/tasks/sentiment.yaml"
    assert files["tasks/mood"] == f"{mine}/tasks/mood.yaml"
    assert files["tasks/ner"] == f"{CONF}/tasks/ner.yaml"
    assert files["model/minilm"] == f"{CONF}/model/minilm.yaml"
    assert [config.tasks["sentiment"].source.format for config in seen] == ["csv"]


def test_each_job_of_a_multirun_takes_the_users_file_and_says_so(tmp_path: Path, seen: list[ExperimentConfig]) -> None:
    mine = write(tmp_path / "mine", {"tasks/sentiment": OWN_SENTIMENT})
    jobs = tmp_path / "jobs"
    run_line("--config-dir", str(mine), "-m", "tasks=ner,sentiment,ner+sentiment", f"hydra.sweep.dir={jobs}")
    formats = [{name: task.source.format for name, task in config.tasks.items()} for config in seen]
    assert formats == [{"ner": "samples"}, {"sentiment": "csv"}, {"ner": "samples", "sentiment": "csv"}]
    assert [len(notices(jobs / name / "run.log")) for name in ("0_ner", "1_sentiment", "2_ner+sentiment")] == [0, 1, 1]


def test_of_two_folders_of_the_users_the_first_wins_and_all_are_named(
    tmp_path: Path, seen: list[ExperimentConfig]
) -> None:
    one = write(tmp_path / "one", {"optimizer/sgd": "lr: 0.1\n"})
    two = write(tmp_path / "two", {"optimizer/sgd": "lr: 0.2\n"})
    run_line(
        "--config-dir", str(one), f"hydra.searchpath=[file://{two}]", "optimizer=sgd",
        f"hydra.run.dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert seen[0].optimizer.lr == 0.1
    assert notices(tmp_path / "run" / "run.log") == [
        f"optimizer/sgd: {one}/optimizer/sgd.yaml is read, and not {other}/optimizer/sgd.yaml" for other in (two, CONF)
    ]


def test_nothing_is_said_of_a_copy_or_of_our_own_folder(tmp_path: Path, seen: list[ExperimentConfig]) -> None:
    copy = shutil.copytree(CONF, tmp_path / "copy")
    for number, folder in enumerate((copy, CONF)):
        run_line("--config-dir", str(folder), f"hydra.run.dir={tmp_path / str(number)}")
        assert notices(tmp_path / str(number) / "run.log") == []
    assert to_dict(seen[0]) == to_dict(seen[1]) == to_dict(config_of())


@pytest.mark.parametrize("name", ["config", "hydra_settings", "schema", "hydra/config"])
def test_what_every_run_stands_on_is_never_replaced(tmp_path: Path, seen: list[ExperimentConfig], name: str) -> None:
    write(tmp_path, {name: "optimizer: {lr: 3.0}\nextra: 1\n"})
    folders = ["--config-dir", str(tmp_path), f"hydra.run.dir={tmp_path / 'run'}"]
    run_line(*folders, "tasks=ner", "seed=5")
    assert to_dict(seen[0]) == to_dict(config_of("tasks=ner", "seed=5"))
    (notice,) = notices(tmp_path / "run" / "run.log")
    assert f"is read, and not {tmp_path}/{name}.yaml; give yours another name" in notice
    assert error_of(*folders, "seed=many").startswith("error: seed=many: ")  # the schema holds
    assert error_of(*folders, "sede=1") == "error: sede: no such key; did you mean seed?"


def test_a_primary_config_of_the_users_may_have_any_other_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"mine": "defaults: [config, _self_]\nseed: 9\n"})
    assert shown(capsys, "--config-dir", str(tmp_path), "--config-name", "mine")["seed"] == 9


@pytest.mark.parametrize(
    ("name", "text", "arguments", "key"),
    [
        ("optimizer/adamw", "_target_: subprocess.Popen\n", [], "optimizer._target_"),
        ("tasks/sentiment", OWN_SENTIMENT.replace("folder: mine", "folder: '${oc.env:HOME}'"), ["tasks=sentiment"],
         "tasks.sentiment.source.folder"),
        ("experiment/swahili", "# @package _global_\nhydra: {run: {dir: /elsewhere}}\n", ["experiment=swahili"],
         "hydra.run.dir"),
        ("hydra/launcher/workers", "defaults: [joblib]\n_target_: subprocess.Popen\n", ["hydra/launcher=workers"],
         "hydra.launcher._target_"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", [0, 1])
def test_a_users_file_that_wins_is_trusted_no_more_than_any_of_the_users(
    tmp_path: Path, name: str, text: str, arguments: list[str], key: str, way: int
) -> None:
    write(tmp_path, {name: text})
    message = error_of(*ways_to_name(tmp_path)[way], *arguments, "--cfg", "job")
    assert message.startswith(f"error: {tmp_path}/{name}.yaml: {key}=")


def test_a_users_launcher_of_the_name_of_ours_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    write(tmp_path, {"hydra/launcher/workers": "defaults: [joblib]\nn_jobs: 7\n"})
    run_line("--config-dir", str(tmp_path), "hydra/launcher=workers", "--cfg", "hydra", "-p", "hydra.launcher")
    assert OmegaConf.create(capsys.readouterr().out).n_jobs == 7


def test_the_compose_api_takes_the_users_file(tmp_path: Path) -> None:
    write(tmp_path, {"tasks/sentiment": OWN_SENTIMENT})
    with initialize_config_dir(str(CONF), version_base="1.3"):
        tree = compose("config", ["tasks=ner+sentiment", f"hydra.searchpath=[file://{tmp_path}]"])
    assert (tree.tasks.ner.source.format, tree.tasks.sentiment.source.format) == ("samples", "csv")
    with initialize_config_dir(str(write(tmp_path, {"mine": "defaults: [config]"})), version_base="1.3"):
        tree = compose("mine", ["tasks=ner+sentiment", f"hydra.searchpath=[file://{CONF}]"])
    assert (tree.tasks.ner.source.format, tree.tasks.sentiment.source.format) == ("samples", "csv")


def test_help_lists_the_users_options_and_marks_those_that_are_shipped_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, {"tasks/sentiment": OWN_SENTIMENT, "tasks/mood": MOOD_YAML, "hydra/launcher/workers": "n_jobs: 2"})
    for way in ways_to_name(tmp_path):
        with pytest.raises(SystemExit, match=r"^0$"):
            run_line(*way, "--help")
        page = capsys.readouterr().out
        assert f"\n\nYour own, in {tmp_path} (*: read in place of the shipped one)\n" in page
        assert "\nhydra/launcher: workers*\ntasks: mood, sentiment*\n\nKeys used most\n" in page
    with pytest.raises(SystemExit, match=r"^0$"):
        run_line("--help")
    assert "Your own" not in capsys.readouterr().out


def test_a_reproduction_has_the_users_task_and_needs_no_other_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = write(tmp_path / "mine", {"tasks/sentiment": OWN_SENTIMENT})
    tree = shown(capsys, "--config-dir", str(mine), "tasks=ner+sentiment")
    run = tmp_path / "run"
    write_reproduction(from_tree(OmegaConf.create(tree)), run)
    again = shown(capsys, "--config-dir", str(run), "--config-name", "reproduce")
    assert again["tasks"] == tree["tasks"]
    assert again["tasks"]["sentiment"]["source"]["train"] == "train.csv"


# Several runs


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


def test_a_shell_completes_what_stands_in_the_users_file_of_a_shipped_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "mine", {"tasks/sentiment": OWN_SENTIMENT, "tasks/mood": MOOD_YAML})
    for way in (f"--config-dir {folder}", f"hydra.searchpath=[file://{folder}]"):
        offered = completed(capsys, monkeypatch, f"{way} tasks=sentiment tasks.sentiment.heads.")
        assert offered == ["tasks.sentiment.heads.mood_head."]
        assert completed(capsys, monkeypatch, f"{way} tasks=ner+mo") == ["tasks=ner+mood"]


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
