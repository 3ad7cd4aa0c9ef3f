"""What a user reads who asks for help, or makes a mistake."""

from __future__ import annotations

import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, suppress
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from omegaconf import OmegaConf

from multitask_bert.command_line.ending import FULL_ERROR, plain_errors, show_uncaught
from multitask_bert.command_line.job import overrides_without_effect
from multitask_bert.config.action_table import ACTIONS
from multitask_bert.config.checks import NAME_RULE
from multitask_bert.config.families import FAMILIES
from multitask_bert.config.overrides import as_value, as_word
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.tree import to_dict
from multitask_bert.errors import InputError
from multitask_bert.saving.run_folder import last_error
from multitask_bert.utils.files import short_name
from tests.composing import CONF, HEAVY_PACKAGES, ROOT, composed, config_of, error_of, run_line

pytestmark = pytest.mark.slow  # whole commands


def door(*arguments: str) -> subprocess.CompletedProcess[str]:
    """`python run.py ARGUMENTS` in a process of its own, which also tells what it imports."""
    return subprocess.run(
        [sys.executable, "-X", "importtime", "run.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


def without_imports(stderr: str) -> str:
    return "".join(line for line in stderr.splitlines(keepends=True) if not line.startswith("import time:"))


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[ExperimentConfig]:
    """The configs that reach `actions.run`, which does nothing else."""
    configs: list[ExperimentConfig] = []
    monkeypatch.setattr("multitask_bert.actions.run", configs.append)
    return configs


# The door itself


def test_help_is_our_page_and_loads_nothing_heavy() -> None:
    done = door("--help")
    assert (done.returncode, without_imports(done.stderr)) == (0, "")
    assert done.stdout.startswith("multitask_bert trains one BERT-like encoder on several tasks at once.")
    for group in (folder for folder in CONF.iterdir() if folder.is_dir()):
        if group.name in ("hydra", FAMILIES):
            continue  # launchers; --hydra-help lists them. Families have lines of their own
        options = ", ".join(sorted(file.stem for file in group.glob("*.yaml")))
        assert f"\n{group.name}: {options}\n" in done.stdout
    for name, action in ACTIONS.items():
        assert re.search(rf"^  action={name} .* {re.escape(action.meaning)}$", done.stdout, re.MULTILINE)
    assert re.search(r"^  batching\.batch_size +examples per task and step; at least 1$", done.stdout, re.MULTILINE)
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "hydra" in imported
    assert imported.isdisjoint(HEAVY_PACKAGES)


def test_a_refused_command_prints_its_error_and_no_traceback() -> None:
    done = door("tasks=ner", "optimizer.lrr=1")
    assert done.returncode == 1
    assert without_imports(done.stderr) == "error: optimizer.lrr: no such key; did you mean optimizer.lr?\n"
    assert done.stdout == ""


def test_a_misspelt_key_of_a_sweep_is_refused_before_torch_is_loaded() -> None:
    done = door("-m", "sweep=recipe", "tasks=ner", "optimizer.lrr=1e-4,2e-4")
    assert "error: hydra.sweeper.space.optimizer.lrr: no such key; did you mean optimizer.lr?" in done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert imported.isdisjoint({"torch", "transformers", "datasets", "mlflow"})


# Mistakes, each told by its full name with the way out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimzer=adamw", "optimzer: no such key; did you mean optimizer?"),
        ("lr=1e-4", "lr: no such key; did you mean optimizer.lr?"),
        (
            "tasks.ner.heads.ner_head.wieght=2",
            "tasks.ner.heads.ner_head.wieght: no such key; did you mean tasks.ner.heads.ner_head.weight?",
        ),
        ("hydra.run.dirr=x", "hydra.run.dirr: no such key; did you mean hydra.run.dir?"),
        ("optimizer.lr=fast", "optimizer.lr=fast: needs a number, but found 'fast'"),
        (
            "tasks.ner.heads.ner_head.metrics=f1",
            "tasks.ner.heads.ner_head.metrics=f1: needs a list, also of one; "
            "write 'tasks.ner.heads.ner_head.metrics=[f1]' (quoted, for the shell)",
        ),
        ("seed=1.5", "seed=1.5: needs a whole number, but found '1.5'"),
        ("optimizer.lr=null", "optimizer.lr=null: needs a value: null is not allowed here"),
        ("optimizer.unfreezing=[0,null]", "optimizer.unfreezing=[0,null]: needs a value: null is not allowed here"),
        ("resume=maybe", "resume=maybe: needs true or false, but found 'maybe'"),
        (
            "optimizer.lr=0,0001",
            "optimizer.lr=0,0001: a number takes a point: optimizer.lr=0.0001; several values, one run each, need -m",
        ),
        (
            "optimizer.options.amsgrad=true",
            "optimizer.options.amsgrad: no such key (known here: betas, eps, fused)\n"
            "a new one is added with a '+' before the key, as in +optimizer.options.amsgrad=…",
        ),
        (
            "optimizer=adam",
            "optimizer: there is no 'adam'; did you mean adamw?\nthere are: adamw, sgd\n"
            "your own FOLDER/optimizer/adam.yaml is found with --config-dir FOLDER",
        ),
        (
            "optimizer=3",
            "Config group override must be a string or a list. Got int\n"
            "a group takes the name of one of its files (optimizer=sgd); a value is set below it (optimizer.lr=1e-4)",
        ),
    ],
)
def test_a_mistake_on_the_command_line_is_told_in_a_few_words(override: str, message: str) -> None:
    assert error_of("--cfg", "job", override) == f"error: {message}"


