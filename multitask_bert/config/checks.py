"""Rules between the fields of a config: which values contradict each other (without_effect.py: which have no effect).

What a single field allows is in schema.py. What a head type knows (metrics, schemes) is checked by
`multitask_bert.heads.check_heads`; what only the data or the encoder shows, where they are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from multitask_bert.config.action_table import ACTIONS, Action
from multitask_bert.config.schema import (
    FORMATS,
    SPLITS,
    ExperimentConfig,
    ModelConfig,
    StudyConfig,
    TaskConfig,
    is_lower_better,
)
from multitask_bert.config.setting import value_problems
from multitask_bert.errors import InputError
from multitask_bert.records import POOLED
from multitask_bert.trust.classes import target_problems
from multitask_bert.trust.paths import is_inside

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
NAME_RULE = "must be a letter, then letters, digits, '-' and '_' (A to Z, without accents)"


def check(config: ExperimentConfig) -> None:
    """Refuse a config with values that cannot be right, before anything is loaded; all of them in one error.

    Takes under a millisecond, so that every way in can afford it: the command line, an earlier run's folder, Python.

    Raises:
        InputError: one line per problem, each with the field's full name and the way out.
    """
    problems = list(_problems(config))
    if problems:
        raise InputError("\n".join(problems))


def compared_folders(run_dir: str) -> list[Path]:
    """The folders in the `run_dir=A,B` of `action=compare`."""
    return [Path(part.strip()) for part in run_dir.split(",") if part.strip()]


def notes_on_tests_by_seed(config: ExperimentConfig) -> list[str]:
    """A note for several seeds, where some test sets are split off from train by the seed; empty where none is."""
    sources = {name: task.source for name, task in config.tasks.items() if task.source.format != "samples"}
    names = [name for name, source in sources.items() if source.fraction_of("test") > 0]
    if not names or config.split_seed is not None:
        return []
    return [
        f"each seed splits another test set off from train for {', '.join(names)}; split_seed={config.seed} keeps it "
        f"the same for all seeds"
    ]


def _problems(config: ExperimentConfig) -> Iterator[str]:
    yield from value_problems(config)
    yield from _length_problems(config)
    yield from _class_problems(config)
    yield from _model_problems(config.model)
    yield from _tasks_problems(config)
    yield from _study_problems(config.study)
    if (action := ACTIONS.get(config.action)) is not None:  # None has been reported above
        yield from _action_problems(config, action)


def _class_problems(config: ExperimentConfig) -> Iterator[str]:
    """Classes that are named in the config, and what loggers need besides."""
    for name in ("optimizer", "balancing", "trainer"):
        yield from target_problems(name, {"_target_": getattr(config, name)._target_})
    for name, logger in config.logger.items():
        if not NAME.fullmatch(name):
            yield f"logger.{name}: a logger's name must be a letter, then letters, digits, '-' and '_'"
        elif not isinstance(logger, dict) or "_target_" not in logger:
            yield f"logger.{name}: must be a dict that names its class in _target_"
        elif not is_inside(str(logger.get("log_dir", ""))):
            yield f"logger.{name}.log_dir={logger['log_dir']}: must name a folder inside of the run's"
    for name, free in (
        ("logger", config.logger),
        ("optimizer.options", config.optimizer.options),
        ("model.architecture", config.model.architecture),
    ):
        yield from target_problems(name, free)


def _model_problems(model: ModelConfig) -> Iterator[str]:
    if model.pretrained is None and not model.architecture and model.tokenizer is None:
        yield "model.pretrained: null needs model.architecture (model_type and sizes) and model.tokenizer"
    if model.keep_heads and model.pretrained is None:
        yield "model.keep_heads: needs the model of a run; name it, as in model.pretrained=RUN/model"


def _tasks_problems(config: ExperimentConfig) -> Iterator[str]:
    """Each task by itself, and what only shows beside the others and the batches."""
    batching = config.batching
    if batching.stride is not None and batching.stride >= batching.max_length:
        yield f"batching.stride={batching.stride}: must be below batching.max_length={batching.max_length}"
    for name, task in config.tasks.items():
        yield from _task_problems(f"tasks.{name}", name, task)
    yield from _clashing_metric_keys(config)


def _action_problems(config: ExperimentConfig, action: Action) -> Iterator[str]:
    """What the action needs."""
    if action.uses_cli_tasks:
        if not config.tasks:
            yield "tasks: none is chosen; name one or several, as in tasks=ner+sentiment"
        yield from _untrained_heads(config)
    if config.verify and config.action == "train" and not config.study.expected:
        yield (
            "verify: nothing is expected of this run; choose a study, as in experiment=swahili, or write one "
            "(docs/papers.md)"
        )
    if action.needs_run_dir and config.run_dir is None:
        needed = "the folder of an earlier run, as in run_dir=outputs/…"
        if config.action == "compare":
            needed = "the folders of two runs, as in run_dir=outputs/…/A,outputs/…/B"
        yield f"run_dir: action={config.action} needs {needed}"
    if config.action == "compare" and config.run_dir is not None:
        yield from _compared_run_problems(config.run_dir)
    elif action.needs_run_dir and "," in (config.run_dir or ""):
        yield from _several_folders(config.action, config.run_dir or "")
    if config.diagnose.folds == 1:
        yield "diagnose.folds=1: one model would be trained on nothing; choose 2 or more, or 0 to train none"
    if config.action == "predict":
        if config.input is None:
            yield "input: action=predict needs a file (text, .csv, .tsv or .jsonl), or input=- for standard input"
        elif config.output is not None and Path(config.input).resolve() == Path(config.output).resolve():
            yield f"output={config.output}: this is the input; name another file"
    if config.action == "export" and config.format is None:
        yield f"format: action=export needs one of {', '.join(FORMATS)}"
    if config.export.name is not None and config.format != "mlflow":
        yield f"export.name={config.export.name}: only format=mlflow is registered"
    if config.export.alias is not None and config.export.name is None:
        yield f"export.alias={config.export.alias}: belongs to a registered name; give it as export.name"


def _compared_run_problems(run_dir: str) -> Iterator[str]:
    folders = compared_folders(run_dir)
    if len(folders) != 2:
        more = "; a table of many runs is made by action=report run_dir=FOLDER_OF_RUNS" if len(folders) > 2 else ""
        yield f"run_dir={run_dir}: action=compare needs two runs, as in run_dir=A,B, not {len(folders)}{more}"
    elif folders[0].resolve() == folders[1].resolve():
        yield f"run_dir={run_dir}: these are one run; name two"


def _several_folders(action: str, run_dir: str) -> Iterator[str]:
    if not Path(run_dir).exists():  # a folder may have a comma in its name
        yield (
            f"run_dir={run_dir}: there is no such folder, and action={action} works on one; name one (two runs are "
            f"compared by action=compare)"
        )


def _length_problems(config: ExperimentConfig) -> Iterator[str]:
    """Unfreezing against the number of epochs, and the least number of steps against the greatest.

    With `min_steps`, only the data shows how many epochs there are: see training/start_checks.py.
    """
    plan, trainer = config.optimizer.unfreezing, config.trainer
    if plan != sorted(plan):
        yield f"optimizer.unfreezing={plan}: must be numbers of layers, none below the one before it"
    if trainer.min_steps is None and len(plan) > trainer.num_epochs:
        yield (
            f"optimizer.unfreezing={plan}: has {len(plan)} entries, one per epoch, and trainer.num_epochs is "
            f"{trainer.num_epochs}; shorten it, or train for more epochs"
        )
    is_from_recipe = trainer.min_steps == config.model.recipe.min_steps  # then a lower `max_steps` simply ends the run
    if None not in (trainer.min_steps, trainer.max_steps) and not is_from_recipe:
        assert trainer.min_steps is not None
        assert trainer.max_steps is not None
        if trainer.min_steps > trainer.max_steps:
            yield f"trainer.min_steps={trainer.min_steps}: must be at most trainer.max_steps={trainer.max_steps}"


def _task_problems(where: str, name: str, task: TaskConfig) -> Iterator[str]:
    if not NAME.fullmatch(name):
        yield f"{where}: a task's name {NAME_RULE}"
    if not task.heads:
        yield f"{where}.heads: a task needs at least one head: heads: {{mood: {{type: classification, column: …}}}}"
    for head_name in task.heads:
        if not NAME.fullmatch(head_name):
            yield f"{where}.heads.{head_name}: a head's name {NAME_RULE}"
    source = task.source
    for head_name, head in task.heads.items():
        if head.calibrate and head.share is None and source.dev is None and source.fraction_of("dev") == 0:
            yield (
                f"{where}.heads.{head_name}.calibrate=true: needs a dev set; name a file in {where}.source.dev, or set "
                f"{where}.source.dev_fraction over 0"
            )
    if max(source.dev_fraction, source.test_fraction) < 1 <= source.dev_fraction + source.test_fraction:
        yield f"{where}.source: dev_fraction and test_fraction together leave nothing to train on"
    for set_name in source.tests or ():
        if not NAME.fullmatch(set_name) or set_name == POOLED:
            yield f"{where}.source.tests.{set_name}: the name of a test set {NAME_RULE}, and not {POOLED}"
    if source.tests and source.format == "samples":
        yield f"{where}.source.tests: format samples has no files; remove it"
    for split in source.downloads:
        if split.partition("/")[0] not in (*SPLITS, *source.named_test_splits):
            yield f"{where}.source.downloads.{split}: a split is one of {', '.join(SPLITS)} (of several files: train/…)"


def _study_problems(study: StudyConfig) -> Iterator[str]:
    if study.expected and not study.seeds:
        yield "study.seeds: none is named; write one or several, as in study.seeds=[1,2,3]"
    if len(set(study.seeds)) < len(study.seeds):
        yield f"study.seeds={study.seeds}: must be different seeds"
    for key, expected in study.expected.items():
        if not is_lower_better(key) and expected.score > 1:
            yield f"study.expected.{key}.score={expected.score:g}: scores are shares of 1, as 0.925 for 92.5 percent"


def _clashing_metric_keys(config: ExperimentConfig) -> Iterator[str]:
    """Heads with the same metric keys, eval_<task>_<head>_<metric>: head b_c of task a and head c of task a_b."""
    owner: dict[str, str] = {}
    for task_name, task in config.tasks.items():
        for head_name in task.heads:
            here = f"tasks.{task_name}.heads.{head_name}"
            there = owner.setdefault(f"{task_name}_{head_name}", here)
            if there != here:
                yield f"{here}: its metrics would have the same names as those of {there}; rename one of them"


def _untrained_heads(config: ExperimentConfig) -> Iterator[str]:
    """Tasks without training data that have a head which no other task trains."""
    trained = {
        head.share or f"{task_name}.{head_name}"
        for task_name, task in config.tasks.items()
        if task.source.has_train
        for head_name, head in task.heads.items()
    }
    for task_name, task in config.tasks.items():
        if task.source.has_train:
            continue
        if not (task.source.dev or task.source.test or task.source.tests):
            yield f"tasks.{task_name}.source: names no file; name train, dev, test or tests"
            continue
        for head_name, head in task.heads.items():
            if (head.share or f"{task_name}.{head_name}") not in trained:
                yield (
                    f"tasks.{task_name}.source.train: missing, and no task of the run trains tasks.{task_name}.heads."
                    f"{head_name}; name the training file, or share the heads of a task that has one "
                    f"(tasks.{task_name}.share=TASK)"
                )
