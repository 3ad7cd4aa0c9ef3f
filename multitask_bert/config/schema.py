"""What a run is made of: `ExperimentConfig` and its children, composed by Hydra from `conf/`.

Each field says here, once, its default, its meaning with the unit, its choices and its bounds (`setting.py`). A key
that is not a field is refused in tree.py; a value that its field does not allow, or that another value contradicts, in
checks.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Dict, List, Optional

from omegaconf import MISSING

from multitask_bert.config.action_table import ACTIONS
from multitask_bert.config.setting import recommended, setting
from multitask_bert.utils.metric_names import is_about_label

SPLITS = ("train", "dev", "test")
POOLINGS = {"pooler": "the encoder's own, else cls", "cls": "", "mean": "", "max": ""}
FORMATS = {
    "hf": "folders for transformers",
    "onnx": "a graph for onnxruntime",
    "onnx_int8": "the same in 8 bits",
    "mlflow": "a model for MLflow",
}
BACKENDS = {"torch": "", "onnx": "the graph of action=export format=onnx, on the CPU"}
AUTO_PRECISION = "auto"
RESTART_WARMUPS = 0.3, 0.8  # the least and greatest warmup of a second attempt (trainer.restart_collapsed)
HEAD_INITS = {"normal": "standard deviation 0.02", "uniform": "up to 1/sqrt(width), as in torch"}


@dataclass
class DownloadConfig:
    """The address of a public file, and its checksum."""

    url: str = setting(MISSING, "full address", form=("(?i:https?://).*", "begin with http:// or https://"))
    sha256: str = setting(MISSING, "hex digest of the file's bytes")


@dataclass
class SourceConfig:
    """The files of a task and how to read them; what each format looks like: docs/formats.md."""

    format: str = setting(
        MISSING, "conll | conllu | csv | tsv | jsonl | squad | parallel | parquet | datasets | samples"
    )
    folder: str = setting("", "folder of the files, under data_root unless absolute")
    train: Optional[str] = setting(
        None,
        "training file under `folder`; parallel: its folder, or train.*; datasets: the split; null: the task is only "
        "evaluated, with heads that it shares (docs/languages.md)",
    )
    dev: Optional[str] = setting(None, "development file; null: split off train by dev_fraction")
    test: Optional[str] = setting(None, "test file; null: split off train by test_fraction")
    tests: Optional[Dict[str, str]] = setting(
        dict, "further test files by name, each with scores of its own: eval_<task>.<name>_<head>_<metric>"
    )
    dev_fraction: float = setting(
        0.1, "share of train (of its distinct texts) that becomes dev where no dev file is named", at_least=0, below=1
    )
    test_fraction: float = setting(
        0.1, "share of train that becomes test where no test file is named; 0: no test set", at_least=0, below=1
    )
    max_train_examples: Optional[int] = setting(
        None,
        "train on no more than these, drawn by split_seed, else seed, smaller draws within larger ones; null: all",
        at_least=1,
    )
    encoding: str = setting("utf-8", "of text files, as Python names it")
    text: Optional[str] = setting(None, "column (field, parallel: file) with the text; null where `words` names words")
    text_pair: Optional[str] = setting(None, "column with the second text; null: single texts")
    words: Optional[str] = setting(None, "column (field, parallel: file) with words: a list, or one string with spaces")
    word_column: int = setting(0, "conll: number of the column with the word, from 0; negative counts from the end")
    choices: Optional[List[str]] = setting(
        None, "columns with the texts to choose from, or the one column that lists them"
    )
    quoted: bool = setting(
        True, 'fields are quoted as in CSV; false: a `"` is data like any other character', only_for=("tsv",)
    )
    delimiter: str = setting(
        ",",
        "the character between fields",
        form=(r'[^"\r\n]', "be one character, no quote or line end"),
        only_for=("csv",),
    )
    header: bool = setting(
        True, "the first line names the columns; false: they go by number, as in conll", only_for=("csv", "tsv")
    )
    comments: Optional[str] = setting(
        None,
        'how a comment line before a sentence begins, as "# "; null: there are none',
        form=(r".*\S.*", "say how comment lines begin, as '# '; null: none"),
        only_for=("conll",),
    )
    unspecified: str = setting(
        "missing",
        "what a column is that holds `_` in a whole sentence",
        choices={"missing": "not scored", "label": ""},
        only_for=("conllu",),
    )
    on_bad_record: str = setting(
        "error",
        "what is done about a record that cannot be read",
        choices={"error": "", "skip": "left out; counted, with its line"},
    )
    overlapping_entities: str = setting(
        "error",
        "what is done about entities, given by characters, that overlap",
        choices={"error": "", "longest": "of those that overlap; counted"},
        only_for=("jsonl", "parquet", "datasets"),
    )
    path: Optional[str] = setting(
        None, "datasets: name on the hub, or a folder (under `folder`) that save_to_disk wrote"
    )
    name: Optional[str] = setting(None, "datasets: name of the configuration (subset); null: the only one")
    revision: Optional[str] = setting(None, "datasets, hub: commit, tag or branch; null: the newest")
    streaming: bool = setting(
        False, "read the rows as they are downloaded, without keeping the files", only_for=("datasets",)
    )
    options: Dict[str, Any] = setting(dict, "a reader of your own: its settings")
    samples: Optional[str] = setting(None, "samples: which embedded synthetic corpus, ner or sentiment")
    downloads: Dict[str, DownloadConfig] = setting(
        dict, "addresses by split (parallel: split/file; of `tests`: test.<name>)"
    )

    @property
    def has_train(self) -> bool:
        return self.train is not None or self.format == "samples"

    @property
    def has_dev(self) -> bool:
        """Whether there is a dev set: a file, or a part of train (where that is none, the data is refused)."""
        return self.dev is not None or self.has_train

    @property
    def has_test(self) -> bool:
        """Whether there is a test set beside those in `tests`."""
        return self.test is not None or self.fraction_of("test") > 0

    @property
    def named_test_splits(self) -> List[str]:
        """The splits of `tests`, as test.<name>."""
        return [f"test.{name}" for name in self.tests or ()]

    def file_of(self, split: str) -> Optional[str]:
        """The file of train, dev, test or test.<name>, as the config names it."""
        _, is_named, name = split.partition(".")
        found: Optional[str] = (self.tests or {}).get(name) if is_named else getattr(self, split)
        return found

    def fraction_of(self, split: str) -> float:
        """The share of train that becomes this split; 0 where none is split off."""
        if split not in ("dev", "test") or not self.has_train or self.file_of(split) is not None:
            return 0.0
        if split == "test" and self.tests:
            return 0.0
        return self.dev_fraction if split == "dev" else self.test_fraction


@dataclass
class HeadConfig:
    """One prediction over a task's text."""

    type: str = setting(MISSING, "classification | multilabel | regression | tagging | span | choice")
    column: Optional[str] = setting(
        None, "csv, tsv: name of the label's column; conll: its number (negative: from the end)"
    )
    columns: Optional[List[str]] = setting(
        None, "multilabel: columns of 0 and 1, one per label; null: labels are in `column`"
    )
    separator: str = setting(",", "multilabel: what stands between the labels in `column`, where it is no JSON list")
    share: Optional[str] = setting(
        None, "<task>.<head> whose weights and labels this head has, too; what it leaves open is as there"
    )
    weight: float = setting(1.0, "factor of this head's mean loss in the step's loss", at_least=0)
    lr_factor: Optional[float] = setting(
        None, "the head's learning rate as a multiple of optimizer.lr; null: optimizer.head_lr_factor", more_than=0
    )
    init: Optional[str] = setting(None, "how its weights are initialised; null: model.head_init", choices=HEAD_INITS)
    metrics: List[str] = setting(list, "the first is the headline; empty: the head type's own")
    labels: Optional[List[str]] = setting(
        None, "all labels (entity types, where tags are spans); null: those found in train"
    )
    names: Any = setting(
        None, "names of the numbers 0, 1, … in `column`: a list, or a file in source.folder with one a line"
    )
    unknown_labels: str = setting(
        "error",
        "what is done about a label of dev or test that the head does not know",
        choices={"error": "", "wrong": "its prediction counts as wrong"},
    )
    scheme: str = setting(
        "iob2", "tagging: iob2 | iob1 | bioes (entity spans) or plain (one tag per word, as parts of speech)"
    )
    constrained: bool = setting(False, "tagging: predict the best valid IOB2 sequence, not the best tag of each word")
    stride: int = setting(64, "span: tokens that two neighbouring windows of a long context share", at_least=0)
    max_answer_length: int = setting(30, "span: tokens in the longest answer that is predicted", at_least=1)
    no_answer_threshold: Optional[float] = setting(
        None, 'span: margin over "none" in logits; null: 0 if train has "none"'
    )
    range: Optional[List[float]] = setting(
        None, "regression: lowest and highest value, learned as 0 and 1; null: as they are"
    )
    clip: bool = setting(False, "regression: predictions outside `range` are moved to its nearer end")
    threshold: Any = setting(
        0.5, "multilabel: probability of a predicted label | tuned (on dev, one for all) | tuned_per_label"
    )
    pooling: Optional[str] = setting(
        None, "text-level heads: how a text becomes one vector; null: model.pooling", choices=POOLINGS
    )
    dropout: Optional[float] = setting(
        None, "rate before the head's linear layers; null: as the encoder (model.dropout)", at_least=0, below=1
    )
    hidden_size: Optional[int] = setting(None, "width of an extra layer before the linear one; null: none", at_least=1)
    activation: str = setting("tanh", "activation after the extra layer", choices=("tanh", "gelu"))
    class_weights: Any = setting(
        None, "classification, tagging: factor of the loss by label | balanced (by counts in train)"
    )
    calibrate: bool = setting(
        False, "classification, choice: fit a temperature on dev, so that probabilities are as often right as they say"
    )
    options: Dict[str, Any] = setting(dict, "a head type of your own: its settings")
    label_smoothing: float = setting(
        0.0, "classification, tagging, choice: share of the target spread over all labels", at_least=0, below=1
    )