@pytest.mark.parametrize(
    ("file", "text", "arguments", "message"),
    [
        (
            "experiment/mine.yaml",
            "# @package _global_\noptimizer: {lrr: 1}\n",
            ["experiment=mine"],
            "optimizer.lrr: no such key; did you mean optimizer.lr?",
        ),
        (
            "experiment/mine.yaml",
            "# @package _global_\noptimizer: {lr: fast}\n",
            ["experiment=mine"],
            "In 'experiment/mine': optimizer.lr: needs a number, but found 'fast'",
        ),
        (
            "tasks/mine.yaml",
            "mine:\n  source: {format: csv}\n  heads: {mood: {type: classification, metrics: f1}}\n",
            ["tasks=mine"],
            "In 'tasks/mine': tasks.mine.heads.mood.metrics: needs a list, also of one; write `metrics: [f1]`",
        ),
        (
            "experiment/mine.yaml",
            "optimizer: {lr: 1.0}\n",
            ["experiment=mine"],
            "experiment: no such key; an experiment file begins with the line '# @package _global_'",
        ),
        (
            "tasks/mine.yaml",
            "mine:\n  source: {fromat: csv}\n  heads: {mood: {type: classification}}\n",
            ["tasks=mine"],
            "tasks.mine.source.fromat: no such key; did you mean tasks.mine.source.format?",
        ),
        (
            "tasks/mine.yaml",
            "ner:\n  source: {format: csv}\n  heads: {mood: {type: classification}}\n",
            ["tasks=mine+ner"],
            "{folder}/tasks/mine.yaml: it must have one key at its top, `mine:`, with source and heads below it",
        ),
        (
            "tasks/mine.yaml",
            "source: {format: csv}\nheads: {mood: {type: classification}}\n",
            ["tasks=mine"],
            "{folder}/tasks/mine.yaml: it must have one key at its top, `mine:`, with source and heads below it",
        ),
        (
            "tasks/sentiment.yaml",
            "feeling:\n  source: {format: csv}\n  heads: {mood: {type: classification}}\n",
            ["tasks=ner+sentiment"],
            "{folder}/tasks/sentiment.yaml: it must have one key at its top, `sentiment:`, with source and heads below "
            "it",
        ),
    ],
)
def test_a_mistake_in_a_file_of_the_user_is_told_before_a_folder_is_made(
    ran: list[ExperimentConfig], tmp_path: Path, file: str, text: str, arguments: list[str], message: str
) -> None:
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_text(text, encoding="utf-8")
    run_folder = tmp_path / "run"
    found = error_of("--config-dir", str(tmp_path), *arguments, f"hydra.run.dir={run_folder}")
    named = message.replace("{folder}", str(tmp_path))
    assert (found, ran, run_folder.exists()) == (f"error: {named}", [], False)


