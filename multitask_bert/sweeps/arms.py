"""The arms of a study: the trainings that it compares, each with the overrides that make it.

`hydra.sweeper.arms=transfer`: each task alone, each pair, all together. `arms=languages`: trained on each task, on all
but one, on all, and tested on each; the tasks share all heads. The search space of a study has one parameter, the arm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from multitask_bert.config.checks import notes_on_tests_by_seed
from multitask_bert.config.joined_tasks import GROUP, split_names
from multitask_bert.config.overrides import as_value, keys_of, read_value
from multitask_bert.config.schema import ExperimentConfig, TaskConfig
from multitask_bert.config.sweep_config import SweepConfig
from multitask_bert.errors import InputError
from multitask_bert.sweeps.space import Dimension, Request
from multitask_bert.utils.cost import Work

TRANSFER, LANGUAGES = "transfer", "languages"
ALONE, PAIRS, ALL, ALL_BUT_ONE, SEPARATE = "alone", "pairs", "all", "all_but_one", "separate"
SUBSETS = {TRANSFER: (ALONE, PAIRS, ALL), LANGUAGES: (ALONE, ALL_BUT_ONE, ALL, SEPARATE)}
RECIPE, EQUAL_UPDATES = "recipe", "equal_updates"
CONTROLS = (RECIPE, EQUAL_UPDATES)
FEWEST_SEEDS = 2  # an interval over seeds needs two
KEY = "arm"  # the parameter
WHERE = "hydra.sweeper"

Compose = Callable[[Sequence[str]], ExperimentConfig]


@dataclass(frozen=True)
class Arm:
    """One training of a study, over all seeds."""

    name: str
    trained: tuple[str, ...]  # names of tasks
    controls: tuple[str, ...]  # to which it belongs; a training that is the same in both belongs to both
    overrides: tuple[str, ...]
    is_separate: bool = False  # languages: each task has heads of its own

    def described(self) -> dict[str, Any]:
        """The arm in JSON types, as the study keeps it."""
        return {
            "name": self.name, "trained": list(self.trained), "controls": list(self.controls),
            "is_separate": self.is_separate, "overrides": list(self.overrides),
        }  # fmt: skip


@dataclass(frozen=True)
class Arms:
    """The arms of a study of these tasks, and the overrides of them all."""

    study: str  # transfer | languages
    tasks: tuple[str, ...]
    arms: tuple[Arm, ...]
    fixed: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def request(self) -> Request:
        dimension = Dimension(
            KEY, "categorical", choices=tuple(arm.name for arm in self.arms),
            overrides={arm.name: arm.overrides for arm in self.arms},
        )  # fmt: skip
        return Request((dimension,), self.fixed)

    def described(self) -> dict[str, Any]:
        return {"study": self.study, "tasks": list(self.tasks), "arms": [arm.described() for arm in self.arms]}


def plan_arms(
    sweeper: SweepConfig,
    joined: str,
    request: Request,
    compose: Compose,
    read: Compose,
    count_work: Callable[[ExperimentConfig], Work],
) -> Arms:
    """Plan the arms of `hydra.sweeper.arms`.

    `joined`: the tasks, as in `tasks=a+b`; `request`: what the command line asks for beside it; `compose`: the typed
    config of these overrides; `read`: the same, unchecked, as languages without training data have no heads before they
    share; `count_work`: counts the steps of a config, for which it reads the data.

    Raises:
        InputError: the study could not give an answer; names the field or the task, and the way out.
    """
    tasks = tuple(split_names(joined))
    _check(sweeper, tasks, request)
    config = (compose if sweeper.arms == TRANSFER else read)(request.fixed)
    fixed = [override for override in request.fixed if keys_of([override]) != [GROUP]]
    make = _transfer if sweeper.arms == TRANSFER else _languages
    arms = list(dict.fromkeys(make(sweeper, config, fixed)))
    fixed = [override for override in fixed if not _is_of_tasks(override)]
    arms, notes = _with_controls(sweeper, arms, fixed, compose, count_work)
    assert sweeper.arms is not None
    return Arms(sweeper.arms, tasks, tuple(arms), tuple(fixed), (*notes, *notes_on_tests_by_seed(config)))


def _check(sweeper: SweepConfig, tasks: Sequence[str], request: Request) -> None:
    """Refuse settings with which there is no study.

    Raises:
        InputError: with the field, its value and the way out.
    """
    if len(tasks) < 2:
        raise InputError(
            f"tasks={'+'.join(tasks)}: a study compares tasks alone and together, so it needs two or more, as in "
            f"tasks={tasks[0]}+OTHER"
        )
    if sweeper.seeds < FEWEST_SEEDS:
        raise InputError(
            f"{WHERE}.seeds={sweeper.seeds}: intervals over seeds need {FEWEST_SEEDS} or more; leave it out, or set "
            f"{WHERE}.seeds=3"
        )
    if request.dimensions:
        keys = ", ".join(dimension.key for dimension in request.dimensions)
        raise InputError(f"{keys}: nothing but the arms varies in a study; give one value, or use a sweep instead")
    for name, wanted in (("sampler", "grid"), ("pruner", "none"), ("function", None)):
        if (value := getattr(sweeper, name)) != wanted:
            shown = "null" if wanted is None else wanted
            raise InputError(f"{WHERE}.{name}={value}: a study trains every arm to its end; set {WHERE}.{name}={shown}")
    for control in sweeper.controls:
        if control not in CONTROLS:
            raise InputError(f"{WHERE}.controls={control}: choose from {', '.join(CONTROLS)}")
    if not sweeper.controls:
        raise InputError(f"{WHERE}.controls: is empty; choose from {', '.join(CONTROLS)}")


def _transfer(sweeper: SweepConfig, config: ExperimentConfig, fixed: Sequence[str]) -> Iterator[Arm]:
    tasks = tuple(config.tasks)
    for name, task in config.tasks.items():
        _refuse_without_test(name, task)
    sets: list[tuple[str, ...]] = []
    for subset in _subsets(sweeper, SUBSETS[TRANSFER]):
        if subset == ALONE:
            sets += [(name,) for name in tasks]
        elif subset == PAIRS:
            sets += list(combinations(tasks, 2))
        else:
            sets.append(tasks if subset == ALL else _named_set(subset, tasks))
    alone = [(name,) for name in tasks if any(name in chosen for chosen in sets)]  # what all others are compared with
    if not any(len(chosen) > 1 for chosen in sets):
        raise InputError(f"{WHERE}.subsets={sweeper.subsets}: no tasks are trained together; add pairs, all or a+b")
    for chosen in sorted({*alone, *sets}, key=lambda chosen: (len(chosen), chosen)):
        of_tasks = [kept for override in fixed if (kept := _restricted(override, chosen)) is not None]
        yield Arm("+".join(chosen), chosen, (), (f"{GROUP}={'+'.join(chosen)}", *of_tasks))


def _languages(sweeper: SweepConfig, config: ExperimentConfig, fixed: Sequence[str]) -> Iterator[Arm]:
    tasks = tuple(config.tasks)
    for name, task in config.tasks.items():
        _refuse_without_test(name, task)
    trained = tuple(name for name in tasks if config.tasks[name].source.has_train)
    _refuse_different_heads(config)
    is_shared = _shares_all_heads(config)
    share = () if is_shared else (f"share={'+'.join([*trained, *(name for name in tasks if name not in trained)])}",)
    sets: list[tuple[str, ...]] = []
    subsets = _subsets(sweeper, SUBSETS[LANGUAGES])
    for subset in subsets:
        if subset == ALONE:
            sets += [(name,) for name in trained]
        elif subset == ALL_BUT_ONE:
            sets += [tuple(other for other in trained if other != name) for name in trained]
        elif subset == ALL:
            sets.append(trained)
        elif subset != SEPARATE:
            sets.append(_named_set(subset, trained))
    of_tasks = [override for override in fixed if _is_of_tasks(override)]
    everything = (f"{GROUP}={'+'.join(tasks)}", *of_tasks)
    for chosen in sorted({chosen for chosen in sets if chosen}, key=lambda chosen: (len(chosen), chosen)):
        others = [override for name in trained if name not in chosen for override in _only_tested(config, name)]
        yield Arm("+".join(chosen), chosen, (), (*everything, *share, *others))
    if SEPARATE in subsets:
        if is_shared or len(trained) < len(tasks):
            why = "their files share the heads" if is_shared else "some of them have no train"
            raise InputError(
                f"{WHERE}.subsets: {SEPARATE} needs tasks with heads of their own, but {why}; leave it out"
            )
        yield Arm(f"{'+'.join(trained)}, separate heads", trained, (), everything, is_separate=True)


def _with_controls(
    sweeper: SweepConfig, arms: Sequence[Arm], fixed: Sequence[str], compose: Compose,
    count_work: Callable[[ExperimentConfig], Work],
) -> tuple[list[Arm], list[str]]:  # fmt: skip
    """The arms of each control, and notes for the user.

    With equal updates every arm makes as many updates of the encoder as the longest one with the recipe.
    """
    configs = {}
    for arm in arms:
        try:
            configs[arm.name] = compose([*fixed, *arm.overrides])
        except InputError as error:
            raise InputError(f"the arm {arm.name} of the study cannot be trained:\n{error}") from error
    steps = {name: count_work(config).num_steps for name, config in configs.items()}  # or the data is refused
    if EQUAL_UPDATES not in sweeper.controls:
        return [_of(arm, RECIPE) for arm in arms], []
    for config in configs.values():
        for name, task in config.tasks.items():
            if task.num_epochs is not None and task.source.has_train:
                raise InputError(
                    f"tasks.{name}.num_epochs={task.num_epochs:g}: with epochs of its own a task does not make more "
                    f"updates; leave it out, or set {WHERE}.controls=[{RECIPE}]"
                )
    most = max(steps.values())
    if RECIPE in sweeper.controls and min(steps.values()) == most:
        note = f"all arms make {most:,} updates with the recipe, so the control {EQUAL_UPDATES} would be the same"
        return [_of(arm, RECIPE) for arm in arms], [note]
    equal = (f"trainer.min_steps={most}", f"trainer.max_steps={most}")
    found = []
    for arm in arms:
        controls = [control for control in CONTROLS if control in sweeper.controls]
        if steps[arm.name] == most or RECIPE not in controls:
            more = equal if RECIPE not in controls else ()
            found.append(_of(arm, *controls, overrides=(*arm.overrides, *more)))
            continue
        found.append(_of(arm, RECIPE))
        found.append(_of(arm, EQUAL_UPDATES, name=f"{arm.name}, {most} updates", overrides=(*arm.overrides, *equal)))
    return found, []


def _of(arm: Arm, *controls: str, name: str | None = None, overrides: tuple[str, ...] | None = None) -> Arm:
    return Arm(name or arm.name, arm.trained, controls, overrides or arm.overrides, arm.is_separate)


def _subsets(sweeper: SweepConfig, known: Sequence[str]) -> list[str]:
    subsets = [str(subset) for subset in sweeper.subsets]
    for subset in subsets:
        if subset not in known and "+" not in subset:
            raise InputError(f"{WHERE}.subsets={subset}: choose from {', '.join(known)}, or name tasks as in a+b")
    return subsets


def _named_set(subset: str, tasks: Sequence[str]) -> tuple[str, ...]:
    names = tuple(split_names(subset))
    if unknown := [name for name in names if name not in tasks]:
        raise InputError(
            f"{WHERE}.subsets={subset}: {', '.join(unknown)} is not among the tasks that are trained "
            f"({', '.join(tasks)})"
        )
    return names


def _refuse_without_test(name: str, task: TaskConfig) -> None:
    if not task.source.has_test:
        raise InputError(
            f"tasks.{name}.source: has no test set, on which a study compares; name one "
            f"(tasks.{name}.source.test=FILE), or split one off train (tasks.{name}.source.test_fraction=0.1)"
        )


def _refuse_different_heads(config: ExperimentConfig) -> None:
    """Refuse tasks that cannot share all heads; contradicting options are refused where the heads are shared."""
    (first, task), *others = config.tasks.items()
    if not any(one.source.has_train for one in config.tasks.values()):
        raise InputError(f"tasks={'+'.join(config.tasks)}: none of them has a training file")
    types = {name: head.type for name, head in task.heads.items()}
    for other, its in others:
        if (found := {name: head.type for name, head in its.heads.items()}) != types:
            raise InputError(
                f"tasks {first} and {other} cannot share all heads: {first} has {_listed(types)}, {other} has "
                f"{_listed(found)}; leave one of them out, or give their heads the same names in files of your own "
                f"(docs/languages.md)"
            )
    for name, one in config.tasks.items():
        if one.source.format == "samples":
            raise InputError(f"tasks.{name}: an embedded corpus always has a training set; choose tasks with files")


def _listed(types: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({head_type})" for name, head_type in types.items())


def _shares_all_heads(config: ExperimentConfig) -> bool:
    """Whether the tasks' files let them share every head already."""
    owners = [
        {head.share or f"{task}.{name}" for name, head in one.heads.items()} for task, one in config.tasks.items()
    ]
    return all(owner == owners[0] for owner in owners)


def _only_tested(config: ExperimentConfig, name: str) -> list[str]:
    """Overrides that make a task test-only; without dev it has no say in which model is kept."""
    source = config.tasks[name].source
    removed = [f"~tasks.{name}.source.downloads.{split}" for split in ("train", "dev") if split in source.downloads]
    return [f"tasks.{name}.source.train=null", f"tasks.{name}.source.dev=null", *removed]


def _is_of_tasks(override: str) -> bool:
    """Whether an override is about single tasks: then each arm has those about its own tasks."""
    (key,) = keys_of([override])
    return key == "share" or key.startswith(f"{GROUP}.")


def _restricted(override: str, chosen: Sequence[str]) -> str | None:
    """An override about single tasks as an arm of some tasks has it; None: it does not."""
    if not _is_of_tasks(override):
        return None
    (key,) = keys_of([override])
    if key != "share":
        return override if key.split(".")[1] in chosen else None
    value = read_value(override.partition("=")[2])
    groups = [[name for name in group.split("+") if name in chosen] for group in str(value or "").split()]
    kept = " ".join("+".join(group) for group in groups if len(group) > 1)
    return f"share={as_value(kept)}" if kept else None