@dataclass
class TaskConfig:
    """A named data source and what is to be learned from it; one YAML file in conf/tasks/."""

    source: SourceConfig = setting(SourceConfig, "the files, and how to read them")
    heads: Dict[str, HeadConfig] = setting(dict, "by name: what is learned from them; at least one")
    share: Optional[str] = setting(None, "a task all of whose heads are also this task's; see docs/languages.md")
    num_epochs: Optional[float] = setting(
        None, "passes through its examples in the whole run; null: as mixing and trainer say", more_than=0
    )
    windows: Optional[bool] = setting(None, "its long texts are read in windows; null: batching.windows")
    joint_accuracy: bool = setting(False, "also score the share of examples for which every head is right")


@dataclass
class OptimizerConfig:
    """The optimizer, made once; embeddings, layers and heads may have rates and decays of their own."""

    _target_: str = setting("torch.optim.AdamW", "class from torch.optim")
    lr: float = setting(5e-5, "peak learning rate of the encoder", at_least=0)
    head_lr_factor: float = setting(
        1.0, "the heads' rate as a multiple of lr; of one head: tasks.<name>.heads.<name>.lr_factor", more_than=0
    )
    layer_decay: float = setting(
        1.0, "each layer's rate as a share of that of the layer above it", more_than=0, at_most=1
    )
    frozen_layers: int = setting(0, "how many of the encoder's layers, from the lowest up, do not learn", at_least=0)
    frozen_embeddings: bool = setting(False, "the encoder's embeddings do not learn")
    unfreezing: List[int] = setting(list, "by epoch, how many layers from the top learn; then all", at_least=0)
    weight_decay: float = setting(0.01, "decoupled decay of matrices; biases and norms have none", at_least=0)
    head_weight_decay: Optional[float] = setting(None, "that of the heads' matrices; null: weight_decay", at_least=0)
    embedding_weight_decay: Optional[float] = setting(None, "that of the embeddings; null: weight_decay", at_least=0)
    options: Dict[str, Any] = setting(dict, "further keyword arguments of the class")


