"""What a run is made of: `ExperimentConfig` and its children, composed by Hydra from `conf/`.

Every field carries one line: what it means, its unit, and what null does. A key that is not a field here is refused in
tree.py; values that cannot be right, in checks.py. This file imports neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from omegaconf import MISSING


@dataclass
class DownloadConfig:
    """Where a public file comes from, and how to know that it is the right one."""

    url: str = MISSING  # full address
    sha256: str = MISSING  # hex digest of the file's bytes


@dataclass
class SourceConfig:
    """The files of a task and how to read them; what each format looks like: docs/formats.md."""

    format: str = MISSING  # conll | conllu | csv | tsv | jsonl | squad | parallel | parquet | datasets | samples
    folder: str = ""  # folder of the files, under data_root unless absolute
    train: Optional[str] = None  # training file under `folder`; parallel: its folder, or train.*; datasets: the split
    dev: Optional[str] = None  # evaluation file; null: cut from train by dev_fraction
    test: Optional[str] = None  # test file; null: cut from train by test_fraction
    dev_fraction: float = 0.1  # share of train (0 to 1, of distinct texts) that becomes dev where no dev file is named
    test_fraction: float = 0.1  # share of train that becomes test where no test file is named; 0: no test set
    encoding: str = "utf-8"  # of text files, as Python names it
    text: Optional[str] = None  # column (field, parallel: file) with the text; null where `words` names words
    text_pair: Optional[str] = None  # column with the second text; null: single texts
    words: Optional[str] = None  # column (field, parallel: file) with words: a list, or one string with spaces
    word_column: int = 0  # conll: number of the column with the word, from 0; negative counts from the end
    choices: Optional[List[str]] = None  # columns with the texts to choose from, or the one column that lists them
    quoted: bool = True  # tsv: fields are quoted like CSV; false: a `"` is data like any other character
    delimiter: str = ","  # csv: the character between fields
    header: bool = True  # csv, tsv: the first line names the columns; false: they go by number, as in conll
    comments: Optional[str] = None  # conll: how a comment line before a sentence begins, as "# "; null: there are none
    unspecified: str = "missing"  # conllu: a column that is `_` in a whole sentence: missing (not scored) | label
    on_bad_record: str = "error"  # a record that cannot be read: error | skip (left out; counted, with its line)
    overlapping_entities: str = "error"  # by characters: error | longest (of those that overlap; counted)
    path: Optional[str] = None  # datasets: name on the hub, or a folder (under `folder`) that save_to_disk wrote
    name: Optional[str] = None  # datasets: name of the configuration (subset); null: the only one
    revision: Optional[str] = None  # datasets, hub: commit, tag or branch; null: the newest
    options: Dict[str, Any] = field(default_factory=dict)  # a reader of your own: its own settings
    samples: Optional[str] = None  # samples: which embedded synthetic corpus, ner or sentiment
    downloads: Dict[str, DownloadConfig] = field(default_factory=dict)  # by split (parallel: split/file): its address


@dataclass
class HeadConfig:
    """One prediction over a task's text."""

    type: str = MISSING  # classification | multilabel | regression | tagging | span | choice
    column: Optional[str] = None  # csv, tsv: name of the label's column; conll: its number (negative: from the end)
    columns: Optional[List[str]] = None  # multilabel: columns of 0 and 1, one per label; null: labels are in `column`
    separator: str = ","  # multilabel: what stands between the labels in `column`, where it is no JSON list
    weight: float = 1.0  # factor of this head's mean loss in the step's loss
    lr_factor: Optional[float] = None  # the head's rate as a multiple of optimizer.lr; null: optimizer.head_lr_factor
    init: Optional[str] = None  # how its weights are drawn: normal | uniform; null: model.head_init
    metrics: List[str] = field(default_factory=list)  # the first is the headline; empty: the head type's own
    labels: Optional[List[str]] = None  # all labels (entity types, where tags are spans); null: those found in train
    names: Any = None  # names of the numbers 0, 1, … in `column`: a list, or a file in source.folder with one a line
    unknown_labels: str = "error"  # a label of dev or test that the head does not know: error | wrong (scored as such)
    scheme: str = "iob2"  # tagging: iob2 | iob1 | bioes (entity spans) or plain (one tag per word, as parts of speech)
    constrained: bool = False  # tagging: predict the best valid IOB2 sequence, not the best tag of each word
    stride: int = 64  # span: pieces that two neighbouring windows of a long context share
    max_answer_length: int = 30  # span: pieces in the longest answer that is predicted
    no_answer_threshold: Optional[float] = None  # span: margin over "none" in logits; null: 0 if train has "none"
    range: Optional[List[float]] = None  # regression: lowest and highest value, learnt as 0 and 1; null: as they are
    clip: bool = False  # regression: predictions outside `range` are moved to its nearer end
    threshold: Any = 0.5  # multilabel: probability of a predicted label | tuned (on dev, one for all) | tuned_per_label
    pooling: Optional[str] = None  # text-level heads: pooler | cls | mean | max; null: model.pooling
    dropout: Optional[float] = None  # rate before the head's linear layers; null: as the encoder (model.dropout)
    hidden_size: Optional[int] = None  # width of an extra layer before the linear one; null: none
    activation: str = "tanh"  # after the extra layer: tanh | gelu
    class_weights: Any = None  # classification, tagging: factor of the loss by label | balanced (by counts in train)
    options: Dict[str, Any] = field(default_factory=dict)  # a head type of your own: its own settings
    label_smoothing: float = 0.0  # classification, tagging, choice: share of the target (0 to below 1) spread over all


