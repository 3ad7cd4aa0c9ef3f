"""Typed, documented, and checked before anything is loaded."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints

import pytest
from omegaconf import OmegaConf

from multitask_bert import actions
from multitask_bert.config.action_table import ACTIONS
from multitask_bert.config.checks import NAME_RULE, check
from multitask_bert.config.schema import ExperimentConfig, HeadConfig, TaskConfig, is_lower_better
from multitask_bert.config.setting import setting, setting_of, value_problems
from multitask_bert.config.tree import from_tree, to_dict
from multitask_bert.config.without_effect import settings_without_effect
from multitask_bert.errors import InputError
from multitask_bert.heads import check_heads
from tests.composing import config_of


def problems_of(*overrides: str) -> list[str]:
    """The lines of the error with which these overrides are refused; empty where they are accepted."""
    try:
        config = config_of(*overrides)
        check(config)
        check_heads(config)
    except InputError as error:
        return str(error).splitlines()
    return []


def undocumented_fields(config: type, where: str = "") -> list[str]:
    """Fields, at any depth, that do not say what they mean."""
    found = []
    for name, hint in get_type_hints(config).items():
        (item,) = (item for item in fields(config) if item.name == name)
        if "setting" not in item.metadata or not setting_of(item).meaning:
            found.append(f"{where}{name}")
        for inner in (hint, *get_args(hint)):
            if isinstance(inner, type) and is_dataclass(inner):
                found += undocumented_fields(inner, f"{where}{name}.")
    return found


# What a config is made of


def test_every_field_says_what_it_means() -> None:
    assert undocumented_fields(ExperimentConfig) == []


def test_a_field_that_does_not_say_what_it_means_is_found() -> None:
    @dataclass
    class Loop:
        steps: int = 2
        epochs: int = setting(1, "")
        tasks: dict[str, TaskConfig] = setting(dict, "by name")

    Loop.__annotations__ = {"steps": int, "epochs": int, "tasks": dict[str, TaskConfig]}
    assert undocumented_fields(Loop) == ["steps", "epochs"]


@dataclass
class Loop:
    steps: int = setting(1, "updates", at_least=1)
    rate: float = setting(0.5, "share", more_than=0, below=1)
    shares: list[float] = setting(list, "shares", more_than=0, at_most=1)
    order: str = setting("given", "of the examples", choices={"given": "", "random": "shuffled"})
    mark: str | None = setting(None, "of comments", form=("#+", "be made of #"), only_for=("conll", "tsv"))


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("steps", 0, "steps=0: must be at least 1 (updates)"),
        ("rate", 0.0, "rate=0.0: must be more than 0 and less than 1 (share)"),
        ("rate", 1.0, "rate=1.0: must be more than 0 and less than 1 (share)"),
        ("rate", math.nan, "rate=nan: must be more than 0 and less than 1 and finite (share)"),
        ("shares", [1.0, 1.1], "shares=[1.0, 1.1]: each must be more than 0 and at most 1 (shares)"),
        ("order", "none", "order=none: choose one of given, random"),
        ("mark", "# ", "mark='# ': must be made of #"),
    ],
)
def test_a_value_that_its_field_does_not_allow_is_refused(field: str, value: Any, problem: str) -> None:
    assert list(value_problems({"loop": Loop(**{field: value})}["loop"], "loop.")) == [f"loop.{problem}"]


def test_values_at_the_bounds_of_their_fields_are_accepted() -> None:
    assert list(value_problems(Loop(steps=1, rate=0.999, shares=[1.0], order="random", mark="##"))) == []
    assert list(value_problems(Loop(shares=[], mark=None))) == []


def test_a_field_describes_its_choices_bounds_and_where_it_counts() -> None:
    described = {item.name: setting_of(item).described() for item in fields(Loop)}
    assert described["rate"] == "share; more than 0 and less than 1"
    assert described["order"] == "of the examples; given | random (shuffled)"
    assert described["mark"] == "conll, tsv: of comments"


def test_a_config_survives_the_way_to_plain_dicts_and_back() -> None:
    config = config_of("tasks=ner+masakhaner_swa", "optimizer.lr=0.001", "model=tiny")
    assert from_tree(OmegaConf.create(to_dict(config))) == config


@pytest.mark.parametrize("action", ACTIONS)
def test_every_action_that_may_be_chosen_has_a_function(action: str) -> None:
    assert inspect.isfunction(getattr(actions, action))


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_reads_keys_that_exist(action: str) -> None:
    for key in ACTIONS[action].reads:
        assert OmegaConf.select(OmegaConf.structured(ExperimentConfig), key, default="missing") != "missing"


# Unknown keys and wrong types


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+optimizer.lrr=1", "optimizer.lrr: no such key; did you mean optimizer.lr?"),
        ("+lr=1", "lr: no such key; did you mean optimizer.lr?"),
        ("+optimizer.warmup_ratio=0.1", "optimizer.warmup_ratio: no such key; did you mean scheduler.warmup_ratio?"),
        ("+trainr.num_epochs=1", "trainr: no such key; did you mean trainer?"),
        ("+balancing.foo=1", "balancing.foo: no such key (known here: _target_, options)"),
        (
            "+tasks.ner.heads.ner_head.wieght=2",
            "tasks.ner.heads.ner_head.wieght: no such key; did you mean tasks.ner.heads.ner_head.weight?",
        ),
        ("+tasks.ner.source.fromat=csv", "tasks.ner.source.fromat: no such key; did you mean tasks.ner.source.format?"),
    ],
)
def test_an_unknown_key_is_refused_by_its_full_name_with_the_nearest(override: str, message: str) -> None:
    assert problems_of(override) == [message]


def test_all_unknown_keys_are_named_at_once() -> None:
    names = [line.partition(":")[0] for line in problems_of("+foo=1", "+optimizer.lrr=1", "+mixing.rul=x")]
    assert sorted(names) == ["foo", "mixing.rul", "optimizer.lrr"]


@pytest.mark.parametrize(
    "override",
    ["+optimizer.options.amsgrad=true", "+model.architecture.type_vocab_size=2", "+logger.mlflow.nested.x=1"],
)
def test_dicts_of_anything_take_any_key(override: str) -> None:
    assert problems_of(override) == []


@pytest.mark.parametrize(
    ("tree", "field"),
    [
        ({"seed": "one"}, "seed"),
        ({"optimizer": {"lr": "fast"}}, "optimizer.lr"),
        (
            {"tasks": {"mine": {"heads": {"mood": {"type": "classification", "weight": "heavy"}}}}},
            "tasks.mine.heads.mood.weight",
        ),
        ({"tasks": {"mine": 3}}, "tasks.mine"),
        ({"data_root": "${nowhere}"}, "data_root"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_full_name(tree: dict[str, object], field: str) -> None:
    expected = rf"^{field}: .*(needs a (whole )?number, but found|Interpolation|where a dict is needed)"
    with pytest.raises(InputError, match=expected):
        from_tree(OmegaConf.create(tree))


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("heads.mood", "metrics", "f1"),
        ("heads.mood", "labels", "chanya"),
        ("heads.mood", "columns", "a"),
        ("source", "choices", "choices"),
    ],
)
def test_one_value_where_a_list_belongs_is_refused_with_the_list_to_write(part: str, name: str, value: str) -> None:
    tree = OmegaConf.create({"tasks": {"mine": {"heads": {"mood": {"type": "classification"}}}}})
    OmegaConf.update(tree, f"tasks.mine.{part}.{name}", value, force_add=True)
    with pytest.raises(InputError) as refusal:
        from_tree(tree)
    assert str(refusal.value) == f"tasks.mine.{part}.{name}: needs a list, also of one; write `{name}: [{value}]`"


def test_a_required_value_that_is_missing_is_named() -> None:
    tree = OmegaConf.create({"tasks": {"mine": {"source": {"format": "csv"}, "heads": {"mood": {}}}}})
    with pytest.raises(InputError, match=r"tasks\.mine\.heads\.mood\.type.*missing"):
        from_tree(tree)


# Values that cannot be right


@pytest.mark.parametrize(
    ("override", "beginning"),
    [
        ("action=trian", "action=trian: choose one of train, "),
        ("scheduler.shape=round", "scheduler.shape=round: choose one of linear, cosine, constant"),
        ("mixing.rule=alternating", "mixing.rule=alternating: choose one of round_robin, "),
        ("model.pooling=first", "model.pooling=first: choose one of pooler, cls, mean, max"),
        ("tasks.ner.heads.ner_head.pooling=maen", "tasks.ner.heads.ner_head.pooling=maen: choose one of pooler, "),
        ("tasks.ner.heads.ner_head.type=tags", "tasks.ner.heads.ner_head.type=tags: choose one of classification, "),
        ("seed=-1", "seed=-1: must be at least 0"),
        ("optimizer.lr=-1e-5", "optimizer.lr=-1e-05: must be at least 0"),
        ("optimizer.lr=nan", "optimizer.lr=nan: must be at least 0"),
        ("optimizer.lr=inf", "optimizer.lr=inf: must be at least 0 and finite (peak learning rate"),
        ("mixing.temperature=0.5", "mixing.temperature=0.5: must be at least 1"),
        ("batching.batch_size=0", "batching.batch_size=0: must be at least 1"),
        ("batching.max_length=2", "batching.max_length=2: must be at least 3"),
        ("trainer.num_epochs=0", "trainer.num_epochs=0: must be at least 1"),
        ("trainer.patience=0", "trainer.patience=0: must be at least 1"),
        ("trainer.max_grad_norm=0", "trainer.max_grad_norm=0.0: must be more than 0"),
        ("trainer.eval_shares=[0.5,1.5]", "trainer.eval_shares=[0.5, 1.5]: each must be more than 0 and at most 1"),
        ("scheduler.warmup_ratio=1.5", "scheduler.warmup_ratio=1.5: must be at least 0 and at most 1"),
        ("scheduler.warmup_ratio=-0.1", "scheduler.warmup_ratio=-0.1: must be at least 0 and at most 1"),
        ("model.dropout=1", "model.dropout=1.0: must be at least 0 and less than 1"),
        ("tasks.ner.heads.ner_head.weight=-1", "tasks.ner.heads.ner_head.weight=-1.0: must be at least 0"),
        ("tasks.ner.source.dev_fraction=1.0", "tasks.ner.source.dev_fraction=1.0: must be at least 0 and less than 1"),
        ("+logger.mine=3", "logger.mine: must be a dict that names its class in _target_"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_by_its_full_name(override: str, beginning: str) -> None:
    (line,) = problems_of(override)
    assert line.startswith(beginning)


@pytest.mark.parametrize(
    ("override", "beginning"),
    [
        ("dropout=1", "dropout=1.0: must be at least 0 and less than 1"),
        ("hidden_size=0", "hidden_size=0: must be at least 1"),
        ("activation=relu", "activation=relu: choose one of tanh, gelu"),
        ("label_smoothing=1", "label_smoothing=1.0: must be at least 0 and less than 1"),
        ("lr_factor=0", "lr_factor=0.0: must be more than 0"),
        ("lr_factor=inf", "lr_factor=inf: must be more than 0 and finite"),
        ("init=zeros", "init=zeros: choose one of normal, uniform"),
        ("unknown_labels=skip", "unknown_labels=skip: choose one of error, wrong"),
        ("stride=-1", "stride=-1: must be at least 0"),
        ("max_answer_length=0", "max_answer_length=0: must be at least 1"),
    ],
)
def test_a_value_of_a_head_that_cannot_be_right_is_refused_by_its_full_name(override: str, beginning: str) -> None:
    (line,) = problems_of(f"tasks.ner.heads.ner_head.{override}")
    assert line.startswith(f"tasks.ner.heads.ner_head.{beginning}")


def test_values_at_the_edge_are_accepted() -> None:
    edges = (
        "optimizer.lr=0",
        "mixing.temperature=1",
        "scheduler.warmup_ratio=1",
        "model.dropout=0",
        "trainer.patience=1",
    )
    assert problems_of("seed=0", "trainer.max_steps=null", *edges) == []


@pytest.mark.parametrize(
    ("overrides", "beginning"),
    [
        (
            ["tasks=ner", "trainer.metric_for_best=eval_mean_f2"],
            "trainer.metric_for_best=eval_mean_f2: no head reports it; ",
        ),
        (
            ["tasks=ner", "trainer.metric_for_best=eval_sentiment_sentiment_head_f1"],
            "trainer.metric_for_best=eval_sentiment_sentiment_head_f1: no head reports it; ",
        ),
        (
            ["tasks=ner", "tasks.ner.source.dev_fraction=0.5", "tasks.ner.source.test_fraction=0.5"],
            "tasks.ner.source: dev_fraction and test_fraction together leave nothing to train on",
        ),
        (
            [
                "tasks=sentiment",
                "tasks.sentiment.heads.sentiment_head.calibrate=true",
                "tasks.sentiment.source.dev_fraction=0",
                "tasks.sentiment.source.test_fraction=0",
            ],
            "tasks.sentiment.heads.sentiment_head.calibrate=true: needs a dev set; name a file in ",
        ),
        (["batching.stride=128"], "batching.stride=128: must be below batching.max_length=128"),
        (["action=evaluate"], "run_dir: action=evaluate needs the folder of an earlier run"),
        (["action=predict", "input=a.txt"], "run_dir: action=predict needs the folder of an earlier run"),
        (["action=predict", "run_dir=old"], "input: action=predict needs a file (text, .csv, .tsv or .jsonl)"),
        (["action=predict", "run_dir=old", "input=a.txt", "output=./a.txt"], "output=./a.txt: this is the input"),
        (["action=inspect", "~tasks"], "tasks: none is chosen"),
        (["model.pretrained=null"], "model.pretrained: null needs model.architecture"),
        (["~tasks"], "tasks: none is chosen"),
    ],
)
def test_values_that_contradict_each_other_are_refused(overrides: list[str], beginning: str) -> None:
    (line,) = problems_of(*overrides)
    assert line.startswith(beginning)


def test_all_wrong_values_are_named_at_once() -> None:
    lines = problems_of(
        "batching.batch_size=0", "scheduler.warmup_ratio=2", "mixing.rule=x", "tasks.ner.heads.ner_head.weight=-1"
    )
    assert sorted(line.partition("=")[0] for line in lines) == [
        "batching.batch_size", "mixing.rule", "scheduler.warmup_ratio", "tasks.ner.heads.ner_head.weight",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("task", "head", "line"),
    [
        ("mine/1", "mood", f"tasks.mine/1: a task's name {NAME_RULE}"),
        ("mine", "mood.x", f"tasks.mine.heads.mood.x: a head's name {NAME_RULE}"),
        ("caf\u00e9", "mood", f"tasks.caf\u00e9: a task's name {NAME_RULE}"),
        ("mine", "e\u0301motion", f"tasks.mine.heads.e\u0301motion: a head's name {NAME_RULE}"),
    ],
)
def test_a_name_that_cannot_be_part_of_a_metric_is_refused(task: str, head: str, line: str) -> None:
    with pytest.raises(InputError) as refused:
        check(
            ExperimentConfig(
                tasks={task: TaskConfig(heads={head: HeadConfig("classification")})}, model=config_of().model
            )
        )
    assert line in str(refused.value).splitlines()


def test_two_heads_whose_metrics_would_have_one_name_are_refused() -> None:
    head = HeadConfig("classification")
    tasks = {"a": TaskConfig(heads={"b_c": head}), "a_b": TaskConfig(heads={"c": head})}
    with pytest.raises(InputError, match=r"tasks\.a_b\.heads\.c: .* tasks\.a\.heads\.b_c"):
        check(ExperimentConfig(tasks=tasks, model=config_of().model))


# Code that a config may name


@pytest.mark.parametrize(
    ("override", "name"),
    [
        ("optimizer._target_=os.system", "optimizer._target_"),
        ("optimizer._target_=torch.optim.lr_scheduler.types.os.system", "optimizer._target_"),
        ("trainer._target_=multitask_bert.actions.subprocess.Popen", "trainer._target_"),
        ("balancing._target_=multitask_bertish.Balancer", "balancing._target_"),
        ("balancing._target_=multitask_bert.training.balancin.FixedWeights", "balancing._target_"),
        ("logger.mlflow._target_=subprocess.Popen", "logger.mlflow._target_"),
        ("+logger.mlflow.extra={_target_: os.system, command: ls}", "logger.mlflow.extra._target_"),
        ("+optimizer.options.hooks=[{_target_: os.system}]", "optimizer.options.hooks.0._target_"),
    ],
)
def test_a_target_that_is_not_a_class_of_ours_is_refused_at_any_depth(override: str, name: str) -> None:
    (line,) = problems_of(override)
    assert line.startswith(f"{name}=")


def test_an_optimizer_of_torch_and_a_class_of_ours_are_allowed() -> None:
    assert problems_of(
        "optimizer._target_=torch.optim.RMSprop",
        "balancing._target_=multitask_bert.training.balancing.FixedWeights",
        "trainer._target_=multitask_bert.training.trainer.Trainer.from_config",
    ) == []  # fmt: skip


# Settings that change nothing


@pytest.mark.parametrize(
    ("overrides", "beginning"),
    [
        (["mixing.temperature=3"], "mixing.temperature=3 has no effect with mixing.rule=round_robin"),
        (
            ["mixing=annealed", "mixing.when_exhausted=stop"],
            "mixing.when_exhausted=stop has no effect with mixing.rule=annealed",
        ),
        (
            ["batching.micro_batch_size=32"],
            "batching.micro_batch_size=32 has no effect: batching.batch_size=16 is smaller",
        ),
        (["trainer.eval_every=20", "trainer.max_steps=20"], "trainer.eval_every=20 has no effect: "),
        (["trainer.eval_every=20", "trainer.eval_shares=[0.5]"], "trainer.eval_every=20 has no effect: "),
        (
            ["trainer.num_epochs=3", "trainer.min_steps=null", "trainer.patience=2"],
            "trainer.patience=2 has no effect: ",
        ),
        (["model=tiny", "model.pretrained=bert-base-uncased"], "model.architecture has no effect: "),
        (["model=tiny", "model.sha256=abc"], "model.sha256 has no effect: "),
        (["run_dir=outputs/old"], "run_dir=outputs/old has no effect with action=train"),
        (["input=a.txt"], "input=a.txt has no effect with action=train"),
        (
            ["tasks=wnut17", "tasks.wnut17.source.dev_fraction=0.2"],
            "tasks.wnut17.source.dev_fraction=0.2 has no effect: tasks.wnut17.source.dev names a file",
        ),
        (["tasks=wnut17", "tasks.wnut17.source.dev=null"], "tasks.wnut17.source.downloads.dev has no effect: "),
        (
            ["tasks=ner", "tasks.ner.heads.ner_head.weight=0"],
            "nothing is learned: tasks.ner.heads.ner_head.weight is 0",
        ),
        (["optimizer.lr=0"], "nothing is learned: optimizer.lr=0"),
        (
            ["tasks=ner", "tasks.ner.heads.ner_head.class_weights={O: 0, B-PER: 0}"],
            "tasks.ner.heads.ner_head.class_weights: every label named there has 0; only others",
        ),
    ],
)
def test_a_setting_without_effect_is_told(overrides: list[str], beginning: str) -> None:
    (line,) = settings_without_effect(config_of(*overrides))
    assert line.startswith(beginning)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["mixing=temperature", "mixing.temperature=3"],
        ["mixing.when_exhausted=stop"],
        ["batching.micro_batch_size=16"],
        ["trainer.eval_every=19", "trainer.max_steps=20"],
        ["trainer.num_epochs=4", "trainer.min_steps=null", "trainer.patience=2"],
        ["trainer.num_epochs=3", "trainer.min_steps=400", "trainer.patience=2"],  # perhaps many more epochs
        ["trainer.patience=5", "trainer.eval_every=10"],
        ["trainer.patience=5", "trainer.eval_shares=[0.25, 0.5]"],
        ["tasks.ner.source.dev_fraction=0.2"],
        ["tasks=ner+sentiment", "tasks.ner.heads.ner_head.weight=0"],
        ["tasks=ner", "tasks.ner.heads.ner_head.class_weights={O: 0, B-PER: 1}"],
    ],
)
def test_a_setting_with_an_effect_is_not_told(overrides: list[str]) -> None:
    assert list(settings_without_effect(config_of(*overrides))) == []


@pytest.mark.parametrize("labels", [[False, True], ["maybe", True]])
def test_unquoted_yes_and_no_are_refused_with_the_quoted_form(labels: list[object]) -> None:
    head = {"type": "classification", "column": "x", "labels": labels}
    tree = OmegaConf.create({"tasks": {"mine": {"source": {"format": "csv"}, "heads": {"mood": head}}}})
    with pytest.raises(InputError, match=r"^tasks\.mine\.heads\.mood\.labels: .*labels: \['no', 'yes'\]"):
        from_tree(tree)


def test_names_in_a_config_are_composed_as_those_in_files_are() -> None:
    parts = "cole\u0301re"  # e and its accent apart, as some editors write it
    head = {"type": "classification", "column": parts, "labels": [parts, "joie"], "class_weights": {parts: 2}}
    head |= {"metrics": [f"f1_of_{parts}"], "names": [parts, "joie"]}
    source = {"format": "csv", "train": f"{parts}.csv", "text": parts, "choices": [parts]}
    tasks = {"mine": {"source": source, "heads": {"mood": head}}}
    study = {"expected": {f"eval_mine_mood_f1_of_{parts}": {"score": 0.5, "tolerance": 0.1}}}
    metric = f"eval_mine_mood_f1_of_{parts}"
    config = from_tree(OmegaConf.create({"tasks": tasks, "study": study, "trainer": {"metric_for_best": metric}}))
    whole, task = "col\u00e9re", config.tasks["mine"]
    mood, read = task.heads["mood"], task.source
    assert (mood.column, mood.labels, mood.names) == (whole, [whole, "joie"], [whole, "joie"])
    assert (mood.class_weights, mood.metrics) == ({whole: 2}, [f"f1_of_{whole}"])
    assert (read.text, read.choices, read.train) == (whole, [whole], f"{parts}.csv")  # a file's name is the disk's
    assert [*config.study.expected, config.trainer.metric_for_best] == [f"eval_mine_mood_f1_of_{whole}"] * 2
    source |= {"format": "parallel"}
    assert from_tree(OmegaConf.create({"tasks": tasks})).tasks["mine"].source.text == parts


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("on_bad_record", "ignore", "choose one of error, skip"),
        ("overlapping_entities", "first", "choose one of error, longest"),
        ("unspecified", "class", "choose one of missing, label"),
        ("delimiter", ";;", "must be one character"),
        ("comments", " ", "must say how comment lines begin"),
    ],
)
def test_options_of_a_source_that_cannot_work_are_refused(field: str, value: str, message: str) -> None:
    tree = {"tasks": {"mine": {"source": {"format": "csv", field: value}}}}
    with pytest.raises(InputError, match=rf"tasks\.mine\.source\.{field}=.*{message}"):
        check(from_tree(OmegaConf.create(tree)))


def test_options_that_a_format_does_not_read_are_told() -> None:
    source = {"format": "jsonl", "comments": "# ", "header": False, "delimiter": ";", "unspecified": "label"}
    config = from_tree(OmegaConf.create({"tasks": {"mine": {"source": source}}}))
    told = "\n".join(settings_without_effect(config))
    of_formats = {"comments": "conll", "header": "csv and tsv", "delimiter": "csv", "unspecified": "conllu"}
    for field, formats in of_formats.items():
        assert re.search(rf"tasks\.mine\.source\.{field}=.* has no effect: it is for format {formats}$", told, re.M)


@pytest.mark.parametrize(
    ("key", "is_lower"),
    [
        ("eval_loss", True),
        ("eval_ner_loss", True),
        ("eval_sim_score_mse", True),
        ("eval_fin_kind_f1_of_loss", False),  # a label called loss
        ("eval_fin_kind_accuracy_without_loss", False),
        ("eval_mean_f1", False),
    ],
)
def test_lower_is_better_for_losses_and_errors_and_not_for_a_label_called_loss(key: str, is_lower: bool) -> None:
    assert is_lower_better(key) is is_lower


def test_max_steps_may_be_lower_than_the_steps_that_a_recipe_asks_for() -> None:
    assert config_of("model=minilm", "trainer.max_steps=100").trainer.min_steps == 400
    assert problems_of("model=minilm", "trainer.min_steps=300", "trainer.max_steps=100") == [
        "trainer.min_steps=300: must be at most trainer.max_steps=100"
    ]