@dataclass
class SchedulerConfig:
    """The learning rate over the run, as a factor of optimizer.lr."""

    shape: str = setting(
        "linear", "how the rate goes on after the warmup", choices={"linear": "to 0", "cosine": "to 0", "constant": ""}
    )
    warmup_ratio: float = setting(
        0.1, "share of all steps in which the rate rises from 0 to its peak", at_least=0, at_most=1
    )


@dataclass
class MixingConfig:
    """Which task is next."""

    rule: str = setting(
        "round_robin",
        "how the task of each step is chosen",
        choices={
            "round_robin": "in turn",
            "proportional": "drawn by number of batches",
            "temperature": "",
            "annealed": "",
        },
        or_own="function",
    )
    options: Dict[str, Any] = setting(dict, "a rule of your own: its keyword arguments")
    when_exhausted: str = setting(
        "spread",
        "round_robin: what happens when a task has no more batches; see docs/flow.md",
        choices=("spread", "cycle", "stop"),
    )
    temperature: float = setting(2.0, "temperature: a task is drawn with p ~ batches^(1/temperature)", at_least=1)
    steps_per_epoch: Optional[int] = setting(
        None, "rules that draw: batches in an epoch; null: as many as there are", at_least=1
    )


@dataclass
class BalancingConfig:
    """How the losses of several heads become one."""

    _target_: str = setting("multitask_bert.training.balancing.FixedWeights", "class; gets the heads' weights")
    options: Dict[str, Any] = setting(dict, "further keyword arguments of the class")