@dataclass
class TaskConfig:
    """A named data source and what is to be learnt from it; one YAML in conf/tasks/."""

    source: SourceConfig = field(default_factory=SourceConfig)  # the files, and how to read them
    heads: Dict[str, HeadConfig] = field(default_factory=dict)  # by name: what is learnt from them; at least one
    num_epochs: Optional[float] = None  # times through its examples in the whole run; null: as mixing and trainer say
    joint_accuracy: bool = False  # also score the share of examples for which every head is right


@dataclass
class RecipeConfig:
    """What an encoder learns well with; the other groups refer to it, as conf/optimizer/adamw.yaml does."""

    name: Optional[str] = None  # whose recipe it is, as runs say it; null: the general one
    source: Optional[str] = None  # paper, or the page with what was measured
    lr: float = 5e-5  # optimizer.lr
    head_lr_factor: float = 1.0  # optimizer.head_lr_factor
    layer_decay: float = 1.0  # optimizer.layer_decay
    weight_decay: float = 0.01  # optimizer.weight_decay
    warmup_ratio: float = 0.1  # scheduler.warmup_ratio
    num_epochs: int = 5  # trainer.num_epochs
    min_steps: Optional[int] = None  # trainer.min_steps
    head_init: str = "normal"  # model.head_init


@dataclass
class ModelConfig:
    """The shared encoder."""

    pretrained: Optional[str] = None  # directory (also RUN/model), hub name or pkg://package/path; null: random weights
    revision: Optional[str] = None  # hub: commit, tag or branch; null: the newest
    sha256: Optional[str] = None  # hex digest that the weights file must have; null: not checked
    tokenizer: Optional[str] = None  # directory, hub name or pkg://package/path; null: as `pretrained`
    architecture: Dict[str, Any] = field(default_factory=dict)  # random weights: model_type, sizes (as in config.json)
    dropout: Optional[float] = None  # rate everywhere in encoder and heads, from 0 to below 1; null: the encoder's own
    attention_dropout: Optional[float] = None  # rate of the weights of attention; null: as `dropout`
    pooling: str = "pooler"  # how a text becomes one vector: pooler (the encoder's own, else cls) | cls | mean | max
    head_init: str = "normal"  # how heads' weights are drawn: normal (spread 0.02) | uniform (1/sqrt(width), as torch)
    recipe: RecipeConfig = field(default_factory=RecipeConfig)  # what this encoder learns well with


@dataclass
class OptimizerConfig:
    """The optimizer, made once; embeddings, layers and heads may have rates and decays of their own."""

    _target_: str = "torch.optim.AdamW"  # class from torch.optim
    lr: float = 5e-5  # peak learning rate of the encoder
    head_lr_factor: float = 1.0  # the heads' rate as a multiple of lr; of one head: tasks.<name>.heads.<name>.lr_factor
    layer_decay: float = 1.0  # each layer's rate as a share (above 0, to 1) of that of the layer above it
    frozen_layers: int = 0  # how many of the encoder's layers, from the lowest up, do not learn
    frozen_embeddings: bool = False  # the encoder's embeddings do not learn
    unfreezing: List[int] = field(default_factory=list)  # by epoch, how many layers from the top learn; then all
    weight_decay: float = 0.01  # decoupled decay of matrices; biases and norms have none
    head_weight_decay: Optional[float] = None  # that of the heads' matrices; null: weight_decay
    embedding_weight_decay: Optional[float] = None  # that of the embeddings; null: weight_decay
    options: Dict[str, Any] = field(default_factory=dict)  # further keyword arguments of the class


