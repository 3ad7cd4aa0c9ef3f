"""`action=export`: a folder that stands alone, with the model in one format, its card and its provenance.

1. The run is read, and what cannot be exported is refused
2. the format's files are written into a partial folder
3. the card says what is known of the run, and what was measured on dev
4. checksums are added, and the folder gets its name
"""

from __future__ import annotations

import importlib.util
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.data.caching import Cache
from multitask_bert.data.processor import DataProcessor
from multitask_bert.data.splits import EncodedSplit
from multitask_bert.errors import InputError
from multitask_bert.export.card import CARD, card
from multitask_bert.export.facts import Facts, read_facts
from multitask_bert.export.mlflow_model import register, store_of, write_mlflow
from multitask_bert.inference.onnx_model import EXPORTS, INSTALL
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.saving.run_folder import RESULTS, config_to_evaluate, existing_run
from multitask_bert.training.provenance import PROVENANCE
from multitask_bert.utils.files import CHECKSUMS, checksums_of, partial_of, write_bytes, write_json

log = logging.getLogger(__name__)

EXPORT = "export.json"  # marks a folder as ours, so that it may be replaced
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "onnx_int8": ("onnx", "onnxscript", "onnxruntime")}


@dataclass
class Run:
    """A finished run that is being exported."""

    folder: Path
    config: ExperimentConfig  # that it began with; device and batches are those of today
    now: ExperimentConfig
    model: MultiTaskModel
    tokenizer: Any
    notes: list[str] = field(default_factory=list)  # what was measured, for the card
    _dev: dict[str, EncodedSplit] | None = None

    @property
    def dev(self) -> dict[str, EncodedSplit]:
        """The dev sets by task, read and encoded at the first use.

        Raises:
            InputError: their files are missing.
        """
        if self._dev is None:
            processor = DataProcessor(
                self.config.tasks, data_root=self.config.data_root, seed=self.config.seed_of_splits,
                known_heads=self.model.heads, cache=Cache.from_environment(),
                num_processes=self.now.batching.encoding_processes, splits=("dev", "test"),
            )  # fmt: skip
            self._dev = processor.process(self.tokenizer, max_length=self.config.batching.max_length).dev
        return self._dev


def export_run(config: ExperimentConfig) -> Path:
    """Export the run in `config.run_dir` in `config.format`; the folder.

    Raises:
        InputError: there is no such run, it has a head that the format cannot have, or the folder cannot be written.
    """
    assert config.format is not None
    run_dir = existing_run(config)
    refuse_missing_packages(config.format)
    target = Path(config.output) if config.output else run_dir / EXPORTS / config.format
    refuse_other_folder(target)
    store = None if config.export.name is None else store_of(run_dir)
    model, tokenizer = MultiTaskModel.load(run_dir / "model")
    run = Run(run_dir, config_to_evaluate(run_dir, config), config, model.eval(), tokenizer)
    with writing(target) as folder:
        facts = read_facts(run_dir, run.config, model, config.export)
        WRITERS[config.format](run, folder, facts)
        write_bytes(folder / CARD, card(facts, config.format, run.notes).encode())
        if facts.results:
            write_json(folder / RESULTS, facts.results)
        # Without the paths of the machine on which the run was made.
        write_json(folder / PROVENANCE, {key: one for key, one in facts.provenance.items() if key != "config_files"})
        write_json(folder / EXPORT, {"format": config.format, "run": run_dir.name})
        write_json(folder / CHECKSUMS, checksums_of(folder))
    if store is not None:
        log.info("registered as %s", register(target, store, config.export))
    return target


def refuse_missing_packages(export_format: str) -> None:
    """Check that the packages are installed which a format needs."""
    lacking = [name for name in NEEDS.get(export_format, ()) if importlib.util.find_spec(name) is None]
    if lacking:
        raise InputError(f"format={export_format}: {', '.join(lacking)} not installed; {INSTALL}")


def refuse_other_folder(target: Path) -> None:
    """Check that a folder is new, empty or an earlier export, which may be replaced."""
    if target.exists() and not (target / EXPORT).is_file() and not (target.is_dir() and not any(target.iterdir())):
        raise InputError(f"output={target}: exists and is no earlier export; name another folder")


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`, which takes its place at the end; after an error it is removed.

    Raises:
        InputError: it cannot be written.
    """
    partial = partial_of(target.absolute())
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        raise InputError(
            f"{target}: the export cannot be written there ({error}); name another folder: output=FOLDER"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _hf(run: Run, folder: Path, facts: Facts) -> None:
    from multitask_bert.export.agreement import compare_entities
    from multitask_bert.export.hf import folder_name, write_hf
    from multitask_bert.inference.predictor import Predictor

    classes = write_hf(run.model, run.tokenizer, folder)
    predictor = Predictor(run.model, run.tokenizer, device="cpu")
    for (task, name), class_name in classes.items():
        own = folder / folder_name(task, name)
        notes = []
        head = run.model.heads[task][name]
        if head.reads_words and head.names_shown != head.labels.names:  # entities
            try:
                examples = list(run.dev[task].examples()) if task in run.dev else []
                notes.append(f"Entities: {compare_entities(predictor, task, name, own, examples)}.")
            except InputError as error:
                log.warning("the pipeline's entities are not compared with ours: %s", error)
                notes.append("Entities of the pipeline were not compared with ours: the dev set was not there.")
        facts.classes[task, name] = class_name
        write_bytes(own / CARD, card(facts.of_head(task, name), "hf", notes).encode())
        run.notes += [f"`{task}.{name}`: {note}" for note in notes]


def _onnx(run: Run, folder: Path, facts: Facts) -> None:
    from multitask_bert.export.onnx_graph import write_onnx

    write_onnx(run.model, run.tokenizer, run.folder / "model", folder)


def _onnx_int8(run: Run, folder: Path, facts: Facts) -> None:
    from multitask_bert.export.agreement import compare_scores
    from multitask_bert.export.onnx_int8 import quantize
    from multitask_bert.inference.onnx_model import GRAPH, OnnxModel

    dev = run.dev  # refused before the work, if the files are missing
    _onnx(run, folder, facts)
    quantize(folder / GRAPH)
    after, _ = OnnxModel.load(folder)
    losses = compare_scores(run.model, after, run.config, dev, pad_id=int(run.tokenizer.pad_token_id or 0))
    for name, loss in losses.items():
        note = f"{name} {loss.metric} on dev: {loss.before:.4f}, in 8 bits {loss.after:.4f}"
        log.info(note)
        run.notes.append(f"{note}.")
    limit = run.now.export.max_loss
    if worse := [f"{name} loses {loss.points:.2f}" for name, loss in losses.items() if loss.points > limit]:
        raise InputError(
            f"format=onnx_int8: {', '.join(worse)} points on dev, more than export.max_loss={limit:g}; use "
            f"format=onnx, or allow more"
        )


def _mlflow(run: Run, folder: Path, facts: Facts) -> None:
    write_mlflow(run.folder / "model", folder, precision=run.config.trainer.precision)


WRITERS = {"hf": _hf, "onnx": _onnx, "onnx_int8": _onnx_int8, "mlflow": _mlflow}