@pytest.mark.parametrize(
    "override", ["+foo=1", "batching.batch_size=0", "scheduler.warmup_ratio=2", "trainer.metric_for_best=eval_mean_f2"]
)
def test_a_refused_run_leaves_no_folder(ran: list[ExperimentConfig], tmp_path: Path, override: str) -> None:
    run_folder = tmp_path / "run"
    assert override.lstrip("+").partition("=")[0] in error_of(override, f"hydra.run.dir={run_folder}")
    assert (ran, run_folder.exists()) == ([], False)


def test_each_job_of_a_multirun_is_checked_and_its_log_says_why_it_was_refused(
    ran: list[ExperimentConfig], tmp_path: Path
) -> None:
    message = error_of("--multirun", "trainer.max_steps=8,4,6", "trainer.min_steps=5", f"hydra.sweep.dir={tmp_path}")
    assert message == "error: trainer.min_steps=5: must be at most trainer.max_steps=4"
    assert [config.trainer.max_steps for config in ran] == [8, 6]
    (refused,) = tmp_path.glob("1_*")
    assert last_error(refused) == message.removeprefix("error: ")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("batching.batch_size=8,0", "batching.batch_size=0: must be at least 1 (examples per task and step)"),
        ("trainer.max_steps=5,-1", "trainer.max_steps=-1: must be at least 1"),  # null by default
        ("optimizer.lr=1e-4,x", "optimizer.lr: needs a number, but found 'x'"),
        ("optimizer.lr=choice(1e-4,-1)", "optimizer.lr=-1.0: must be at least 0"),
        ("optimizer.lr=interval(0,1)", "optimizer.lr=interval(0,1): without a search, a multirun needs the values"),
    ],
)
def test_a_value_that_no_job_can_have_is_refused_before_the_first_job(
    ran: list[ExperimentConfig], tmp_path: Path, override: str, expected: str
) -> None:
    assert error_of("-m", override, f"hydra.sweep.dir={tmp_path}").startswith(f"error: {expected}")
    assert ran == []


def test_options_of_groups_may_take_turns_with_values(ran: list[ExperimentConfig], tmp_path: Path) -> None:
    values = "tasks.ner.heads.ner_head.weight=1,2"  # of a task that only some jobs have
    run_line("-m", "tasks=glob(ner*)", "seed=range(1,3)", f"hydra.sweep.dir={tmp_path / 'of_a_glob'}")
    assert [sorted(config.tasks) for config in ran] == [["ner"]] * 2
    ran.clear()
    run_line("-m", "tasks=ner,ner+sentiment", values, "optimizer.unfreezing=[0],[1]", f"hydra.sweep.dir={tmp_path}")
    assert len(ran) == 8