@dataclass
class AveragingConfig:
    """Averages of the weights over training, evaluated beside the plain ones; the better of the two is kept."""

    kind: str = setting(
        "none",
        "which average",
        choices={"none": "", "ema": "exponential moving average over steps", "last": "mean over evaluations"},
    )
    decay: float = setting(0.99, "ema: share of the average that stays at each step", at_least=0, below=1)
    start: float = setting(0.0, "share of the run's steps before the average begins", at_least=0, below=1)


@dataclass
class BatchingConfig:
    """How examples become batches."""

    layout: str = setting(
        "padded",
        "how sequences of different lengths share a batch",
        choices={"padded": "one sequence per row", "packed": "one row, with little or no padding"},
    )
    batch_size: int = setting(16, "examples per task and step", at_least=1)
    max_tokens: Optional[int] = setting(
        None, "tokens (with padding) per task and step, where that is fewer than batch_size", at_least=1
    )
    micro_batch_size: Optional[int] = setting(
        None, "examples per forward pass; null: all; except for dropout, the step is the same", at_least=1
    )
    micro_batch_tokens: Optional[int] = setting(
        None, "tokens per forward pass; null: as many as half of the free memory holds", at_least=1
    )
    eval_batch_size: int = setting(64, "examples per forward pass when evaluating and predicting", at_least=1)
    eval_max_tokens: int = setting(4096, "tokens (with padding) per forward pass then, where that is fewer", at_least=1)
    max_length: int = setting(
        128, "tokens per sequence, special tokens included; longer texts are truncated (and counted)", at_least=3
    )
    windows: bool = setting(
        False, "longer texts are read whole instead, in overlapping windows of max_length; see docs/configuring.md"
    )
    stride: Optional[int] = setting(
        None, "windows: tokens, at least, that two neighbours share; null: a quarter of max_length", at_least=0
    )
    sort_window: int = setting(
        50, "batches within which examples are sorted by length after shuffling; 1: fully random", at_least=1
    )
    num_workers: int = setting(0, "processes that collate batches in the background; 0: none", at_least=0)
    encoding_processes: Optional[int] = setting(
        None, "processes that tokenise texts; null: one, and all cores for big files", at_least=1
    )


