"""A sweep from its command to its results, and the same command again."""

from __future__ import annotations

import io
import json
import re
import shlex
from concurrent.futures.process import BrokenProcessPool
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from optuna.trial import Trial

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.sweep_config import SweepConfig
from multitask_bert.model import acceleration
from multitask_bert.reports.sweep import read_sweep
from multitask_bert.reports.sweep_page import page_of
from multitask_bert.saving import run_folder
from multitask_bert.sweeps.results import table_of
from multitask_bert.sweeps.spec import _caveats
from multitask_bert.sweeps.trials import counted_trials, counts_of
from multitask_bert.utils.files import short_name
from multitask_bert.utils.terminal import make_console
from tests.composing import CONF, ROOT, config_of, run_line
from tests.sweeps.support import FOLDER, FakeTraining, lr_of, near, refusal, states_of, study_in, sweep

pytestmark = pytest.mark.slow


def test_a_sweep_tells_every_trial_and_what_was_tried(fake_training: FakeTraining) -> None:
    study = sweep("hydra.sweeper.n_trials=3")
    assert states_of(study) == ["complete"] * 3
    assert [trial.value for trial in study.get_trials()] == pytest.approx(fake_training.final_scores())
    assert [config.optimizer.lr for config, _ in fake_training.runs] == list(map(lr_of, study.get_trials()))
    assert study.user_attrs["metrics"] == ["eval_mean_f1"]
    assert study.user_attrs["directions"] == ["maximize"]
    assert study.user_attrs["space"]["optimizer.lr"] == {
        "type": "float", "low": 1e-5, "high": 5e-4, "log": True, "step": None,
    }  # fmt: skip
    first = study.get_trials()[0].user_attrs
    assert first["folder"] == "trial_0000"
    assert [override.partition("=")[0] for override in first["overrides"]] == ["optimizer.lr", "scheduler.warmup_ratio"]
    assert first["scores"].keys() == {"eval_mean_f1", "eval_loss", "eval_mean_score"}
    assert first["seed_scores"] == {"1": study.get_trials()[0].value}


def test_the_same_command_again_does_nothing_and_a_larger_total_goes_on(fake_training: FakeTraining) -> None:
    before = sweep("hydra.sweeper.n_trials=2").get_trials()
    again = sweep("hydra.sweeper.n_trials=2").get_trials()
    assert again == before
    more = sweep("hydra.sweeper.n_trials=4").get_trials()
    assert more[:2] == before
    assert len(set(map(lr_of, more))) == 4  # a new sampler with the same seed would propose the same values again
    assert [folder.name for _, folder in fake_training.runs] == [f"trial_000{number}" for number in range(4)]