@pytest.mark.parametrize(("flags", "key", "num_jobs"), [([], "run", 1), (["--multirun", "seed=1,2"], "sweep", 2)])
def test_the_config_of_each_job_is_checked_once(
    ran: list[ExperimentConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flags: list[str],
    key: str,
    num_jobs: int,
) -> None:
    checked: list[int] = []

    def note(config: ExperimentConfig) -> None:
        checked.append(config.seed)

    monkeypatch.setattr("multitask_bert.command_line.job.check", note)
    run_line(*flags, f"hydra.{key}.dir={tmp_path}")
    assert checked == [config.seed for config in ran] == [1, 2][:num_jobs]


# Folders that cannot be written


@pytest.mark.parametrize(("flags", "key"), [([], "hydra.run.dir"), (["--multirun"], "hydra.sweep.dir")])
def test_a_folder_that_cannot_be_written_is_named_with_the_way_out(
    ran: list[ExperimentConfig], tmp_path: Path, flags: list[str], key: str
) -> None:
    (tmp_path / "notes.txt").write_text("a regular file", encoding="utf-8")
    folder = tmp_path / "notes.txt" / "run"
    message = error_of(*flags, "tasks=ner", f"{key}={folder}")
    assert message == (
        f"error: {key}={folder}: this folder cannot be created or written to (Not a directory); "
        f"name another with {key}=FOLDER, or start where outputs/ can be written to"
    )
    assert ran == []


@pytest.mark.parametrize("multirun", [[], ["-m", "seed=1,2"], ["-m", "sweep=lr_warmup"]])
def test_a_password_in_an_address_is_refused_before_it_is_kept_anywhere(
    ran: list[ExperimentConfig], multirun: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = error_of(*multirun, "tasks=ner", "logger=mlflow", "logger.mlflow.tracking_uri='http://me:s@cret@host'")
    assert message.startswith("error: logger.mlflow.tracking_uri=")
    assert "http://me@host" in message
    assert "cret" not in message
    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in message
    assert (ran, list(tmp_path.iterdir())) == ([], [])


def test_a_folder_whose_name_cannot_be_resolved_is_told_by_its_key(ran: list[ExperimentConfig]) -> None:
    message = error_of("tasks=ner", "hydra.run.dir=outputs/${nowhere}")
    assert message == "error: hydra.run.dir: Interpolation key 'nowhere' not found"
    assert ran == []


def test_the_folder_that_is_checked_is_the_folder_of_the_run(
    ran: list[ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_line("tasks=ner")  # the default folder holds the time, to the microsecond, and the tasks' names
    (folder,) = tmp_path.glob("outputs/*/*")
    assert folder.name.endswith("_ner")
    assert (folder / ".hydra" / "config.yaml").is_file()
    assert sorted(path.name for path in folder.iterdir()) == [".hydra", ".lock", "run.log"]
    assert len(ran) == 1


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["action=inspect", "tasks=sentiment+ner"], "ner+sentiment"),
        (["action=reproduce", "run_dir=old"], "reproduce"),
        (["action=evaluate", "run_dir=old"], "evaluate"),
    ],
)
def test_a_folder_is_named_after_tasks_only_where_those_are_in_it(
    ran: list[ExperimentConfig], arguments: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_line(*arguments)
    (folder,) = tmp_path.glob("outputs/*/*")
    assert folder.name.endswith(f"_{name}")


# What is not a user's mistake


def failing_with(error: Exception) -> Callable[[ExperimentConfig], None]:
    def fail(config: ExperimentConfig) -> None:
        raise error

    return fail


@pytest.mark.parametrize("error", [RuntimeError("a bug"), ValueError("a bug"), KeyError("a bug")])
def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception) -> None:
    monkeypatch.setattr("multitask_bert.actions.run", failing_with(error))
    with pytest.raises(type(error), match="a bug"):
        run_line("tasks=ner", f"hydra.run.dir={tmp_path}")


def test_bad_input_that_a_job_finds_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multitask_bert.actions.run", failing_with(InputError("ner/train.txt:418: no tag")))
    assert error_of("tasks=ner", f"hydra.run.dir={tmp_path}") == "error: ner/train.txt:418: no tag"
    assert capsys.readouterr().err == ""  # nor a line of Hydra's before it


@pytest.mark.parametrize(
    ("seeds", "message"),
    [
        ("1,2", "error: ner/train.txt:418: no tag"),
        ("2,1,4,3", "error: 2 jobs failed: 1, 3; job 1: ner/train.txt:418: no tag"),
    ],
)
def test_a_job_of_a_multirun_that_finds_bad_input_is_told_at_once_and_the_next_ones_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], seeds: str, message: str
) -> None:
    ran = []

    def fail_where_odd(config: ExperimentConfig) -> None:
        ran.append(config.seed)
        if config.seed % 2:
            raise InputError(f"ner/train.txt:41{9 - config.seed}: no tag")

    monkeypatch.setattr("multitask_bert.actions.run", fail_where_odd)
    assert error_of("--multirun", "tasks=ner", f"seed={seeds}", f"hydra.sweep.dir={tmp_path}") == message
    assert ran == list(map(int, seeds.split(",")))
    told = [line for line in capsys.readouterr().err.splitlines() if " failed: " in line]
    failed = [number for number, seed in enumerate(ran) if seed % 2]
    assert told == [f"job {number} failed: ner/train.txt:41{9 - ran[number]}: no tag" for number in failed]