@dataclass
class TrainerConfig:
    """The training loop."""

    _target_: str = setting("multitask_bert.training.trainer.Trainer.from_config", "what hydra.utils.instantiate makes")
    num_epochs: int = setting(5, "passes through every task's training examples", at_least=1)
    min_steps: Optional[int] = setting(
        None, "least number of steps: epochs are added until there are as many; null: none", at_least=1
    )
    update: str = setting(
        "task",
        "what one step learns from",
        choices={"task": "one task's batch", "round": "one batch of every task at once"},
    )
    max_steps: Optional[int] = setting(None, "steps after which training ends; null: after num_epochs", at_least=1)
    eval_every: Optional[int] = setting(None, "steps between evaluations; null: at the end of every epoch", at_least=1)
    eval_shares: List[float] = setting(
        list, "evaluate at these shares of the run's steps instead", more_than=0, at_most=1
    )
    metric_for_best: Optional[str] = setting(
        None, "key of the score that decides; null: eval_mean_f1, else eval_mean_score"
    )
    higher_is_better: Optional[bool] = setting(None, "null: false for losses and errors, else true")
    keep_best_per_head: bool = setting(
        False, "also keep the weights of each head's own best step, and test that head with them"
    )
    patience: Optional[int] = setting(
        None, "evaluations without a new best after which training stops; null: never", at_least=1
    )
    restart_collapsed: bool = setting(
        False,
        "start over, once, with a longer warmup, if a head has learned nothing at the first evaluation from half "
        "of the steps on",
    )
    max_grad_norm: Optional[float] = setting(
        1.0, "norm to which longer gradients are clipped; null: not clipped", more_than=0
    )
    on_non_finite: str = setting(
        "stop",
        "what is done about a loss that is infinite or not a number",
        choices={"stop": "", "skip": "the step is left out, and counted"},
    )
    save_every: Optional[int] = setting(
        None, "steps between checkpoints to resume from; null: one at each evaluation", at_least=1
    )
    keep_last: int = setting(2, "how many of these are kept while the run goes on; 0: none are written", at_least=0)
    cosines_every: Optional[int] = setting(
        None,
        "steps between measurements of the cosines between the tasks' gradients on the encoder; null: none",
        at_least=1,
    )
    lookahead_every: Optional[int] = setting(
        None,
        "steps between measurements of the lookahead affinities (TAG): by what share a gradient step of one task on "
        "the encoder lowers the loss of another; null: none",
        at_least=1,
    )
    keep_predictions: Optional[int] = setting(
        100_000,
        "examples of each dev and test set of which the run keeps text, labels and predictions, in predictions/; "
        "null: all; 0: none",
        at_least=0,
    )
    pictures: bool = setting(
        True, "draw confusions, calibration, scores per label and training curves at the end: pictures.html"
    )
    log_every: int = setting(
        10, "steps between calls of the loggers (metrics.jsonl has a line for each step all the same)", at_least=1
    )
    device: str = setting("auto", "auto | cpu | cuda | cuda:N | mps")
    precision: str = setting(
        "fp32",
        "of matrix products; weights stay fp32",
        choices={
            "fp32": "",
            "bf16": "",
            "fp16": "with a scaled loss",
            AUTO_PRECISION: "bf16 where its products are clearly faster, measured as the run begins, else fp32",
        },
    )
    tf32: bool = setting(
        False, "CUDA: fp32 products with 10 bits of mantissa, several times faster on GPUs that have them"
    )
    gradient_checkpointing: bool = setting(
        False, "compute activations twice instead of keeping them: less memory, 1/3 slower"
    )
    compile: bool = setting(
        False, "torch.compile the encoder: pays on some GPUs after a minute or more, never on a CPU"
    )


@dataclass
class RecipeConfig:
    """What an encoder learns well with; the other groups refer to it, as conf/optimizer/adamw.yaml does."""

    name: Optional[str] = setting(None, "whose recipe it is, as runs say it; null: the general one")
    encoder: Optional[str] = setting(None, "the `pretrained` it was made for; runs say so where theirs is another")
    source: Optional[str] = setting(None, "paper, or the page with what was measured")
    lr: float = recommended("optimizer.lr", OptimizerConfig.lr)
    head_lr_factor: float = recommended("optimizer.head_lr_factor", OptimizerConfig.head_lr_factor)
    layer_decay: float = recommended("optimizer.layer_decay", OptimizerConfig.layer_decay)
    weight_decay: float = recommended("optimizer.weight_decay", OptimizerConfig.weight_decay)
    warmup_ratio: float = recommended("scheduler.warmup_ratio", SchedulerConfig.warmup_ratio)
    num_epochs: int = recommended("trainer.num_epochs", TrainerConfig.num_epochs)
    min_steps: Optional[int] = recommended("trainer.min_steps", TrainerConfig.min_steps)
    head_init: str = recommended("model.head_init", "normal")