def test_a_study_in_two_parts_is_the_study_in_one(fake_training: FakeTraining, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep("hydra.sweeper.n_trials=1")
    in_two = sweep("hydra.sweeper.n_trials=3")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    in_one = sweep("hydra.sweeper.n_trials=3")
    assert [trial.params for trial in in_two.get_trials()] == [trial.params for trial in in_one.get_trials()]


def test_best_yaml_is_the_config_of_the_best_trial(
    fake_training: FakeTraining, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = sweep("hydra.sweeper.n_trials=3", "++optimizer.options.amsgrad=true", "name='a, b'")
    best = FOLDER / study.best_trial.user_attrs["folder"]
    assert "Best trials" in capsys.readouterr().out
    configs = []
    monkeypatch.setattr("multitask_bert.actions.run", configs.append)
    run_line("--config-dir", str(FOLDER), "--config-name", "best", "hydra.run.dir=outputs/best")
    assert run_folder.config_of(Path("outputs/best")) == run_folder.config_of(best) == configs[0]
    assert configs[0].optimizer.lr == lr_of(study.best_trial)
    summary = json.loads((FOLDER / "sweep.json").read_text(encoding="utf-8"))
    assert (summary["study"], summary["storage"]) == ("lr_warmup_ner+sentiment", "study.journal")
    assert summary["best"]["trial"] == study.best_trial.number


def test_saved_configs_say_nothing_of_the_sweep(fake_training: FakeTraining) -> None:
    sweep("hydra.sweeper.n_trials=1")
    hidden = FOLDER / "trial_0000" / ".hydra"
    assert "TRIAL" not in (hidden / "config.yaml").read_text(encoding="utf-8")
    assert "TRIAL" not in (hidden / "overrides.yaml").read_text(encoding="utf-8")


def test_choices_on_the_command_line_are_dimensions_and_other_values_are_fixed(fake_training: FakeTraining) -> None:
    study = sweep("hydra.sweeper.n_trials=3", "batching.batch_size=4,8", "optimizer.lr=1e-4", "mixing=proportional")
    assert study.user_attrs["space"]["batching.batch_size"] == {"type": "categorical", "choices": [4, 8]}
    assert study.user_attrs["space"].keys() == {"batching.batch_size", "scheduler.warmup_ratio"}
    configs = [config for config, _ in fake_training.runs]
    assert {config.batching.batch_size for config in configs} <= {4, 8}
    assert {(config.optimizer.lr, config.mixing.rule) for config in configs} == {(1e-4, "proportional")}


def test_task_sets_are_a_dimension(fake_training: FakeTraining) -> None:
    run_line("-m", "sweep=task_sets", "model=tiny", "logger=none", "hydra.sweeper.seeds=1")
    assert sorted("+".join(config.tasks) for config, _ in fake_training.runs) == ["ner", "ner+sentiment", "sentiment"]


def test_a_mean_over_different_tasks_is_noted_at_the_start_and_in_the_report(
    fake_training: FakeTraining, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("-m", "sweep=task_sets", "model=tiny", "logger=none", "hydra.sweeper.seeds=1")
    run_line(*command)
    start, *_ = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Note: ")]
    assert start.startswith("Note: eval_mean_f1 is a mean over a trial's own tasks, and trials have different ones")
    assert "(ner, ner+sentiment, sentiment)" in start
    study = study_in(Path("outputs/sweeps/task_sets"))
    report = read_sweep(study)
    assert [f"Note: {caveat}" for caveat in report.caveats] == [start]
    assert report.caveats[0] in unescape(page_of(report, []).decode())
    file = io.StringIO()
    make_console(file).print(table_of(study))
    assert "Note: eval_mean_f1 is a mean" in file.getvalue()


def test_the_same_tasks_in_all_trials_need_no_note(
    fake_training: FakeTraining, capsys: pytest.CaptureFixture[str]
) -> None:
    study = sweep("hydra.sweeper.n_trials=1")
    assert study.user_attrs["caveats"] == read_sweep(study).caveats == []
    assert "Note: " not in capsys.readouterr().out


def test_a_score_that_all_trials_report_needs_no_note() -> None:
    probes = [config_of("tasks=ner"), config_of("tasks=ner+sentiment")]
    assert list(_caveats(SweepConfig(metric="eval_ner_ner_head_f1"), probes)) == []
    assert len(list(_caveats(SweepConfig(metric=["eval_loss", "eval_ner_ner_head_f1"]), probes))) == 1


def test_lists_of_words_in_any_letters_are_what_the_trials_get(fake_training: FakeTraining, tmp_path: Path) -> None:
    choices = [["f1", "f1_of_colère"], ["accuracy", "f1_of_[neg]"]]
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "labels.yaml").write_text(
        "# @package _global_\n"
        "defaults: [override /hydra/sweeper: study]\n"
        "hydra:\n"
        "  sweep: {dir: 'outputs/sweeps/${hydra.sweeper.study}'}\n"
        "  sweeper:\n"
        "    n_trials: 2\n"
        "    sampler: grid\n"
        f"    space: {{tasks.sentiment.heads.sentiment_head.metrics: {choices}}}\n",
        encoding="utf-8",
    )
    study = """hydra.sweeper.study="it's mine\""""
    run_line("--config-dir", str(tmp_path), "-m", "sweep=labels", "tasks=sentiment", "model=tiny", "logger=none", study)
    got = [config.tasks["sentiment"].heads["sentiment_head"].metrics for config, _ in fake_training.runs]
    assert sorted(got) == sorted(choices)


def test_a_function_defines_what_depends_on_other_choices(
    fake_training: FakeTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "spaces_of_mine.py").write_text(
        "def define(trial):\n"
        "    if trial.suggest_categorical('optimizer', ['adamw', 'sgd']) == 'sgd':\n"
        "        return {**trial.params, 'optimizer.lr': trial.suggest_float('lr_of_sgd', 0.1, 1.0)}\n"
        "    trial.suggest_float('optimizer.lr', 1e-5, 1e-4)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MULTITASK_BERT_ALLOW", "spaces_of_mine")
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults: [override /hydra/sweeper: study]\n"
        "hydra:\n"
        "  sweep: {dir: 'outputs/sweeps/${hydra.sweeper.study}'}\n"
        "  sweeper: {study: mine, n_trials: 5, function: spaces_of_mine.define}\n"
    )
    run_line("--config-dir", str(tmp_path), "-m", "sweep=mine", "model=tiny", "logger=none")
    study = study_in(Path("outputs/sweeps/mine"))
    assert {trial.params["optimizer"] for trial in study.get_trials()} == {"adamw", "sgd"}
    for trial, (config, _) in zip(study.get_trials(), fake_training.runs, strict=True):
        is_sgd = config.optimizer._target_ == "torch.optim.SGD"
        assert is_sgd == (trial.params["optimizer"] == "sgd") == (config.optimizer.lr >= 0.1)
        assert trial.params.keys() == {"optimizer", "lr_of_sgd" if is_sgd else "optimizer.lr"}


def test_pruned_trials_stop_within_one_evaluation(
    fake_training: FakeTraining, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_training.score = lambda config, step: 0.9 if len(fake_training.runs) <= 2 else 0.1
    study = sweep("hydra.sweeper.n_trials=4")
    assert states_of(study) == ["complete", "complete", "pruned", "pruned"]
    assert fake_training.num_steps == [3, 3, 1, 1]
    assert study.get_trials()[2].intermediate_values == {300: 0.1}  # a third of its steps, at the share beside it
    assert "4 of 4 trials done, 2 pruned, 0 failed; best eval_mean_f1 0.9000 (trial 0)" in capsys.readouterr().out


def test_the_second_attempt_of_a_restarted_trial_is_not_judged_by_the_steps_of_the_first(
    fake_training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged = []
    monkeypatch.setattr(Trial, "should_prune", lambda trial: judged.append(trial.number))
    fake_training.steps = (1, 2, 1, 2, 3)
    study = sweep("hydra.sweeper.n_trials=1")
    assert len(judged) == len(study.get_trials()[0].intermediate_values) == 3


def test_all_trials_have_the_precision_that_auto_stands_for_in_the_first(
    fake_training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    speedups = iter([3.0, 0.5, 0.5])
    monkeypatch.setattr(acceleration, "speedup_of_bf16", lambda device, *, tf32: next(speedups))
    sweep("trainer.precision=auto", "trainer.device=cpu", "hydra.sweeper.n_trials=3")
    assert [config.trainer.precision for config, _ in fake_training.runs] == ["bf16"] * 3
    assert "precision: bf16" in (FOLDER / "best.yaml").read_text(encoding="utf-8")


def test_seeds_are_trained_one_after_the_other_and_their_mean_counts(fake_training: FakeTraining) -> None:
    fake_training.score = lambda config, step: config.seed / 10
    study = sweep("hydra.sweeper.n_trials=1", "hydra.sweeper.seeds=3", "seed=4")
    (trial,) = study.get_trials()
    assert trial.value == pytest.approx(0.5)
    assert trial.user_attrs["seed_scores"] == {"4": 0.4, "5": 0.5, "6": 0.6}
    assert trial.intermediate_values == pytest.approx({1: 0.4, 2: 0.45, 3: 0.5})  # running means
    assert [(config.seed, folder.name) for config, folder in fake_training.runs] == [
        (4, "seed_4"), (5, "seed_5"), (6, "seed_6"),
    ]  # fmt: skip


@pytest.mark.parametrize("pruner", ["median", "wilcoxon"])
def test_a_bad_trial_is_pruned_between_seeds(fake_training: FakeTraining, pruner: str) -> None:
    fake_training.score = lambda config, step: (0.9 if len(fake_training.runs) <= 6 else 0.1) + config.seed / 1000
    options = "p_threshold=0.4,n_startup_steps=0" if pruner == "wilcoxon" else "n_startup_trials=1"
    arguments = [f"hydra.sweeper.pruner_options.{option}" for option in options.split(",")]
    study = sweep(
        "hydra.sweeper.n_trials=2", "hydra.sweeper.seeds=6", f"hydra.sweeper.pruner={pruner}",
        *(f"+{argument}" for argument in arguments),
    )  # fmt: skip
    assert states_of(study) == ["complete", "pruned"]
    assert 6 < len(fake_training.runs) < 12
    if pruner == "wilcoxon":
        assert study.get_trials()[0].intermediate_values[2] == pytest.approx(0.902)  # the score of that seed


def test_several_metrics_are_searched_together(fake_training: FakeTraining, capsys: pytest.CaptureFixture[str]) -> None:
    study = sweep("hydra.sweeper.n_trials=3", "hydra.sweeper.metric=[eval_mean_f1,eval_loss]")
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert all(len(trial.values) == 2 for trial in study.get_trials())
    assert "Pareto front" in capsys.readouterr().out
    assert (FOLDER / "best.yaml").is_file()


def test_a_failed_trial_is_recorded_and_the_sweep_continues(fake_training: FakeTraining) -> None:
    def score(config: object, step: int) -> float:
        if len(fake_training.runs) == 1:
            raise MemoryError("no room")
        return float("nan") if len(fake_training.runs) == 2 else 0.5

    fake_training.score = score
    study = sweep("hydra.sweeper.n_trials=4")
    assert states_of(study) == ["fail", "fail", "complete", "complete"]
    errors = [trial.user_attrs.get("error") for trial in study.get_trials()]
    assert errors[0] == "MemoryError: no room"
    assert "eval_mean_f1 is nan at step 1" in str(errors[1])
    assert errors[2:] == [None, None]
    assert "no room" in (FOLDER / "trial_0000" / "run.log").read_text(encoding="utf-8")
    assert counts_of(study).finished == 4


def test_more_failures_than_allowed_stop_the_sweep(fake_training: FakeTraining) -> None:
    from tests.sweeps.support import refusal

    def score(config: object, step: int) -> float:
        raise RuntimeError("bad luck")

    fake_training.score = score
    error = refusal("hydra.sweeper.n_trials=9", "hydra.sweeper.max_failures=1")
    assert "max_failures=1: 2 trials failed, the last (1) with RuntimeError: bad luck" in error
    assert len(fake_training.runs) == 2
    fake_training.score = near(1e-4)
    study = sweep("hydra.sweeper.n_trials=3", "hydra.sweeper.max_failures=2")
    assert states_of(study) == ["fail", "fail", "complete"]


def test_the_sweep_and_the_function_of_the_page_work(
    fake_training: FakeTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
    (sweep_file,) = re.findall(r"```yml\n(.*?)```", page, re.DOTALL)
    (function,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text(sweep_file.replace("optimizer.lr:", "model.pooling: [cls, mean]  #"))
    (tmp_path / "space_of_the_page.py").write_text(function)
    monkeypatch.syspath_prepend(str(tmp_path))
    mine = ("--config-dir", str(tmp_path), "-m", "sweep=mine", "tasks=ner", "model=tiny", "logger=none")
    run_line(*mine, "hydra.sweeper.n_trials=2", "hydra.sweeper.function=space_of_the_page.define")
    (first, _), (second, _) = fake_training.runs
    assert {type(config.optimizer.options["amsgrad"]) for config in (first, second)} == {bool}
    assert {config.batching.batch_size in range(8, 65) for config in (first, second)} == {True}
    assert {config.optimizer._target_ for config in (first, second)} <= {"torch.optim.AdamW", "torch.optim.SGD"}


@pytest.mark.parametrize("file", sorted((CONF / "sweep").glob("*.yaml")), ids=lambda file: str(file.stem))
def test_a_ready_sweep_starts_with_its_command_and_the_command_works(fake_training: FakeTraining, file: Path) -> None:
    package, command, *_ = file.read_text(encoding="utf-8").splitlines()
    assert package == "# @package _global_"
    python, door, *arguments = shlex.split(command.removeprefix("#"))
    assert (python, door, arguments[:2]) == ("python", "run.py", ["-m", f"sweep={file.stem}"])
    num_seeds = 2 if "arms:" in file.read_text(encoding="utf-8") else 1  # a study needs two
    few = ("hydra.sweeper.n_trials=1", f"hydra.sweeper.seeds={num_seeds}")
    run_line(*arguments, "model=tiny", "logger=none", *few)
    assert len(fake_training.runs) == num_seeds


def test_a_trial_is_retried_if_the_pool_of_workers_broke_before_it_started(
    fake_training: FakeTraining, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch, calls = BasicLauncher.launch, []

    def break_once(self: BasicLauncher, *given: Any, **more: Any) -> Any:
        calls.append(given)
        if len(calls) == 1:
            raise BrokenProcessPool("a worker was terminated")
        return launch(self, *given, **more)

    monkeypatch.setattr(BasicLauncher, "launch", break_once)
    study = sweep("hydra.sweeper.n_trials=2")
    assert [trial.state.name for trial in counted_trials(study)] == ["COMPLETE"] * 2
    assert study.get_trials()[0].user_attrs["error"] == "its process died (1 of 3 tries)"


def test_a_sweep_in_which_no_trial_gave_a_value_ends_with_an_error(fake_training: FakeTraining) -> None:
    def fail(config: Any, step: int) -> float:
        raise RuntimeError("bad luck")

    fake_training.score = fail
    error = refusal("hydra.sweeper.n_trials=2")
    assert "no trial gave a value, and 2 failed; the last one: RuntimeError: bad luck" in error


def test_task_sets_in_a_users_space_belong_to_one_study(fake_training: FakeTraining, tmp_path: Path) -> None:
    """The study's name may hold the tasks, which differ from job to job."""
    (tmp_path / "mine" / "sweep").mkdir(parents=True)
    (tmp_path / "mine" / "sweep" / "sets.yaml").write_text(
        "# @package _global_\n"
        "defaults: [override /hydra/sweeper: study]\n"
        "hydra:\n"
        "  sweep: {dir: 'outputs/sweeps/${hydra.sweeper.study}'}\n"
        "  sweeper: {n_trials: 2, sampler: grid, space: {tasks: [ner, sentiment]}}\n"
    )
    run_line("--config-dir", str(tmp_path / "mine"), "-m", "sweep=sets", "model=tiny", "trainer=quick", "logger=none")
    (folder,) = Path("outputs/sweeps").iterdir()
    study = study_in(folder)
    assert states_of(study) == ["complete"] * 2
    assert sorted("+".join(config.tasks) for config, _ in fake_training.runs) == ["ner", "sentiment"]


def test_best_yaml_with_a_users_tasks_needs_no_other_folder(
    fake_training: FakeTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / "tasks").mkdir(parents=True)
    task = (CONF / "tasks" / "ner.yaml").read_text(encoding="utf-8").replace("\nner:", "\nmine:")
    (tmp_path / "mine" / "tasks" / "mine.yaml").write_text(task, encoding="utf-8")
    run_line(
        "--config-dir", str(tmp_path / "mine"), "-m", "sweep=lr_warmup", "tasks=mine", "model=tiny", "trainer=quick",
        "logger=none", "hydra.sweeper.n_trials=1",
    )  # fmt: skip
    configs: list[Any] = []
    monkeypatch.setattr("multitask_bert.actions.run", configs.append)
    run_line("--config-dir", "outputs/sweeps/lr_warmup_mine", "--config-name", "best", "hydra.run.dir=outputs/best")
    assert list(configs[0].tasks) == ["mine"]


def test_a_stopped_sweep_says_how_to_resume(
    fake_training: FakeTraining, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped_in_the_second_trial(config: ExperimentConfig, step: int) -> float:
        if len(fake_training.runs) == 2:
            raise SystemExit(130)  # as `run_training` ends where it was interrupted
        return 0.5

    monkeypatch.setattr(fake_training, "score", stopped_in_the_second_trial)
    with pytest.raises(SystemExit) as stop:
        sweep("hydra.sweeper.n_trials=3")
    assert stop.value.code == 130
    assert "stopped; 1 of 3 trials done, and the same command resumes it" in capsys.readouterr().out


def test_each_trial_has_the_users_task_of_a_shipped_name_and_best_yaml_keeps_it(
    fake_training: FakeTraining, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine" / "tasks").mkdir(parents=True)
    task = (CONF / "tasks" / "sentiment.yaml").read_text(encoding="utf-8").replace("sentiment_head", "mine")
    (tmp_path / "mine" / "tasks" / "sentiment.yaml").write_text(task, encoding="utf-8")
    run_line(
        "--config-dir", str(tmp_path / "mine"), "-m", "sweep=lr_warmup", "tasks=ner+sentiment", "model=tiny",
        "trainer=quick", "logger=none", "hydra.sweeper.n_trials=2",
    )  # fmt: skip
    heads = [[head for task in config.tasks.values() for head in task.heads] for config, _ in fake_training.runs]
    assert heads == [["ner_head", "mine"]] * 2
    log = (FOLDER / "trial_0001" / "run.log").read_text(encoding="utf-8")
    ours = CONF / "tasks" / "sentiment.yaml"
    assert f"{tmp_path / 'mine' / 'tasks' / 'sentiment.yaml'} is read, and not {ours}" in log
    configs: list[Any] = []
    monkeypatch.setattr("multitask_bert.actions.run", configs.append)
    run_line("--config-dir", str(FOLDER), "--config-name", "best", "hydra.run.dir=outputs/best")
    assert list(configs[0].tasks["sentiment"].heads) == ["mine"]


def test_a_sweep_over_many_tasks_has_a_short_name_and_resumes_under_it(
    fake_training: FakeTraining, tmp_path: Path
) -> None:
    names = [letter * 90 for letter in "abc"]
    tasks = "+".join(names)
    assert len(tasks) > 255  # bytes, what a file's name can have
    folder = tmp_path / "mine" / "tasks"
    folder.mkdir(parents=True)
    for name in names:
        source = "{format: samples, samples: sentiment}"
        (folder / f"{name}.yaml").write_text(f"{name}: {{source: {source}, heads: {{mood: {{type: classification}}}}}}")
    command = (
        "--config-dir", str(folder.parent), "-m", "sweep=lr_warmup", f"tasks={tasks}", "model=tiny", "trainer=quick",
        "logger=none",
    )  # fmt: skip
    for num_trials in (1, 2):
        run_line(*command, f"hydra.sweeper.n_trials={num_trials}")
        (folder,) = Path("outputs/sweeps").iterdir()
        study = study_in(folder)
        assert (study.study_name, len(study.get_trials())) == (folder.name, num_trials)
    assert folder.name == short_name(f"lr_warmup_{tasks}")
    assert folder.name.startswith(f"lr_warmup_{tasks}"[:100])
