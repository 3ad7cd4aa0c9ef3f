"""The main job from config to files on disk, and what later actions make of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.config.sweep_config import TRIAL
from multitask_bert.config.tree import to_dict
from multitask_bert.data.processor import DataProcessor
from multitask_bert.errors import InputError
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.run_extras import logged_name
from multitask_bert.saving import run_folder
from multitask_bert.training.loop import TrainingLoop
from tests.trained_runs import trained

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
TENSORBOARD = {"tensorboard": {"_target_": "multitask_bert.tracking.tensorboard.TensorBoardLogger"}}
REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def embedded_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """`python run.py trainer=quick model=tiny`, MLflow and all, as a new user would; its folder and what it printed."""
    folder = tmp_path_factory.mktemp("work")
    command = [sys.executable, str(REPOSITORY / "run.py"), "trainer=quick", "model=tiny", "hydra.run.dir=outputs/run"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    environment["OMP_NUM_THREADS"] = "1"  # threads that wait for each other are slow beside other work
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "outputs", done.stdout


def test_the_embedded_default_leaves_what_the_readme_promises(embedded_run: tuple[Path, str]) -> None:
    outputs, _ = embedded_run
    names = {path.name for path in (outputs / "run").iterdir()}
    assert names >= {"metrics.jsonl", "results.json", "checkpoints", "model", "tensorboard", "run.log", ".hydra"}
    assert (outputs / "mlflow.db").is_file()
    results = json.loads((outputs / "run" / "results.json").read_text(encoding="utf-8"))
    assert set(results["metrics"]) == {"eval", "test"}
    assert results["best"]["metric"] == "eval_mean_f1"
    assert results["best"]["value"] == results["metrics"]["eval"]["eval_mean_f1"]
    assert results["train_tokens_per_second"] > 0


def test_the_embedded_default_is_in_mlflow_with_params_metrics_tags_and_files(embedded_run: tuple[Path, str]) -> None:
    from mlflow.tracking import MlflowClient

    outputs, _ = embedded_run
    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("multitask_bert").experiment_id])  # type: ignore[union-attr]
    assert (run.info.run_name, run.info.status) == ("ner+sentiment", "FINISHED")
    assert run.data.params["optimizer.lr"] == "5e-05"
    assert run.data.params["tasks.ner.heads.ner_head.type"] == "tagging"
    assert run.data.tags["tasks"] == "ner+sentiment"
    assert len(client.get_metric_history(run.info.run_id, "train_loss")) == 20
    assert {"eval_ner_ner_head_f1", "test_sentiment_sentiment_head_f1", "eval_mean_f1"} <= set(run.data.metrics)
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"pictures", "pictures.html", "provenance.json", "reproduce.yaml", "results.json"}
    pictures = {file.path for file in client.list_artifacts(run.info.run_id, "pictures")}
    assert pictures == {f"pictures/{path.name}" for path in (outputs / "run" / "pictures").iterdir()}
    assert "pictures/ner.ner_head.confusion.png" in pictures


def test_without_a_terminal_the_output_is_plain_lines(embedded_run: tuple[Path, str]) -> None:
    _, printed = embedded_run
    assert "\x1b" not in printed
    lines = printed.splitlines()
    assert lines[0] == "ner+sentiment: run folder outputs/run"
    assert any(line.startswith("step 20/20  loss ") and line.endswith("tokens/s") for line in lines)
    assert any(line.startswith("Test scores of the best model: ner  ner_head  f1 ") for line in lines)
    assert any(line.startswith("Best eval_mean_f1 0.") for line in lines)
    assert any(line.split() == ["Results", "outputs/run/results.json"] for line in lines)
    assert all(not line.startswith("Traceback") for line in lines)


def test_evaluating_a_finished_run_gives_the_scores_it_reported(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(num_epochs=1)
    results = trained(config, tmp_path / "first")
    later = make_config(num_epochs=1)
    later.action, later.run_dir = "evaluate", str(tmp_path / "first")
    actions.evaluate(later, tmp_path / "second")
    again = json.loads((tmp_path / "second" / "results.json").read_text(encoding="utf-8"))
    for split in ("eval", "test"):
        assert again["metrics"][split] == pytest.approx(results["metrics"][split], abs=1e-6)


@pytest.mark.parametrize("is_cached", [False, True])
def test_evaluating_neither_reads_nor_encodes_the_training_file(
    make_config: MakeConfig, data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_cached: bool
) -> None:
    if is_cached:
        monkeypatch.setenv("MULTITASK_BERT_CACHE", str(tmp_path / "cache"))
    config = make_config(num_epochs=1)
    config.data_root = str(shutil.copytree(data_root, tmp_path / "data"))
    results = trained(config, tmp_path / "first")
    opened: list[str] = []
    open_file = Path.open

    def open_and_note(path: Path, *rest: Any, **more: Any) -> Any:
        opened.append(path.name)
        return open_file(path, *rest, **more)

    monkeypatch.setattr(Path, "open", open_and_note)
    encoded: list[str] = []
    process = DataProcessor.process

    def watched(self: DataProcessor, *arguments: Any, **options: Any) -> Any:
        data = process(self, *arguments, **options)
        encoded.extend(report.split for report in data.reports)
        return data

    monkeypatch.setattr(DataProcessor, "process", watched)
    config.run_dir = str(tmp_path / "first")
    for name in ("second", "third"):  # the third finds in the cache what the second has encoded
        actions.evaluate(config, tmp_path / name)
        again = json.loads((tmp_path / name / "results.json").read_text(encoding="utf-8"))
        assert again["metrics"] == results["metrics"]
    assert encoded == ["dev", "test"] * 4
    assert {"dev.tsv", "test.tsv", "dev.txt", "test.txt"} <= set(opened)
    assert not {"train.tsv", "train.txt"} & set(opened)


def test_evaluating_cuts_from_train_what_has_no_file_as_training_did(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("mood", num_epochs=1)
    source = config.tasks["mood"].source
    source.dev, source.dev_fraction, source.test, source.test_fraction = None, 0.2, None, 0.2
    results = trained(config, tmp_path / "first")
    config.run_dir = str(tmp_path / "first")
    actions.evaluate(config, tmp_path / "second")
    again = json.loads((tmp_path / "second" / "results.json").read_text(encoding="utf-8"))
    assert again["metrics"] == results["metrics"]


def test_results_tell_the_best_step_and_what_was_seen(make_config: MakeConfig, tmp_path: Path) -> None:
    results = trained(make_config(num_epochs=2, log_every=3), tmp_path / "run")
    assert results["steps"] == 18
    assert results["train_examples"] == 2 * (40 + 30)
    assert results["best"]["step"] in (9, 18)
    assert results["best"]["epoch"] == results["best"]["step"] / 9
    people = next(entry for entry in results["data"] if (entry["task"], entry["split"]) == ("people", "train"))
    assert (people["num_examples"], people["num_cut"]) == (40, 0)


def test_the_best_model_costs_the_disk_one_copy(make_config: MakeConfig, tmp_path: Path) -> None:
    trained(make_config("mood", max_steps=1), tmp_path / "run")
    best, published = (tmp_path / "run" / name / "model.safetensors" for name in ("checkpoints/best", "model"))
    assert best.read_bytes() == published.read_bytes()
    assert best.samefile(published)


def test_jsonl_has_a_line_for_every_step_and_scores_for_both_sets(make_config: MakeConfig, tmp_path: Path) -> None:
    trained(make_config("mood", num_epochs=2), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train_loss" in line] == list(range(1, 9))
    assert [line["step"] for line in lines if "eval_mean_f1" in line] == [4, 8]
    assert len([line for line in lines if "test_mean_f1" in line]) == 1


def test_scores_of_both_sets_have_the_keys_of_evaluate_in_results(make_config: MakeConfig, tmp_path: Path) -> None:
    results = trained(make_config("mood", max_steps=1), tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    (logged,) = (line for line in lines if "test_loss" in line)
    in_log = {key.replace("test_", "eval_", 1): logged[key] for key in logged if key.startswith("test_")}
    assert results["metrics"]["test"] == in_log
    assert list(results["test_intervals"]) == ["eval_mood_polarity_f1"]
    config = make_config("mood")
    config.run_dir = str(tmp_path / "run")
    actions.evaluate(config, tmp_path / "again")
    again = json.loads((tmp_path / "again" / "results.json").read_text(encoding="utf-8"))
    assert again["metrics"]["test"].keys() == results["metrics"]["test"].keys()


def test_a_number_that_json_has_no_word_for_is_null(tmp_path: Path) -> None:
    nan, infinity = float("nan"), float("inf")
    run_folder.write_results(
        tmp_path, {"best": {"value": nan, "step": 3}, "test_intervals": {"x": (nan, 0.5)}, "y": -infinity}
    )
    written = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert written == {"best": {"value": None, "step": 3}, "test_intervals": {"x": [None, 0.5]}, "y": None}


def test_bad_data_leaves_no_half_written_results(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    config.data_root = str(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"task people: .*nowhere/people/train\.txt: no such file"):
        actions.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_no_run_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    config.run_dir = str(tmp_path)
    for action in (actions.evaluate, actions.upload):
        with pytest.raises(InputError, match=r"not the folder of a run \(it has no \.hydra/config\.yaml\)"):
            action(config, tmp_path / "new")


def test_uploading_a_run_that_knew_no_mlflow_says_why_not(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("mood", max_steps=1)
    config.logger = TENSORBOARD
    trained(config, tmp_path / "run")
    config.run_dir = str(tmp_path / "run")
    with pytest.raises(InputError, match=r"was not logged to MLflow"):
        actions.upload(config, tmp_path / "new")
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))


# Looking before training


def test_inspecting_leaves_a_page_and_figures_and_loads_no_weights(
    make_config: MakeConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.AutoModel.from_config", None)
    monkeypatch.setattr("transformers.AutoModel.from_pretrained", None)
    actions.inspect(make_config(), tmp_path / "run")
    found = json.loads((tmp_path / "run" / "inspect.json").read_text(encoding="utf-8"))
    assert found.keys() == {"tokenizer", "max_length", "splits", "leaks", "warnings", "plan"}
    assert found["plan"]["num_steps"] == 18
    assert (tmp_path / "run" / "inspect.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("Data: people train: examples 40, ")
    assert printed[-1].startswith("The same with plots: ")


# Predicting


@pytest.fixture(scope="module")
def finished_run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run over `people` and `mood` that was trained for a step."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    trained(make_config(max_steps=1), folder)
    return folder


def predict_config(run_dir: Path, place: str, **fields: Any) -> ExperimentConfig:
    config = ExperimentConfig(action="predict", run_dir=str(run_dir), input=place, **fields)
    config.trainer.device = "cpu"
    return config


def test_predicting_writes_a_line_of_json_per_text_and_nothing_else_to_stdout(
    finished_run: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    texts = [f"siku {number} Amina" for number in range(200)]
    (tmp_path / "texts.txt").write_text("\n".join(texts), encoding="utf-8")
    actions.predict(predict_config(finished_run, str(tmp_path / "texts.txt")), tmp_path / "new")
    out, err = capfdbinary.readouterr()
    records = [json.loads(line) for line in out.splitlines()]
    assert [record["text"] for record in records] == texts
    assert all(set(record["predictions"]) == {"mood", "people"} for record in records)
    assert err.decode().startswith("200 predictions written to standard output; the log is in ")


def test_a_table_is_read_by_the_columns_of_the_task(finished_run: Path, tmp_path: Path, data_root: Path) -> None:
    out = tmp_path / "out.jsonl"
    actions.predict(predict_config(finished_run, str(data_root / "mood" / "test.tsv"), output=str(out)), tmp_path)
    records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [record["mood"] for record in records] == ["good", "bad"] * 15  # the file's own column
    assert {record["predictions"]["mood"]["polarity"]["label"] for record in records} <= {"good", "bad"}


def test_a_bad_line_is_named_after_all_before_it_were_written(finished_run: Path, tmp_path: Path) -> None:
    place, out = tmp_path / "texts.jsonl", tmp_path / "out.jsonl"
    place.write_text('"Amina"\n{"words": ["Juma"]}\n{"question": "nani?", "context": "Amina"}\n"Neema"\n', "utf-8")
    with pytest.raises(InputError, match=r"texts\.jsonl:3: no head of mood, people predicts for .* \(question\)"):
        actions.predict(predict_config(finished_run, str(place), output=str(out)), tmp_path)
    texts = [json.loads(line)["text"] for line in out.read_text(encoding="utf-8").splitlines()]
    assert texts == ["Amina", "Juma"]


def test_a_missing_input_leaves_an_earlier_output_as_it_is(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "out.jsonl").write_text("earlier")
    config = predict_config(finished_run, str(tmp_path / "nowhere.txt"), output=str(tmp_path / "out.jsonl"))
    with pytest.raises(InputError, match=r"nowhere\.txt: cannot be read"):
        actions.predict(config, tmp_path)
    assert (tmp_path / "out.jsonl").read_text() == "earlier"


def test_a_reader_that_has_seen_enough_ends_an_endless_prediction_quietly(finished_run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "run.py", "action=predict", f"run_dir={finished_run}", "input=-"]
    command += ["trainer.device=cpu", f"hydra.run.dir={tmp_path / 'new'}", "batching.eval_batch_size=1"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, **pipes) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b'Amina yuko Tanga\n{"text": "Juma", "id": 3}\n' + b"siku\n" * 3000)
        process.stdin.close()
        first, second = json.loads(process.stdout.readline()), json.loads(process.stdout.readline())
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0
    assert (first["text"], second["text"], second["id"]) == ("Amina yuko Tanga", "Juma", 3)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_predictions_to_a_full_disk_end_with_an_error_in_a_line(finished_run: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("siku\n")
    command = [sys.executable, "run.py", "action=predict", f"run_dir={finished_run}", f"input={tmp_path / 'texts.txt'}"]
    command += ["trainer.device=cpu", f"hydra.run.dir={tmp_path / 'new'}"]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(command, cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, text=True, timeout=300)
    assert done.stderr == (
        "error: standard output: prediction 1 cannot be written (No space left on device), those before it are\n"
    )
    assert done.returncode == 1


# Names in the loggers


@pytest.mark.parametrize(
    ("mode", "inside", "trial", "expected"),
    [
        ("RUN", "", None, "people+mood"),
        ("RUN", "seed_7", None, "people+mood, seed 7"),  # of a study
        ("MULTIRUN", "", None, "people+mood, job 3, seed 7"),
        ("MULTIRUN", "", "5", "people+mood, trial 5, seed 7"),
        ("MULTIRUN", "seed_7", "5", "people+mood, trial 5, seed 7"),
    ],
)
def test_the_name_of_a_run_tells_it_from_those_beside_it(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, mode: str, inside: str, trial: str | None, expected: str
) -> None:
    hydra = OmegaConf.create({"mode": RunMode[mode], "runtime": {"output_dir": "/outputs/run"}, "job": {"num": 3}})
    monkeypatch.setattr(HydraConfig, "initialized", lambda: True)
    monkeypatch.setattr(HydraConfig, "get", lambda: hydra)
    monkeypatch.delenv(TRIAL, raising=False)
    if trial is not None:
        monkeypatch.setenv(TRIAL, trial)
    config = make_config(seed=7)
    assert logged_name(config, Path("/outputs/run", inside)) == expected
    assert logged_name(replace(config, name="mine"), Path("/outputs/run", inside)) == expected.replace(
        "people+mood", "mine"
    )


# A console that cannot be written


def train_on_odd_labels(folder: Path, stdout: Any, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """`python run.py …` with labels that a terminal, or rich, would take for commands."""
    labels = ("[neg]", "[/s]", "\x1b[31mred", "colère")
    for split in ("train", "dev"):
        lines = [f"siku {split} {number},{labels[number % 4]}" for number in range(40)]
        (folder / f"{split}.csv").write_text("\n".join(["text,label", *lines]), encoding="utf-8")
    (folder / "tasks").mkdir()
    (folder / "tasks" / "odd.yaml").write_text(
        f"odd:\n  source: {{format: csv, folder: {folder}, train: train.csv, dev: dev.csv, text: text}}\n"
        "  heads: {kind: {type: classification, column: label, metrics: [f1, f1_per_label]}}\n"
    )
    command = [sys.executable, str(REPOSITORY / "run.py"), "--config-dir", str(folder), "tasks=odd", "model=tiny"]
    command += ["trainer=quick", "trainer.max_steps=1", "logger=none", "hydra.run.dir=run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(command, cwd=folder, env=environment, stdout=stdout, stderr=subprocess.PIPE, timeout=300)


@pytest.mark.parametrize("where", ["full disk", "unread pipe"])
def test_a_run_goes_on_to_its_end_when_nobody_can_be_told(tmp_path: Path, where: str) -> None:
    if where == "full disk":
        if not Path("/dev/full").exists():
            pytest.skip("this system has no /dev/full")
        file = os.open("/dev/full", os.O_WRONLY)
    else:
        read, file = os.pipe()
        os.close(read)
    done = train_on_odd_labels(tmp_path, file)
    os.close(file)
    reason = "No space left on device" if where == "full disk" else "Broken pipe"
    expected = f"WARNING: standard output cannot be written ({reason}); the work goes on without it\n"
    assert (done.returncode, done.stderr.decode()) == (0, expected)
    assert (tmp_path / "run" / "results.json").is_file()
    log = (tmp_path / "run" / "run.log").read_text(encoding="utf-8")
    assert all(f"f1_of_{label} 0." in log for label in ("[neg]", "[/s]", r"\x1b[31mred", "colère"))


def test_a_run_shows_what_the_console_cannot_encode_as_escapes(tmp_path: Path) -> None:
    done = train_on_odd_labels(tmp_path, subprocess.PIPE, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"f1_of_col\xe8re 0." in done.stdout
    assert rb"f1_of_\x1b[31mred 0." in done.stdout


# Runs that end otherwise than planned


def test_an_interrupted_run_says_what_is_kept_and_keeps_it(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = TrainingLoop._step

    def interrupted(self: TrainingLoop, *args: Any) -> None:
        if self.state.step == 6:
            raise KeyboardInterrupt
        step(self, *args)

    monkeypatch.setattr(TrainingLoop, "_step", interrupted)
    with pytest.raises(SystemExit) as stop:
        actions.train(make_config("mood", num_epochs=3), tmp_path / "run")
    assert stop.value.code == 130
    MultiTaskModel.load(tmp_path / "run" / "model")
    assert "interrupted at step 6; the best model so far, of step 4, is in" in capsys.readouterr().out


def test_a_run_whose_config_and_model_differ_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    trained(make_config("mood", max_steps=1), tmp_path / "run")
    OmegaConf.save(OmegaConf.create(to_dict(make_config("people"))), tmp_path / "run" / ".hydra" / "config.yaml")
    config = make_config()
    config.run_dir = str(tmp_path / "run")
    with pytest.raises(InputError, match=r"task people: the saved model has no heads of these names"):
        actions.evaluate(config, tmp_path / "new")


def unlabelled(data_root: Path, folder: Path, split: str) -> str:
    """A copy of the data in which a split of `mood` has no labels."""
    shutil.copytree(data_root, folder)
    path = folder / "mood" / f"{split}.tsv"
    header, *rows = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([header, *(row.partition("\t")[0] + "\t" for row in rows)]), encoding="utf-8")
    return str(folder)


def test_a_test_set_without_labels_is_left_out_and_not_scored_as_nought(
    make_config: MakeConfig, data_root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = make_config(max_steps=1)
    config.data_root = unlabelled(data_root, tmp_path / "data", "test")
    results = trained(config, tmp_path / "run")
    assert "mood/test.tsv:2: no test example has a label; the test set is left out" in caplog.text
    assert not [key for key in results["metrics"]["test"] if "mood" in key]
    assert "eval_people_entities_f1" in results["metrics"]["test"]


def test_a_dev_set_without_labels_is_refused(make_config: MakeConfig, data_root: Path, tmp_path: Path) -> None:
    config = make_config(max_steps=1)
    config.data_root = unlabelled(data_root, tmp_path / "data", "dev")
    with pytest.raises(InputError, match=r"task mood: .*dev\.tsv:2: no dev example has a label for heads\.polarity"):
        actions.train(config, tmp_path / "run")