@dataclass
class ModelConfig:
    """The shared encoder."""

    pretrained: Optional[str] = setting(
        None, "directory (also RUN/model), hub name or pkg://package/path; null: random weights"
    )
    revision: Optional[str] = setting(None, "hub: commit, tag or branch; null: the newest")
    sha256: Optional[str] = setting(None, "hex digest that the weights file must have; null: not checked")
    tokenizer: Optional[str] = setting(None, "directory, hub name or pkg://package/path; null: as `pretrained`")
    architecture: Dict[str, Any] = setting(dict, "random weights: model_type, sizes (as in config.json)")
    dropout: Optional[float] = setting(
        None, "rate everywhere in encoder and heads; null: the encoder's own", at_least=0, below=1
    )
    attention_dropout: Optional[float] = setting(
        None, "rate of the attention weights; null: as `dropout`", at_least=0, below=1
    )
    pooling: str = setting("pooler", "how a text becomes one vector", choices=POOLINGS)
    head_init: str = setting(RecipeConfig.head_init, "how the heads' weights are initialised", choices=HEAD_INITS)
    keep_heads: bool = setting(
        False, "begin the heads of the names that the run of `pretrained` has, with its weights; labels may differ"
    )
    recipe: RecipeConfig = setting(RecipeConfig, "what this encoder learns well with")


@dataclass
class ExpectedScore:
    """What a score should be; its key in `study.expected` is the one in results.json."""

    score: float = setting(MISSING, "as in results.json: 0.925, not 92.5", at_least=-1)
    tolerance: float = setting(MISSING, "how far the mean over the seeds may be from it, in the same unit", more_than=0)
    split: str = setting("test", "on which split", choices=("eval", "test"))
    at_least: bool = setting(False, "a mean that is higher passes, however much higher")


@dataclass
class StudyConfig:
    """The scores that are expected, and their source; `verify=true` trains with each seed and compares."""

    source: Optional[str] = setting(
        None, "paper with its address, or repository and file; own studies: the page with the runs"
    )
    table: Optional[str] = setting(None, "which table, row and column there")
    seeds: List[int] = setting(list, "one run each", at_least=0)
    expected: Dict[str, ExpectedScore] = setting(dict, "by key, as eval_ner_ner_head_f1")
    caveats: Optional[str] = setting(None, "what differs from the source, and why the number may differ")
    status: Optional[str] = setting(None, "when, where and with which commit it was run; or that it was not yet")


@dataclass
class ServeConfig:
    """What `action=serve` listens on, and its limits."""

    host: str = setting("127.0.0.1", "address to listen on; 0.0.0.0: all, so that other machines reach it, unprotected")
    port: int = setting(8000, "port to listen on; 0: any free one", at_least=0, at_most=65535)
    max_inputs: int = setting(256, "inputs in one request", at_least=1)
    max_bytes: int = setting(1_000_000, "bytes of one request", at_least=1)
    max_waiting: int = setting(2048, "inputs that wait for the model; with more, requests are refused", at_least=1)
    timeout: float = setting(60.0, "seconds until a request is given up", more_than=0)


@dataclass
class ExportConfig:
    """What action=export writes beside the model, and what it refuses."""

    max_loss: float = setting(
        1.0,
        "onnx_int8: points (hundredths; of an error, percent) that a head's headline score on dev may lose",
        at_least=0,
    )
    languages: List[str] = setting(list, "codes of the texts' languages, for the card, as [sw, en]")
    license: Optional[str] = setting(
        None, "identifier of the licence that you give the model, for the card, as apache-2.0; null: none is stated"
    )
    name: Optional[str] = setting(
        None, "mlflow: register a version under this name where the run was logged; null: write the folder only"
    )
    alias: Optional[str] = setting(None, "mlflow: alias of the registered version, as champion; null: none")


@dataclass
class DiagnoseConfig:
    """What `action=diagnose` trains to judge the labels of train; by default nothing."""

    folds: int = setting(
        0,
        "models to train, each without one fold of train, whose labels it then judges; 0: none, else at least 2; takes "
        "about as long as folds - 1 runs",
        at_least=0,
    )
    data_map: bool = setting(
        False,
        "train once more, and record how probable each label of train is after each epoch; takes as long as the run",
    )