@dataclass
class SchedulerConfig:
    """The learning rate over the run, as a factor of optimizer.lr."""

    shape: str = "linear"  # linear (to 0) | cosine (to 0) | constant
    warmup_ratio: float = 0.1  # share of all steps (0 to 1) in which the rate rises from 0 to its peak


@dataclass
class MixingConfig:
    """Which task is next."""

    rule: str = "round_robin"  # round_robin | proportional | temperature | annealed
    when_exhausted: str = "spread"  # round_robin: spread | cycle | stop (see multitask_bert/data/mixing.py)
    temperature: float = 2.0  # temperature: a task is drawn with p ~ batches^(1/temperature), 1 or more
    options: Dict[str, Any] = field(default_factory=dict)  # a rule of your own: its keyword arguments
    steps_per_epoch: Optional[int] = None  # drawn rules: batches in an epoch; null: as many as there are


@dataclass
class BalancingConfig:
    """How the losses of several heads become one."""

    _target_: str = "multitask_bert.training.balancing.FixedWeights"  # class; gets the heads' weights
    options: Dict[str, Any] = field(default_factory=dict)  # further keyword arguments of the class


@dataclass
class AveragingConfig:
    """Averages of the weights over training, evaluated beside the plain ones; the better of the two is kept."""

    kind: str = "none"  # none | ema (exponential moving average over steps) | last (mean over evaluations)
    decay: float = 0.99  # ema: share (0 to below 1) of the average that stays at each step
    start: float = 0.0  # share of the run's steps (0 to below 1) before the average begins


@dataclass
class BatchingConfig:
    """How examples become batches."""

    layout: str = "padded"  # padded: one example per row | packed: one row, without padding (or nearly)
    batch_size: int = 16  # examples per task and step
    max_tokens: Optional[int] = None  # places (with padding) per task and step, where that is fewer than batch_size
    micro_batch_size: Optional[int] = None  # examples per forward pass; null: all; but for dropout the step is the same
    micro_batch_tokens: Optional[int] = None  # places per forward pass; null: what half of the free memory holds
    eval_batch_size: int = 64  # examples per forward pass when evaluating and predicting
    eval_max_tokens: int = 4096  # places (with padding) per forward pass then, where that is fewer
    max_length: int = 128  # word pieces per text, special tokens included; longer texts are cut (and counted)
    sort_window: int = 50  # batches within which examples are sorted by length after shuffling; 1: fully random
    num_workers: int = 0  # processes that collate batches in the background; 0: none
    encoding_processes: Optional[int] = None  # that cut texts into pieces; null: one, and all cores for big files


@dataclass
class TrainerConfig:
    """The training loop."""

    _target_: str = "multitask_bert.training.trainer.Trainer.from_config"  # what hydra.utils.instantiate makes
    num_epochs: int = 5  # times through every task's training examples
    min_steps: Optional[int] = None  # optimizer updates at least: epochs are added until there are as many; null: none
    update: str = "task"  # task: a step learns from one task's batch | round: from one batch of every task at once
    max_steps: Optional[int] = None  # optimizer updates after which training ends; null: after num_epochs
    eval_every: Optional[int] = None  # steps between evaluations; null: at the end of every epoch
    eval_shares: List[float] = field(default_factory=list)  # evaluate at these shares of the run's steps instead
    metric_for_best: Optional[str] = None  # key of the one that decides; null: eval_mean_f1, else eval_mean_score
    higher_is_better: Optional[bool] = None  # null: false for losses and errors, else true
    keep_best_per_head: bool = False  # also keep the weights of each head's own best step, and test that head with them
    patience: Optional[int] = None  # evaluations without a new best after which training stops; null: never
    restart_collapsed: bool = False  # half done and a head learnt nothing: begin anew, once, with a longer warmup
    max_grad_norm: Optional[float] = 1.0  # length to which longer gradients are clipped; null: not clipped
    on_non_finite: str = "stop"  # at a loss that is infinite or no number: stop | skip (the step is left out, counted)
    save_every: Optional[int] = None  # steps between checkpoints to go on from; null: one at each evaluation
    keep_last: int = 2  # of these, how many stay while the run goes on; 0: none are written
    log_every: int = 10  # steps between hand-overs to the loggers (each step has its own line all the same)
    device: str = "auto"  # auto | cpu | cuda | cuda:N | mps
    precision: str = "fp32"  # of products: fp32 | bf16 | fp16 (with a scaled loss); weights stay fp32
    tf32: bool = False  # CUDA: fp32 products of 10 bits, several times quicker on cards that have them
    gradient_checkpointing: bool = False  # compute activations twice instead of keeping them: less memory, 1/3 slower
    compile: bool = False  # torch.compile the encoder: pays on some GPUs after a minute or more, never on a CPU


