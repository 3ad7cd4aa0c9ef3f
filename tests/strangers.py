"""Ways in that somebody else's files may try, each with a payload that leaves a trace when it gets through."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from tests.composing import CONF

PAYLOAD = '''
"""Leaves a trace when it is imported."""
import os
from pathlib import Path

Path(os.environ["TRACE"]).write_text("imported", encoding="utf-8")


class Payload:
    def __init__(self, *arguments, **keywords):
        pass

    def __getattr__(self, name):
        return lambda *arguments, **keywords: None


def define(trial):
    return {}
'''
GLOBAL = "# @package _global_\n"
# What the texts below hold, and what stands for it in the folder of a test.
FOLDER, TRACE, SHA256, CLIMB = "FOLDER", "TRACE", "SHA256", "CLIMB"
EXPERIMENT = ("experiment=evil",)
SWEEP = ("-m", "sweep=lr_warmup", "experiment=evil")


@dataclass(frozen=True)
class Attempt:
    """`files`: by name, in the folder that `--config-dir` names; `key` and `file`: what the refusal names."""

    key: str
    files: dict[str, str]
    arguments: tuple[str, ...]
    file: str = "experiment/evil.yaml"


def of_experiment(
    key: str, text: str, arguments: tuple[str, ...] = EXPERIMENT, file: str = "experiment/evil.yaml"
) -> Attempt:
    return Attempt(key, {"experiment/evil.yaml": GLOBAL + text}, arguments, file)


def of_task(key: str, text: str, file: str = "tasks/evil.yaml") -> Attempt:
    return Attempt(key, {"tasks/evil.yaml": text}, ("tasks=evil",), file)


def of_reproduction(key: str, text: str) -> Attempt:
    whole = f"defaults: [config, _self_]\n{text}"
    return Attempt(key, {"reproduce.yaml": whole}, ("--config-name", "reproduce"), "reproduce.yaml")


TASK = """
evil:
  source: {format: csv, train: train.csv, text: text%s}
  heads: {mood: {type: classification, column: mood%s}}