@dataclass
class ExperimentConfig:
    """Everything that a run needs to know."""

    action: str = setting("train", "what to do", choices=tuple(ACTIONS))
    name: Optional[str] = setting(
        None, "of the run in the loggers (of several, with trial and seed); null: its tasks, joined"
    )
    seed: int = setting(1, "of initial weights, dropout, order of examples and splits", at_least=0)
    split_seed: Optional[int] = setting(
        None,
        "of the parts of train that become dev and test where no file is named; null: seed, other parts for each",
        at_least=0,
    )
    deterministic: Optional[bool] = setting(
        None, "the same bits from the same seed and machine; null: on a CPU yes, else no"
    )
    data_root: str = setting("data", "folder of the tasks' files")
    verify: bool = setting(False, "once per seed of `study`, then compare with what it expects", only_for=("train",))
    resume: bool = setting(
        False, "continue from the last checkpoint in run_dir (or hydra.run.dir), if there is one", only_for=("train",)
    )
    run_dir: Optional[str] = setting(
        None,
        "folder of an earlier run, for actions on it and `resume`; report: of a sweep or of runs; compare: two, A,B",
    )
    input: Optional[str] = setting(
        None, "a text, .csv, .tsv or .jsonl file, one of the run's own, or - for stdin", only_for=("predict",)
    )
    output: Optional[str] = setting(
        None,
        "the JSONL file to write (null: standard output); export: the folder (null: RUN/export/FORMAT); replaced if it "
        "exists",
        only_for=("predict", "export"),
    )
    format: Optional[str] = setting(None, "form of the model", choices=FORMATS, only_for=("export",))
    backend: str = setting("torch", "what computes", choices=BACKENDS, only_for=("predict", "serve"))
    export: ExportConfig = setting(ExportConfig, "details of action=export")
    model: ModelConfig = setting(ModelConfig, "conf/model: the shared encoder")
    tasks: Dict[str, TaskConfig] = setting(dict, "conf/tasks, by name: sources and heads")
    share: Optional[str] = setting(
        None, "tasks that share all heads of the first of them, as ner_swa+ner_hau; several groups: a blank between"
    )
    optimizer: OptimizerConfig = setting(OptimizerConfig, "conf/optimizer")
    scheduler: SchedulerConfig = setting(SchedulerConfig, "conf/scheduler: the learning rate over the run")
    mixing: MixingConfig = setting(MixingConfig, "conf/mixing: which task is next")
    balancing: BalancingConfig = setting(BalancingConfig, "conf/balancing: how losses become one")
    averaging: AveragingConfig = setting(AveragingConfig, "conf/averaging: averages of the weights")
    batching: BatchingConfig = setting(BatchingConfig, "conf/batching: how examples become batches")
    trainer: TrainerConfig = setting(TrainerConfig, "conf/trainer: the training loop")
    logger: Dict[str, Any] = setting(dict, "by name: `_target_` and arguments of a RunLogger")
    study: StudyConfig = setting(StudyConfig, "the scores that conf/experiment expects")

    @property
    def seed_of_splits(self) -> int:
        """The seed by which dev and test are split off from train."""
        return self.seed if self.split_seed is None else self.split_seed

    serve: ServeConfig = setting(ServeConfig, "action=serve: address and limits")
    diagnose: DiagnoseConfig = setting(DiagnoseConfig, "action=diagnose: what it trains to judge labels")


def run_name(config: ExperimentConfig) -> str:
    return config.name or "+".join(config.tasks)


def task_epochs(tasks: Mapping[str, TaskConfig]) -> dict[str, float]:
    """The numbers of epochs of the tasks that have one of their own."""
    return {name: task.num_epochs for name, task in tasks.items() if task.num_epochs is not None}


def is_lower_better(metric: str) -> bool:
    """Whether lower values are better, by a metric's key: of losses and errors, and not of a label called loss."""
    return metric.endswith(("loss", "mse", "mae")) and not is_about_label(metric)
