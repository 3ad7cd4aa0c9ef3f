"""What each action needs and reads, once; the functions are in `multitask_bert/actions.py`, under the same names.

The checks, `--help`, names of output folders and warnings of overrides without effect read it from here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Action:
    """One `action=…`: on the tasks of the command line, or on the folder of an earlier run, whose config counts."""

    meaning: str
    needs_run_dir: bool = False
    in_several_processes: bool = False  # whether several can do it together, as torchrun starts them
    reads: tuple[str, ...] = ()  # with `run_dir`: the keys and groups of today's config that count all the same

    @property
    def uses_cli_tasks(self) -> bool:
        """Whether it works on `tasks=…`, after which its output folder is named; if not, on those of the run."""
        return not self.needs_run_dir


EVALUATION = ("trainer.device", "batching.eval_batch_size", "batching.eval_max_tokens")
ACTIONS = {
    "train": Action("train, keep the best model, score it on dev and test (the default)", in_several_processes=True),
    "evaluate": Action(
        "score the model of a finished run again",
        needs_run_dir=True,
        in_several_processes=True,
        reads=("data_root", "batching.encoding_processes", "trainer.keep_predictions", "trainer.pictures", *EVALUATION),
    ),
    "inspect": Action("show what is in the data of the tasks, before training: a table and a page"),
    "predict": Action(
        "write what each head of a finished run's model predicts for the texts in input=FILE",
        needs_run_dir=True,
        in_several_processes=True,
        reads=("input", "output", "backend", *EVALUATION),
    ),
    "serve": Action(
        "answer requests over HTTP with a finished run's model, and show a page to try it",
        needs_run_dir=True,
        reads=("serve", "backend", *EVALUATION),
    ),
    "export": Action(
        "write a finished run's model for other programs, in format=hf, onnx, onnx_int8 or mlflow",
        needs_run_dir=True,
        reads=("format", "output", "export", "data_root", "batching.encoding_processes", *EVALUATION[1:]),  # on the CPU
    ),
    "reproduce": Action(
        "train as an earlier run did and compare the results",
        needs_run_dir=True,
        reads=("data_root", "trainer.device", "logger"),
    ),
    "report": Action(
        "show the best trials of a sweep so far or the verdicts of a study (run_dir=SWEEP), or a table of the runs in "
        "any other folder, and write the page",
        needs_run_dir=True,
    ),
    "diagnose": Action(
        "sort the wrong predictions of a finished run, and look for label errors in its train split",
        needs_run_dir=True,
        reads=("data_root", "batching.encoding_processes", "diagnose", *EVALUATION),
    ),
    "compare": Action("compare two runs on the test set that both predicted (run_dir=A,B)", needs_run_dir=True),
    "upload": Action("send to MLflow what an earlier run or sweep could not send", needs_run_dir=True),
}