def test_the_full_traceback_is_shown_to_those_who_ask(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(FULL_ERROR, "1")
    monkeypatch.setattr("multitask_bert.actions.run", failing_with(InputError("no tag")))
    with pytest.raises(InputError, match="no tag"):
        run_line("tasks=ner", f"hydra.run.dir={tmp_path}")
    assert os.environ[FULL_ERROR] == "1"


def test_the_environment_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FULL_ERROR, raising=False)
    error_of("--cfg", "job", "optimizer=adam")
    assert FULL_ERROR not in os.environ


# Settings that change nothing


def test_a_setting_without_effect_is_told_once_in_the_log_of_the_run(
    ran: list[ExperimentConfig], tmp_path: Path
) -> None:
    run_line("tasks=ner", "mixing.temperature=3", f"hydra.run.dir={tmp_path}")
    log = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert log.count("mixing.temperature=3 has no effect with mixing.rule=round_robin") == 1
    assert len(ran) == 1


# What beginners do


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [("mine:\n  source: {format: csv\n", 3, "expected"), ("mine:\n\tsource: x\n", 2, "cannot start any token")],
)
def test_broken_yaml_is_named_with_its_line(tmp_path: Path, content: str, line: int, problem: str) -> None:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mine.yaml").write_text(content)
    message = error_of("--config-dir", str(tmp_path), "tasks=mine")
    assert re.search(rf"^error: .*mine\.yaml.?:{line}: .*{problem}", message), message