"""
DOWNLOAD = ", folder: %s, downloads: {train: {url: 'http://127.0.0.1:9/payload.txt', sha256: SHA256}}"

ATTEMPTS = {
    # Classes
    "callback": of_experiment("hydra.callbacks.evil", "hydra: {callbacks: {evil: {_target_: payload.Payload}}}"),
    "callback in reproduce.yaml": of_reproduction(
        "hydra.callbacks.evil", "hydra: {callbacks: {evil: {_target_: payload.Payload}}}"
    ),
    "launcher": of_experiment("hydra.launcher._target_", "hydra: {launcher: {_target_: payload.Payload}}", SWEEP),
    "sweeper": of_experiment("hydra.sweeper._target_", "hydra: {sweeper: {_target_: payload.Payload}}", SWEEP),
    "launcher file": Attempt(
        "hydra.launcher._target_", {"hydra/launcher/evil.yaml": "_target_: payload.Payload"},
        ("-m", "hydra/launcher=evil", "seed=1,2"), "hydra/launcher/evil.yaml",
    ),
    "optimizer": of_experiment("optimizer._target_", "optimizer: {_target_: payload.Payload}"),
    "trainer": of_experiment("trainer._target_", "trainer: {_target_: payload.Payload}"),
    "balancing": of_reproduction("balancing._target_", "balancing: {_target_: payload.Payload}"),
    "logger": of_experiment("logger.evil._target_", "logger: {evil: {_target_: payload.Payload}}"),
    "deep in options": of_experiment(
        "optimizer.options.hooks.0.x._target_", "optimizer: {options: {hooks: [{x: {_target_: payload.Payload}}]}}"
    ),
    "partial with arguments": of_experiment(
        "model.architecture.x._target_",
        "model: {architecture: {x: {_target_: os.system, _partial_: false, _args_: ['touch TRACE']}}}",
    ),
    "in a head": of_task(
        "tasks.evil.heads.mood.class_weights._target_", TASK % ("", ", class_weights: {_target_: payload.Payload}")
    ),
    "class put together": of_experiment(
        "optimizer._target_", "name: payload\noptimizer: {_target_: '${name}.Payload'}"
    ),
    "class that a module of ours imports": of_experiment(
        "logger.evil._target_",
        "logger: {evil: {_target_: multitask_bert.sweeps.study.JournalFileBackend, file_path: TRACE}}",
    ),
    "class where nothing is made": of_experiment(
        "model.architecture.x._target_", "model: {architecture: {x: {_target_: torch.optim.SGD}}}"
    ),
    "class of another kind": of_experiment(
        "logger.evil._target_", "logger: {evil: {_target_: multitask_bert.tracking.event_file.EventFile, "
        "folder: TRACE}}", (*EXPERIMENT, "model=tiny"), file="",
    ),
    "module of ours that imports another": of_experiment(
        "trainer._target_", "trainer: {_target_: multitask_bert.actions.os.system}"
    ),
    # What Hydra does before and around a job
    "logging factory": of_experiment(
        "hydra.job_logging.formatters.simple.()",
        "hydra: {job_logging: {formatters: {simple: {(): payload.Payload}}}}",
    ),
    "logging class": of_experiment(
        "hydra.hydra_logging.handlers.console.class",
        "hydra: {hydra_logging: {handlers: {console: {class: payload.Payload}}}}",
    ),
    "logging stream": of_experiment(
        "hydra.job_logging.handlers.console.stream",
        "hydra: {job_logging: {handlers: {console: {stream: 'ext://payload.define'}}}}",
    ),
    "log file": of_experiment(
        "hydra.job_logging.handlers.file.filename", "hydra: {job_logging: {handlers: {file: {filename: TRACE}}}}"
    ),
    "environment": of_experiment("hydra.job.env_set.LD_PRELOAD", "hydra: {job: {env_set: {LD_PRELOAD: /evil.so}}}"),
    "allowance": of_experiment(
        "hydra.job.env_set.MULTITASK_BERT_ALLOW", "hydra: {job: {env_set: {MULTITASK_BERT_ALLOW: payload}}}"
    ),
    "environment copied": of_experiment("hydra.job.env_copy.0", "hydra: {job: {env_copy: [HOME]}}"),
    "search path": of_reproduction("hydra.searchpath.0", "hydra: {searchpath: ['pkg://payload']}"),
    "search function": of_experiment("hydra.sweeper.function", "hydra: {sweeper: {function: payload.define}}", SWEEP),
    "search over Hydra": of_experiment(
        "hydra.sweeper.space.+hydra.callbacks.evil._target_",
        "hydra: {sweeper: {space: {'+hydra.callbacks.evil._target_': [payload.Payload]}}}", SWEEP,
    ),
    "search over a store": of_experiment(
        "hydra.sweeper.space.logger.mlflow.tracking_uri",
        "hydra: {sweeper: {space: {logger.mlflow.tracking_uri: ['sqlite:///TRACE']}}}", SWEEP,
    ),
    "parameters of another sweeper": of_experiment(
        "hydra.sweeper.params.+hydra.callbacks.evil._target_",
        "hydra: {sweeper: {params: {'+hydra.callbacks.evil._target_': payload.Payload}}}", ("-m", *EXPERIMENT),
    ),
    "lines for the shell": of_experiment(
        "hydra.launcher.setup.0", "hydra: {launcher: {setup: ['touch TRACE']}}",
        ("-m", *EXPERIMENT, "hydra/launcher=slurm", "seed=1,2"),
    ),
    "words for the shell": of_experiment(
        "hydra.launcher.partition", "hydra: {launcher: {partition: 'gpu; touch TRACE'}}",
        ("-m", *EXPERIMENT, "hydra/launcher=slurm", "seed=1,2"),
    ),
    "all of Hydra, computed": of_experiment("hydra", "hydra: '${oc.decode:\"{job: {chdir: true}}\"}'"),
    "a part of Hydra, elsewhere": of_experiment("hydra.callbacks", "name: x\nhydra: {callbacks: '${name}'}"),
    # Files that land where their name does not tell
    "package of a file": Attempt(
        "hydra.callbacks.evil", {"tasks/evil.yaml": "# @package hydra.callbacks\nevil: {_target_: payload.Payload}"},
        ("tasks=evil",), "tasks/evil.yaml",
    ),
    "package in a list": Attempt(
        "hydra.callbacks.evil",
        {
            "experiment/evil.yaml": f"{GLOBAL}defaults: [{{/tasks@hydra.callbacks: bad}}]",
            "tasks/bad.yaml": "evil: {_target_: payload.Payload}",
        },
        EXPERIMENT, "tasks/bad.yaml",
    ),
    "climbing out of conf": Attempt(
        "hydra.job.env_set.X",
        {
            "experiment/evil.yaml": f"{GLOBAL}defaults: [/CLIMB/more]",
            "more.yaml": "# @package _global_\nhydra: {job: {env_set: {X: y}}}",
        },
        EXPERIMENT, "more.yaml",
    ),
    "aliases of aliases": of_experiment(
        "aliases (*name) stand for more than 10,000 values",
        "study:\n  a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
            f"  {this}: &{this} [{', '.join([f'*{last}'] * 9)}]\n"
            for last, this in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ),
    "merges of merges": of_experiment(
        "aliases (*name) stand for more than 10,000 values",
        "study:\n  a: &a {x: y}\n" + "".join(
            f"  {this}: &{this} {{<<: [{', '.join([f'*{last}'] * 9)}]}}\n"
            for last, this in zip("abcdefgh", "bcdefghi", strict=True)
        ),
    ),
    "files of files": Attempt(
        "defaults lists name more than 1,000 files",
        {
            "experiment/evil.yaml": f"{GLOBAL}defaults: [{', '.join(f'/x0@study.p{i}' for i in range(9))}]",
            **{
                f"x{place}.yaml": f"defaults: [{', '.join(f'/x{place + 1}@p{i}' for i in range(9))}]"
                for place in range(9)
            },
            "x9.yaml": "source: x",
        },
        EXPERIMENT, "",
    ),
    "alias of itself": of_experiment("an alias (*name) stands inside of what it names", "study: &a {source: [*a]}"),
    "deep lists": of_experiment("nested more than 50 deep", f"study: {'[' * 5000}{']' * 5000}"),
    "references to references": of_experiment(
        "optimizer.options.k5: its references stand for more than 1,000,000 characters",
        "optimizer:\n  options:\n    k0: nine char\n" + "".join(
            f"    k{place}: '{f'${{optimizer.options.k{place - 1}}}' * 9}'\n" for place in range(1, 12)
        ), file="",
    ),
    "reference to itself": of_experiment(
        "name: refers to itself", "name: '${study.source}'\nstudy: {source: '${name}'}", file=""
    ),
    "objects in YAML": Attempt(
        "", {"experiment/evil.yaml": f"{GLOBAL}name: !!python/object/apply:os.system ['touch TRACE']"}, EXPERIMENT
    ),
    # Places
    "run folder": of_reproduction("hydra.run.dir", "hydra: {run: {dir: TRACE}}"),
    "run folder that is none": of_reproduction("hydra.run.dir", "hydra: {run: {dir: .}}"),
    "hidden run folder": of_reproduction("hydra.run.dir", "hydra: {run: {dir: .git/hooks}}"),
    "run folder above": of_reproduction("hydra.run.dir", "hydra: {run: {dir: outputs/../../TRACE}}"),
    "run folder of dots": of_reproduction("hydra.run.dir", "hydra: {run: {dir: 'a/${now:..}/${now:..}/trace'}}"),
    "run folder elsewhere": of_reproduction("hydra.run.dir", "name: TRACE\nhydra: {run: {dir: '${name}'}}"),
    "sweep folder": of_experiment("hydra.sweep.dir", "hydra: {sweep: {dir: TRACE}}", SWEEP),
    "trial folder": of_experiment("hydra.sweep.subdir", "hydra: {sweep: {subdir: ../../../trace}}", SWEEP),
    "settings folder": of_experiment("hydra.output_subdir", "hydra: {output_subdir: TRACE}"),
    "job's name": of_experiment("hydra.job.name", "hydra: {job: {name: ../../trace}}"),
    "working directory": of_experiment("hydra.job.chdir", "hydra: {job: {chdir: true}}"),
    "name of the action": of_experiment(
        "action=", "action: x/../../../../trace", ("-m", *EXPERIMENT, "seed=1,2"), file=""
    ),
    "study's name": of_experiment("hydra.sweeper.study", "hydra: {sweeper: {study: ../../trace}}", SWEEP),
    "study's storage": of_experiment(
        "hydra.sweeper.storage", "hydra: {sweeper: {storage: 'sqlite:///TRACE'}}", SWEEP
    ),
    "submitit's folder": of_experiment(
        "hydra.launcher.submitit_folder", "hydra: {launcher: {submitit_folder: TRACE}}",
        ("-m", *EXPERIMENT, "hydra/launcher=slurm", "seed=1,2"),
    ),
    "task's name": Attempt(
        "tasks", {"experiment/evil.yaml": f"{GLOBAL}defaults: [override /tasks: ../tasks/../../trace]",
                  "tasks/../../trace.yaml": "evil: {}"},
        EXPERIMENT, "",
    ),
    "predictions": of_reproduction("output", "output: TRACE"),
    "another run": of_reproduction("run_dir", "run_dir: FOLDER"),
    "tensorboard": Attempt(
        "logger.tensorboard.log_dir",
        {"experiment/evil.yaml": f"{GLOBAL}logger: {{tensorboard: {{log_dir: ../../trace}}}}"}, EXPERIMENT, "",
    ),
    "mlflow database": of_experiment(
        "logger.mlflow.tracking_uri", "logger: {mlflow: {tracking_uri: 'sqlite:///TRACE'}}"
    ),
    "logger with a dot in its name": of_experiment(
        "logger.a.b.tracking_uri",
        "logger: {a.b: {_target_: multitask_bert.tracking.mlflow.logger.MlflowLogger, tracking_uri: sqlite:///TRACE}}",
    ),
    "logger by reference": of_experiment(
        "logger.evil=${optimizer.options}",
        "optimizer: {options: {_target_: multitask_bert.tracking.mlflow.logger.MlflowLogger, "
        "tracking_uri: sqlite:///TRACE}}\nlogger: {evil: '${optimizer.options}'}",
    ),
    "mlflow database in a file of the user": of_experiment(
        "logger.mlflow.tracking_uri", "logger: {mlflow: {tracking_uri: 'sqlite:///diary.db'}}"
    ),
    "mlflow database of another name": of_experiment(
        "logger.mlflow.tracking_uri", "logger: {mlflow: {tracking_uri: 'sqlite:///evil.py'}}"
    ),
    "mlflow files": of_experiment("logger.mlflow.tracking_uri", "logger: {mlflow: {tracking_uri: 'file://TRACE'}}"),
    "download to a data root": Attempt(
        "data_root",
        {
            "tasks/evil.yaml": TASK % (DOWNLOAD % "'.'", ""),
            "reproduce.yaml": "defaults: [config, _self_]\ndata_root: FOLDER/home",
        },
        ("--config-name", "reproduce", "tasks=evil"), "",
    ),
    **{
        f"download to {root}": Attempt(
            f"data_root={root}",
            {
                "tasks/evil.yaml": TASK % (DOWNLOAD % "''", ""),
                "reproduce.yaml": f"defaults: [config, _self_]\ndata_root: {root}",
            },
            ("--config-name", "reproduce", "tasks=evil"), "a file names this folder",
        )
        for root in (".", "..", ".hidden", "with_code", "linked")
    },
    "download of a local file": of_task(
        "tasks.evil.source.downloads.train.url=file:",
        TASK % (", downloads: {train: {url: 'file://FOLDER/payload.py', sha256: SHA256}}", ""), "",
    ),
    "download of what the address holds": of_task(
        "tasks.evil.source.downloads.train.url=data:",
        TASK % (", downloads: {train: {url: 'data:,import%20os', sha256: SHA256}}", ""), "",
    ),
    "download to a folder": Attempt(
        "task evil", {"tasks/evil.yaml": TASK % (DOWNLOAD % "FOLDER/home", "")}, ("tasks=evil",), "source.folder"
    ),
    # What the user keeps to himself, and code by another name
    "secret": of_experiment("name", "name: '${oc.env:SECRET}'"),
    "secret inside": of_task("tasks.evil.source.folder", TASK % (", folder: 'x/${oc.${y}:SECRET}'", "")),
    "secret put together": of_experiment(
        "name=${oc.env:SECRET}",
        "study: {source: $, table: '{oc.env:SECRET}'}\nname: '${study.source}${study.table}'", file="",
    ),
    "secret put together by a longer way": of_experiment(
        "study.table=${oc.env:SECRET}",
        "study: {source: $, caveats: '${study.source}{oc.env:SECRET}', table: '${study.caveats}'}", file="",
    ),
    "secret in a list": of_experiment(
        "optimizer.options.x.0.y=${oc.env:SECRET}",
        "study: {source: $}\noptimizer: {options: {x: [{y: '${study.source}{oc.env:SECRET}'}]}}", file="",
    ),
    "logger put together": of_experiment(
        "logger.evil=${study.source}${study.table}",
        "study: {source: $, table: '{oc.create:{_target_: multitask_bert.tracking.mlflow.logger.MlflowLogger, "
        "tracking_uri: sqlite:///TRACE}}'}\nlogger: {evil: '${study.source}${study.table}'}",
    ),
    "search put together": of_experiment(
        "hydra.sweeper.space.name.0",
        "study: {source: $, table: '{oc.create:{_target_: payload.Payload}}'}\n"
        "hydra: {sweeper: {space: {name: ['${study.source}${study.table}']}}}", SWEEP,
    ),
    "seed of a search put together": of_experiment(
        "hydra.sweeper.sampler_options.seed",
        "study: {source: $, table: '{oc.create:{_target_: payload.Payload}}'}\n"
        "hydra: {sweeper: {sampler_options: {seed: '${study.source}${study.table}'}}}", SWEEP,
    ),
    "object from text": of_experiment("optimizer", "optimizer: '${oc.create:\"{_target_: payload.Payload}\"}'"),
    "metric": of_task("tasks.evil.heads.mood.metrics", TASK % ("", ", metrics: [FOLDER/payload.py]")),
    "metric of a hub": of_task("tasks.evil.heads.mood.metrics", TASK % ("", ", metrics: [owner/payload]")),
}  # fmt: skip


def written(attempt: Attempt, folder: Path, trace: Path) -> list[str]:
    """Puts the files of an attempt and `payload.py` into a folder; the words of the command that falls for it."""
    payload = folder / "payload.py"
    payload.parent.mkdir(parents=True, exist_ok=True)
    payload.write_text(PAYLOAD, encoding="utf-8")
    meant = {
        FOLDER: folder.as_posix(), TRACE: trace.as_posix(), CLIMB: os.path.relpath(folder, CONF),
        SHA256: hashlib.sha256(payload.read_bytes()).hexdigest(),
    }  # fmt: skip
    for name, text in attempt.files.items():
        for word, meaning in meant.items():
            text = text.replace(word, meaning)
        path = (folder / name).resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    here = Path.cwd()
    (here / "with_code").mkdir(exist_ok=True)
    (here / "with_code" / "setup.py").touch()
    (here / "diary.db").touch()
    if not (here / "linked").is_symlink():
        (here / "linked").symlink_to(folder.parent)
    return ["--config-dir", str(folder), *attempt.arguments]


class Touch:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.trace),)


def as_json(path: Path, **values: object) -> None:
    """Change some entries of a JSON file, or make one."""
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**before, **values}), encoding="utf-8")
