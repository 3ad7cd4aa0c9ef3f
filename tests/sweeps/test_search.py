"""Samplers, pruners and the search space, without a sweep."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from multitask_bert.config.setting import choices_of
from multitask_bert.config.sweep_config import SweepConfig
from multitask_bert.errors import InputError
from multitask_bert.sweeps.arms import SUBSETS
from multitask_bert.sweeps.samplers_and_pruners import (
    FOR_ONE_OBJECTIVE,
    PRUNERS,
    SAMPLERS,
    check_sampler_and_pruner,
    grid_size,
    make_pruner,
)
from multitask_bert.sweeps.space import Dimension, as_overrides, probe_overrides, read_request
from multitask_bert.sweeps.spec import _best_by_objective
from multitask_bert.sweeps.trials import ask, distribution_of
from tests.composing import CONF, config_of

RATE = Dimension("optimizer.lr", "float", 1e-5, 1e-3, log=True)
SHARE = Dimension("scheduler.warmup_ratio", "float", 0.0, 0.3, step=0.1)
SIZE = Dimension("batching.batch_size", "int", 8, 12, step=2)
TASKS = Dimension("tasks", "categorical", choices=("ner", "ner+sentiment"))
TWO = ["eval_mean_f1", "eval_loss"]


@pytest.fixture(scope="module")
def config() -> DictConfig:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config")


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
@pytest.mark.parametrize("num_metrics", [1, 2])
def test_every_sampler_proposes_values_of_the_space(sampler: str, num_metrics: int) -> None:
    if num_metrics > 1 and sampler in FOR_ONE_OBJECTIVE:
        pytest.skip("searches for one metric only")
    settings = SweepConfig(sampler=sampler, metric=TWO[:num_metrics], sampler_options={})
    dimensions = [RATE, SHARE, SIZE, TASKS]
    check_sampler_and_pruner(settings, dimensions)
    study = optuna.create_study(directions=["maximize", "minimize"][:num_metrics])
    proposed = []
    for number in range(12):
        trial, overrides = ask(study, settings, dimensions, None)
        proposed.append(tuple(overrides))
        study.tell(trial, [trial.params["optimizer.lr"], number / 10][:num_metrics])
        assert 1e-5 <= trial.params["optimizer.lr"] <= 1e-3
        assert trial.params["batching.batch_size"] in (8, 10, 12)
        assert trial.params["tasks"] in TASKS.choices
    assert len(set(proposed)) == 12


def test_a_grid_proposes_every_point_once_although_its_sampler_is_made_anew_each_time() -> None:
    settings, dimensions = SweepConfig(sampler="grid"), [SHARE, SIZE, TASKS]
    study = optuna.create_study()
    points = set()
    for _ in range(grid_size(dimensions)):
        trial, overrides = ask(study, settings, dimensions, None)
        points.add(tuple(overrides))
        study.tell(trial, 0.0)
    assert len(points) == grid_size(dimensions) == 4 * 3 * 2


@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_pruner_can_be_made(pruner: str) -> None:
    settings = SweepConfig(pruner=pruner, seeds=2)
    check_sampler_and_pruner(settings, [RATE])
    assert isinstance(make_pruner(settings), optuna.pruners.BasePruner)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"metric": TWO, "pruner": "median"}, "set hydra.sweeper.pruner=none"),
        ({"metric": TWO, "direction": ["maximize"]}, "1 for 2 metrics"),
        ({"metric": ["eval_loss", "eval_loss"]}, "name one metric, or a list of different metrics"),
        ({"direction": "up"}, "hydra.sweeper.direction=up: choose one of maximize, minimize"),
        ({"sampler": "grid"}, "space.optimizer.lr: hydra.sweeper.sampler=grid needs every value; give a step"),
        ({"sampler": "annealing"}, "sampler=annealing: choose one of tpe, gp, cmaes, random, grid, nsga2"),
        ({"pruner": "wilcoxon"}, "compares seeds; set hydra.sweeper.seeds to 2 or more"),
        ({"pruner_options": {"min_beter": 1}}, "min_beter: no such option; did you mean min_better?"),
        ({"sampler_options": {"multivariat": 1}}, "multivariat: no such option; did you mean multivariate?"),
        ({"n_trials": 0}, "hydra.sweeper.n_trials=0: must be at least 1"),
        ({"max_failures": -1}, "hydra.sweeper.max_failures=-1: must be at least 0"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(settings: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as error:
        check_sampler_and_pruner(SweepConfig(**settings), [RATE])
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "optimizer.lr",
            {"low": 1, "high": 2},
            Dimension("optimizer.lr", "float", 1, 2),
        ),  # as the config's value of the key
        ("batching.batch_size", {"low": 1, "high": 8}, Dimension("batching.batch_size", "int", 1, 8)),
        ("trainer.max_steps", {"low": 1, "high": 8, "type": "float"}, Dimension("trainer.max_steps", "float", 1, 8)),
        ("tasks", ["ner", "ner+sentiment"], TASKS),
        ("seed", {"choices": [1, 2]}, Dimension("seed", "categorical", choices=(1, 2))),
        ("x.y", [[1, 2], None], Dimension("x.y", "categorical", choices=("[1, 2]", None))),
    ],
)
def test_a_dimension_is_read(config: DictConfig, key: str, value: Any, expected: Dimension) -> None:
    assert read_request([], SweepConfig(space={key: value}), config).dimensions == (expected,)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1e-4, "this is one value; give {low: …, high: …}"),
        ({"low": 1e-4}, "hydra.sweeper.space.optimizer.lr.high=None: must be a number"),
        ({"low": 1, "high": 0.1}, "low=1 must be less than high=0.1"),
        ({"low": 0, "high": 0.1, "log": True}, "with log, low must be over 0"),
        ({"low": 0, "hihg": 1}, "hydra.sweeper.space.optimizer.lr.hihg: no such key"),
        ({"low": 0, "high": 1, "step": -1}, "step=-1: must be over 0"),
        ({"low": 0.5, "high": 1, "type": "int"}, "type: int needs whole numbers"),
        ({"low": 0, "high": 1, "type": "real"}, "type=real: choose float or int"),
        ([], "must be a list of at least one choice"),
        ([1, 1], "a choice is listed twice"),
    ],
)
def test_a_bad_dimension_is_refused(config: DictConfig, value: Any, expected: str) -> None:
    with pytest.raises(InputError) as error:
        read_request([], SweepConfig(space={"optimizer.lr": value}), config)
    assert expected in str(error.value)


@pytest.mark.parametrize("prefix", ["", "++"])
def test_a_value_of_the_command_line_takes_a_dimension_out_however_it_is_set(config: DictConfig, prefix: str) -> None:
    settings = SweepConfig(space={"optimizer.lr": [1, 2], "+optimizer.options.amsgrad": [True, False]})
    given = [f"{prefix}optimizer.lr=3", "++optimizer.options.amsgrad=true", "seed=1,2"]
    request = read_request(given, settings, config)
    assert [dimension.key for dimension in request.dimensions] == ["seed"]
    assert request.fixed == tuple(given[:2])


@pytest.mark.parametrize(
    "choice",
    [
        "1",
        "1e-4",
        "true",
        "null",
        "nan",
        "yes",
        "a\\b",
        "a\\",
        "it's",
        "\\'",
        "a,b",
        "a=b",
        " a ",
        "${x}",
        "caf\u00e9",
        "~",
    ],
)
def test_a_text_among_the_choices_is_that_text_in_the_trial(choice: str) -> None:
    (override,) = OverridesParser.create().parse_overrides(as_overrides({"name": choice}))
    assert override.value() == choice


def test_sweeps_of_the_command_line_add_dimensions_and_values_take_them_out(config: DictConfig) -> None:
    arguments = [
        "tasks=ner,ner+sentiment", "optimizer.lr=1e-4", "model.dropout=tag(log,interval(0.1,0.2))", "seed=range(1,4)",
    ]  # fmt: skip
    request = read_request(arguments, SweepConfig(space={"optimizer.lr": {"low": 0, "high": 1}}), config)
    assert request.fixed == ("optimizer.lr=1e-4",)
    assert request.dimensions == (
        Dimension("model.dropout", "float", 0.1, 0.2, log=True),
        Dimension("seed", "categorical", choices=(1, 2, 3)),
        TASKS,
    )


def test_values_become_overrides_that_hydra_reads_back() -> None:
    values = {"a": None, "b": True, "c": 1e-5, "d": "it's, so\\", "e": "ner+sentiment", "f": "[1, 2]"}
    read = OverridesParser.create().parse_overrides(as_overrides(values))
    assert [override.value() for override in read] == [None, True, 1e-5, "it's, so\\", "ner+sentiment", [1, 2]]


CHOICES = [
    "word", "two words", "a,b", "colère", "[neg]", "{x}", "it's", '"quoted"', "'quoted'", "a\\", "", "a: b", "x=y",
    "😂", "null", "true", "1e3", "1", "line\nline", None, False, 0.5, 3,
    ["f1", "f1_of_colère"], ["a, b", "[x]", "null", 1, None, True], [["a"], []], [],
    {"a": "two words", "b": [None, "é"]}, {},
]  # fmt: skip


def test_every_choice_reaches_the_trial_as_it_was_written(config: DictConfig) -> None:
    (dimension,) = read_request([], SweepConfig(space={"x": CHOICES}), config).dimensions
    read = [
        OverridesParser.create().parse_override(*as_overrides({"x": choice})).value() for choice in dimension.choices
    ]
    assert list(map(repr, read)) == list(map(repr, CHOICES))  # 1 is not True, and not 1.0
    assert all(dimension.holds(choice) for choice in CHOICES)
    assert not dimension.holds(["another"])
    distribution_of(dimension)  # which refuses what is no scalar


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("x=['f1','precision'],['precision','f1']", [["f1", "precision"], ["precision", "f1"]]),
        ("x=[f1],[\"f1_of_colère\",'a, b']", [["f1"], ["f1_of_colère", "a, b"]]),
        ("x={a:'two words'},{a:null,b:[true]}", [{"a": "two words"}, {"a": None, "b": [True]}]),
        ("x='null',null,'1',1,'two words',\"it's\"", ["null", None, "1", 1, "two words", "it's"]),
        ("x='[a]',[a]", ["[a]", ["a"]]),
    ],
)
def test_every_choice_on_the_command_line_reaches_the_trial(config: DictConfig, written: str, expected: Any) -> None:
    (dimension,) = read_request([written], SweepConfig(), config).dimensions
    read = [
        OverridesParser.create().parse_override(*as_overrides({"x": choice})).value() for choice in dimension.choices
    ]
    assert list(map(repr, read)) == list(map(repr, expected))


def test_a_choice_that_no_override_can_hold_is_refused_before_the_first_trial(config: DictConfig) -> None:
    with pytest.raises(InputError, match=r"space\.x: \{'colère': 2\} cannot be written as an override"):
        read_request([], SweepConfig(space={"x": [{"colère": 2}, None]}), config)


def test_the_metric_that_decides_is_told_to_the_trials_whatever_label_it_names(config: DictConfig) -> None:
    metric = "eval_mood_kind_f1_of_[neg], colère"
    overrides = _best_by_objective(SweepConfig(metric=metric, direction="minimize"), config_of("tasks=ner"))
    read = [OverridesParser.create().parse_override(override).value() for override in overrides]
    assert read == [False, metric]  # trainer.higher_is_better, trainer.metric_for_best


def test_probes_show_each_end_and_each_choice_once() -> None:
    assert probe_overrides([TASKS, SIZE]) == [
        ["batching.batch_size=8", "tasks=ner"],
        ["batching.batch_size=12", "tasks=ner+sentiment"],
    ]


def test_studies_of_neighbouring_seeds_propose_nothing_in_common() -> None:
    """Seed plus number would: what is proposed second with one seed would come first with the next."""
    proposed = []
    for seed in (1, 2):
        study = optuna.create_study()
        settings = SweepConfig(sampler="random", seed=seed)
        proposed.append([ask(study, settings, [RATE], None)[1] for _ in range(4)])
    assert not {str(one) for one in proposed[0]} & {str(one) for one in proposed[1]}


def test_the_choices_of_the_sweeper_are_the_samplers_pruners_and_studies_that_there_are() -> None:
    found = [list(choices_of(SweepConfig, name)) for name in ("sampler", "pruner", "arms")]
    assert found == [list(SAMPLERS), list(PRUNERS), list(SUBSETS)]