@dataclass
class ExpectedScore:
    """What a score is to be; its key, as in results.json, is that of `study.expected`."""

    score: float = MISSING  # as in results.json: 0.925, not 92.5
    tolerance: float = MISSING  # how far the mean over the seeds may be from it, in the same unit
    split: str = "test"  # eval | test: on which set
    at_least: bool = False  # a mean that is higher passes, however much higher


@dataclass
class StudyConfig:
    """What is to come out, and who says so; `verify=true` trains with each seed and compares."""

    source: Optional[str] = None  # paper with its address, or repository and file; own studies: the page with the runs
    table: Optional[str] = None  # which table, row and column there
    seeds: List[int] = field(default_factory=list)  # one run each
    expected: Dict[str, ExpectedScore] = field(default_factory=dict)  # by key, as eval_ner_ner_head_f1
    caveats: Optional[str] = None  # what is not as it was there, and why the number may differ
    status: Optional[str] = None  # when, where and with which commit it was run; or that it was not yet


@dataclass
class ExperimentConfig:
    """Everything that a run needs to know."""

    action: str = "train"  # train | evaluate | inspect | predict | reproduce | report | upload
    name: Optional[str] = None  # of the run in the loggers (of several, with trial and seed); null: its tasks, joined
    seed: int = 1  # of weights, dropout, order of examples and splits
    deterministic: Optional[bool] = None  # the same bits from the same seed and machine; null: on a CPU yes, else no
    data_root: str = "data"  # folder of the tasks' files
    verify: bool = False  # train: once per seed of `study`, then compare with what it expects
    resume: bool = False  # train: go on from the last checkpoint in run_dir (or hydra.run.dir), if there is one
    run_dir: Optional[str] = None  # folder of an earlier run, for actions on it and `resume`; report: of a sweep
    input: Optional[str] = None  # predict: a text, .csv, .tsv or .jsonl file, one of the run's own, or - for stdin
    output: Optional[str] = None  # predict: the JSONL file to write, made anew; null: standard output
    model: ModelConfig = field(default_factory=ModelConfig)  # conf/model: the shared encoder
    tasks: Dict[str, TaskConfig] = field(default_factory=dict)  # conf/tasks, by name: sources and heads
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)  # conf/optimizer
    scheduler: SchedulerConfig = field(default_factory=SchedulerConfig)  # conf/scheduler: the rate over the run
    mixing: MixingConfig = field(default_factory=MixingConfig)  # conf/mixing: which task is next
    balancing: BalancingConfig = field(default_factory=BalancingConfig)  # conf/balancing: how losses become one
    averaging: AveragingConfig = field(default_factory=AveragingConfig)  # conf/averaging: averages of the weights
    batching: BatchingConfig = field(default_factory=BatchingConfig)  # conf/batching: how examples become batches
    trainer: TrainerConfig = field(default_factory=TrainerConfig)  # conf/trainer: the training loop
    logger: Dict[str, Any] = field(default_factory=dict)  # by name: `_target_` and arguments of a RunLogger
    study: StudyConfig = field(default_factory=StudyConfig)  # what conf/experiment says is to come out


def run_name(config: ExperimentConfig) -> str:
    return config.name or "+".join(config.tasks)


def task_epochs(tasks: Mapping[str, TaskConfig]) -> dict[str, float]:
    """The numbers of epochs of the tasks that have one of their own."""
    return {name: task.num_epochs for name, task in tasks.items() if task.num_epochs is not None}


def is_lower_better(metric: str) -> bool:
    """Losses and errors, by their key."""
    return metric.endswith(("loss", "mse", "mae"))