def test_a_folder_that_holds_a_run_is_not_trained_into_again(ran: list[ExperimentConfig], tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    message = error_of("tasks=ner", f"hydra.run.dir={tmp_path}")
    way_out = "resume it (resume=true), name another folder, or remove it first"
    assert message == f"error: hydra.run.dir={tmp_path}: this folder holds a run already; {way_out}"
    assert ran == []
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_going_on_needs_to_know_with_which_run(
    ran: list[ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    message = error_of("tasks=ner", "resume=true")
    assert message.startswith(
        "error: resume=true: which run should be resumed? An earlier one: run_dir=FOLDER resume=true"
    )
    assert (ran, list(tmp_path.iterdir())) == ([], [])
    message = error_of("run_dir=misspelt", "resume=true")
    assert message == "error: run_dir=misspelt: not the folder of a run (it has no .hydra/config.yaml)"
    assert (ran, list(tmp_path.iterdir())) == ([], [])
    run_line("tasks=ner", "resume=true", "hydra.run.dir=somewhere")
    assert len(ran) == 1


def test_a_full_disk_is_told_before_the_run_begins(
    ran: list[ExperimentConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", refuse)
    message = error_of("tasks=ner", f"hydra.run.dir={tmp_path}")
    assert "this folder cannot be created or written to (No space left on device)" in message
    assert (ran, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_log_that_cannot_be_written_gives_no_tracebacks(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.FileHandler("/dev/full")
    with plain_errors():
        handler.handle(logging.makeLogRecord({"msg": "hello"}))
    assert capsys.readouterr().err == ""
    handler.handle(logging.makeLogRecord({"msg": "hello"}))
    assert "No space left on device" in capsys.readouterr().err  # as Python has it
    with suppress(OSError):
        handler.close()


def unused(*overrides: str) -> list[str]:
    return list(overrides_without_effect(config_of(*overrides), overrides))


def test_overrides_that_an_action_does_not_look_at_are_told() -> None:
    overrides = ["run_dir=x", "data_root=y", "tasks=ner", "seed=3"]
    for action, ignored in (("evaluate", ["seed=3"]), ("reproduce", ["tasks=ner", "seed=3"])):
        assert unused(f"action={action}", *overrides) == [
            f"{override} has no effect with action={action}, which uses the config of the run in run_dir"
            for override in ignored
        ]
    of_task = "tasks.ner.source.test=x"  # without tasks=…, the tasks are those of the run
    assert unused("action=evaluate", "run_dir=x", of_task)[0].startswith(f"{of_task} has no effect")
    assert unused(*overrides) == []
    assert unused("action=reproduce", "run_dir=x", "logger.mlflow.timeout_seconds=3") == []


# Going on with a run

YES = ("true", "True", "TRUE", "yes", "YES", "on", "y", "1", "'true'", "'1'")
NO = ("false", "no", "off", "n", "0", "'false'")


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    """The folder of a run with a name that needs quotes."""
    folder = tmp_path / "my runs=1 (old), 'b'"
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text(OmegaConf.to_yaml(to_dict(config_of("tasks=ner"))))
    return folder


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[Path, bool]]:
    """Where each job that reaches `actions.run` is at work, and whether it goes on."""
    found: list[tuple[Path, bool]] = []
    run_job = lambda config: found.append((Path(HydraConfig.get().runtime.output_dir), config.resume))  # noqa: E731
    monkeypatch.setattr("multitask_bert.actions.run", run_job)
    monkeypatch.chdir(tmp_path)
    return found


@pytest.mark.parametrize("resume", ["resume=true", "++resume='1'"])
def test_a_run_goes_on_in_its_own_folder(folders: list[tuple[Path, bool]], earlier: Path, resume: str) -> None:
    before = (earlier / ".hydra" / "config.yaml").read_text()
    run_line(f"run_dir={as_value(str(earlier))}", resume)
    assert folders == [(earlier, True)]
    assert (earlier / ".hydra" / "config.yaml").read_text() == before
    assert sorted(path.name for path in (earlier / ".hydra").iterdir()) == ["config.yaml"]
    assert not Path("outputs").exists()


@pytest.mark.parametrize("form", ["resume={}", "++resume={}"])
@pytest.mark.parametrize("value", YES)
def test_the_folder_of_a_run_that_goes_on_is_its_own_however_resume_is_spelled(value: str, form: str) -> None:
    settings = composed("run_dir=somewhere", form.format(value), with_hydra=True).hydra
    assert (OmegaConf.to_container(settings.run)["dir"], settings.output_subdir) == ("${run_dir}", None)  # type: ignore[index,call-overload]


def test_a_run_that_is_not_to_go_on_gets_a_folder_of_its_own(folders: list[tuple[Path, bool]], earlier: Path) -> None:
    run_line("tasks=ner", f"run_dir={as_value(str(earlier))}", "resume=no")
    ((folder, resumes),) = folders
    assert (folder.parent.parent, resumes) == (Path("outputs").absolute(), False)


@pytest.mark.parametrize("value", NO)
def test_the_folder_of_a_run_that_does_not_go_on_is_a_new_one_however_that_is_spelled(value: str) -> None:
    settings = composed("run_dir=somewhere", f"resume={value}", with_hydra=True).hydra
    plain = composed("run_dir=somewhere", with_hydra=True).hydra
    assert (settings.output_subdir, OmegaConf.to_container(settings.run)) == (
        plain.output_subdir, OmegaConf.to_container(plain.run),
    )  # fmt: skip


def test_a_run_goes_on_where_an_experiment_file_says_so(
    folders: list[tuple[Path, bool]], earlier: Path, tmp_path: Path
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "again.yaml").write_text("# @package _global_\nresume: yes\n")
    run_line("--config-dir", str(tmp_path), "experiment=again", f"++run_dir={as_value(str(earlier))}")
    assert folders == [(earlier, True)]


def test_what_a_run_that_goes_on_does_not_look_at_is_told_however_resume_is_spelled() -> None:
    message = "seed=2 has no effect with resume=true, which uses the config of the run in run_dir"
    for value in YES:
        assert unused("run_dir=somewhere", f"resume={value}", "seed=2", "trainer.log_every=3") == [message]
    for value in NO:
        assert unused("run_dir=somewhere", f"resume={value}", "seed=2") == []


@pytest.mark.parametrize("flags", [["hydra.run.dir=elsewhere"], ["--multirun", "hydra.sweep.dir=elsewhere"]])
def test_a_run_does_not_go_on_in_another_folder(earlier: Path, flags: list[str], tmp_path: Path) -> None:
    with chdir(tmp_path):
        message = error_of(*flags, f"run_dir={as_value(str(earlier))}", "resume=yes")
    assert f"run_dir={earlier} resume=true: a run is resumed in its own folder, not in" in message


def test_a_multirun_in_a_new_folder_has_nothing_to_go_on_with(folders: list[tuple[Path, bool]]) -> None:
    message = error_of("--multirun", "tasks=ner", "seed=1,2", "resume=on")
    assert "hydra.sweep.dir=FOLDER resume=true" in message
    assert (folders, Path("outputs").exists()) == ([], False)
    run_line("--multirun", "tasks=ner", "seed=1,2", "resume=on", "hydra.sweep.dir=known")
    assert folders == [(Path("known", f"{number}_ner").absolute(), True) for number in range(2)]


@pytest.mark.parametrize("name", ["outputs/18-25_a+b", "a b", "a=b", "it's", "1e3", "a,b", "$x (1)", '"'])
def test_a_path_is_shown_as_it_can_be_typed(folders: list[tuple[Path, bool]], name: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text("{}")
    (typed,) = shlex.split(as_word("run_dir", folder.relative_to(tmp_path)))
    run_line(typed, "resume=true")
    assert folders == [(folder, True)]


# Letters beyond ASCII


@pytest.mark.parametrize("tasks", ["caf\u00e9", "cafe\u0301", "'caf\u00e9'", "'cafe\u0301'", "'ner+caf\u00e9'"])
def test_a_task_with_an_accent_in_its_name_is_refused_by_the_rule(tasks: str) -> None:
    message = error_of("--cfg", "job", f"tasks={tasks}")
    assert f"a task's name {NAME_RULE}; rename the file of the task, and the key at its top" in message


def test_a_value_with_an_accent_is_shown_as_it_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    message = error_of("--cfg", "job", "name=l'\u00e9t\u00e9")
    (typed,) = shlex.split(message.rpartition("shell: ")[2])
    run_line("--cfg", "job", typed)
    assert OmegaConf.create(capsys.readouterr().out).name == "l'\u00e9t\u00e9"


# Names of many tasks


def test_a_folder_of_many_tasks_has_a_short_name_of_its_own(folders: list[tuple[Path, bool]], tmp_path: Path) -> None:
    names = [letter * 90 for letter in "abc"]
    assert len("+".join(names)) > 255  # bytes, what a file's name can have
    for name in names:
        file = tmp_path / "mine" / "tasks" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(
            f"{name}:\n  source: {{format: csv, train: a.csv}}\n  heads: {{mood: {{type: classification}}}}\n"
        )
    mine = ("--config-dir", str(tmp_path / "mine"))
    run_line(*mine, f"tasks={'+'.join(names)}")
    run_line(*mine, f"tasks={'+'.join(reversed(names))}")
    run_line(*mine, f"tasks={'+'.join(names[:-1])}")
    run_line(*mine, "--multirun", f"tasks={'+'.join(names)}", "hydra.sweep.dir=many")
    one, other_order, fewer, job = (folder.name.partition("_")[2] for folder, _ in folders)
    assert one == other_order == job == short_name("+".join(names))
    assert fewer != one
    assert fewer[:100] == one[:100] == "+".join(names)[:100]


def test_the_error_that_ends_a_run_stands_in_its_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(_: ExperimentConfig) -> None:
        raise InputError("ner/train.txt:418: no tag")

    monkeypatch.setattr("multitask_bert.actions.run", fail)
    error_of("tasks=ner", f"hydra.run.dir={tmp_path}")
    assert "error: ner/train.txt:418: no tag" in (tmp_path / "run.log").read_text()


def test_control_characters_in_an_error_are_shown_and_its_lines_stay(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(_: ExperimentConfig) -> None:
        raise InputError("a.csv:2: label '\x1b[31mred'\nis not known")

    monkeypatch.setattr("multitask_bert.actions.run", fail)
    message = error_of("tasks=ner", f"hydra.run.dir={tmp_path}")
    assert message == "error: a.csv:2: label '\\x1b[31mred'\nis not known"


def test_control_characters_in_a_traceback_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError("\x1b]0;title\x07")
    show_uncaught(RuntimeError, error, None)
    assert capsys.readouterr().err == "RuntimeError: \\x1b]0;title\\x07\n"


def test_control_characters_do_not_reach_the_log_of_a_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def warn(_: ExperimentConfig) -> None:
        logging.getLogger("multitask_bert").warning("label %s and half a letter %s", "\x1b[31mred", "\ud83d")

    monkeypatch.setattr("multitask_bert.actions.run", warn)
    run_line("tasks=ner", f"hydra.run.dir={tmp_path}")
    log = (tmp_path / "run.log").read_text(encoding="utf-8")
    assert r"label \x1b[31mred and half a letter \ud83d" in log


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")])
def test_a_config_that_cannot_be_printed_is_an_error_unless_nobody_reads_it(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, str(ROOT / "run.py"), *arguments]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    message = "error: standard output cannot be written (No space left on device)\n"
    assert (done.returncode, done.stderr) == (1, message)
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w", encoding="utf-8") as unread:
        done = subprocess.run(command, stdout=unread, stderr=subprocess.PIPE, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("goes_on", [False, True])
@pytest.mark.parametrize("name", ["model/thesis.py", "checkpoints/best/mine.txt", "results.json"])
def test_a_run_replaces_nothing_that_no_run_left(
    ran: list[ExperimentConfig], tmp_path: Path, name: str, goes_on: bool
) -> None:
    file = tmp_path / "notes" / name
    file.parent.mkdir(parents=True)
    file.write_text("precious", encoding="utf-8")
    resume = ["resume=true"] if goes_on else []
    error = error_of("tasks=ner", f"hydra.run.dir={tmp_path / 'notes'}", *resume)
    assert f"the run would replace {name.partition('/')[0]} in it, which no run left there" in error
    assert (ran, file.read_text(encoding="utf-8")) == ([], "precious")
    assert [path.name for path in (tmp_path / "notes").iterdir()] == [file.relative_to(tmp_path / "notes").parts[0]]


def test_a_sweep_without_multirun_is_refused_with_the_way_out() -> None:
    assert "python run.py -m sweep=recipe" in error_of("sweep=recipe", "tasks=ner", "hydra.run.dir=unused")
