"""`action=diagnose`: every kind of error by hand-made predictions, suspects, data maps, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from multitask_bert import actions
from multitask_bert.config.checks import check
from multitask_bert.config.schema import DiagnoseConfig, ExperimentConfig, HeadConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import Head, make_head
from multitask_bert.labels import LabelSet
from multitask_bert.records import Example, Prediction, TaskResult
from multitask_bert.reports.diagnosis import Diagnosis, diagnose_run, draw_maps, rank_suspects, read_errors
from multitask_bert.reports.diagnosis_page import tables_of, write_diagnosis
from multitask_bert.reports.wrong_predictions import HeadErrors, pair_entities
from multitask_bert.saving.predictions import write_predictions
from multitask_bert.saving.run_folder import save_config
from multitask_bert.training.label_judgement import JudgedLabel
from tests.reports.sweep_studies import check_page
from tests.trained_runs import trained

MakeConfig = Callable[..., ExperimentConfig]
Row = tuple[Any, Prediction]  # gold label and prediction
TAGS = LabelSet(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))


def run_of(folder: Path, head: Head, rows: Sequence[Row], *, split: str = "test", **fields: Any) -> Path:
    """The folder of a run of which only predictions are kept; `fields`: of every example."""
    (folder / ".hydra").mkdir(parents=True, exist_ok=True)
    (folder / ".hydra" / "config.yaml").write_text("action: train\n", encoding="utf-8")
    texts = {"text": "a text", **fields}
    examples = [Example(f"t.tsv:{n}", labels={"h": gold}, **texts) for n, (gold, _) in enumerate(rows, start=1)]
    results = {"t": TaskResult(predictions={"h": [prediction for _, prediction in rows]})}
    write_predictions(folder, split, {"t": {"h": head}}, results, {"t": examples}, limit=None)
    return folder


def errors_of(folder: Path, head: Head, rows: Sequence[Row], **fields: Any) -> HeadErrors:
    (errors,) = read_errors(run_of(folder, head, rows, **fields))
    return errors


def test_every_kind_of_entity_error_is_counted_for_its_label(tmp_path: Path) -> None:
    words = ("Rais", "Amina", "Juma", "wa", "Dar", "es", "Salaam")
    gold = ("O", "B-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-LOC")
    rows = [
        (gold, gold),
        (gold, ("O", "B-PER", "I-PER", "O", "B-LOC", "I-LOC", "O")),  # boundary
        (gold, ("O", "B-LOC", "I-LOC", "O", "B-LOC", "I-LOC", "I-LOC")),  # type
        (gold, ("B-LOC", "I-LOC", "O", "O", "B-LOC", "I-LOC", "I-LOC")),  # boundary and type
        (gold, ("O", "O", "O", "O", "B-LOC", "I-LOC", "I-LOC")),  # missed
        (gold, ("B-PER", "B-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-LOC")),  # spurious
    ]
    head = make_head(HeadConfig("tagging"), TAGS)
    answers = [(gold, Prediction(found)) for gold, found in rows]
    errors = errors_of(tmp_path, head, answers, text=" ".join(words), words=words)
    assert errors.counts["PER"] == {
        "right": 3, "wrong type": 1, "wrong boundary and type": 1, "missed": 1, "spurious": 1,
    }  # fmt: skip
    assert errors.counts["LOC"] == {"right": 5, "wrong boundary": 1}
    boundary = errors.wrong[0]
    assert (boundary.kind, boundary.where, boundary.gold) == ("wrong boundary", "t.tsv:2", "LOC: Dar es Salaam")
    assert boundary.predicted == "LOC: Dar es"
    missed, spurious = (next(one for one in errors.wrong if one.kind == kind) for kind in ("missed", "spurious"))
    assert (missed.gold, missed.predicted) == ("PER: Amina Juma", "none")
    assert (spurious.gold, spurious.predicted) == ("none", "PER: Rais")


def test_an_entity_is_in_one_pair_only_and_the_half_of_a_split_one_is_spurious() -> None:
    pairs = pair_entities([("PER", 0, 3)], [("PER", 0, 0), ("PER", 1, 3)])
    assert pairs == [("wrong boundary", ("PER", 0, 3), ("PER", 1, 3)), ("spurious", None, ("PER", 0, 0))]


def test_confusions_are_sorted_by_frequency_and_examples_by_confidence(tmp_path: Path) -> None:
    head = make_head(HeadConfig("classification"), LabelSet(("bad", "good")))
    rows = [
        ("good", Prediction("bad", (0.6, 0.4))),
        ("bad", Prediction("bad", (0.9, 0.1))),
        ("bad", Prediction("good", (0.3, 0.7))),
        ("good", Prediction("bad", (0.8, 0.2))),
        (None, Prediction("bad", (0.8, 0.2))),
    ]
    errors = errors_of(tmp_path, head, rows)
    assert errors.num_examples == 4
    assert errors.num_by_kind == {"good → bad": 2, "bad → good": 1}
    assert errors.counts == {"good": {"good → bad": 2}, "bad": {"right": 1, "bad → good": 1}}
    found = [(one.where, one.gold, one.predicted, one.weight) for one in errors.wrong]
    assert found == [("t.tsv:4", "good", "bad", 0.8), ("t.tsv:3", "bad", "good", 0.7), ("t.tsv:1", "good", "bad", 0.6)]
    _, labels, examples = tables_of(Diagnosis("r", [], [errors], [], []))
    assert labels.rows == [("bad", "2", "1", "1"), ("good", "2", "0", "2")]
    assert [row[:2] for row in examples.rows] == [
        ("good → bad", "t.tsv:4"), ("good → bad", "t.tsv:1"), ("bad → good", "t.tsv:3"),
    ]  # fmt: skip


def test_a_wrong_choice_has_the_probability_of_the_chosen_text(tmp_path: Path) -> None:
    head = make_head(HeadConfig("choice"), LabelSet(()))
    rows = [(0, Prediction(1, (0.2, 0.8))), (1, Prediction(1, (0.4, 0.6)))]
    errors = errors_of(tmp_path, head, rows, choices=("yes", "no"))
    assert errors.counts == {"0": {"0 → 1": 1}, "1": {"right": 1}}
    (wrong,) = errors.wrong
    assert (wrong.gold, wrong.predicted, wrong.weight) == ("0: yes", "1: no", 0.8)
    named = make_head(HeadConfig("choice", labels=["A", "B"]), LabelSet(("A", "B")))
    (wrong,) = errors_of(tmp_path / "named", named, rows, choices=("yes", "no")).wrong
    assert (wrong.gold, wrong.predicted, wrong.weight) == ("0: yes", "1: no", 0.8)


def test_labels_of_a_multilabel_head_are_missed_or_added_and_unknown_cells_do_not_count(tmp_path: Path) -> None:
    head = make_head(HeadConfig("multilabel", column="x"), LabelSet(("a", "b", "c")))
    gold = {"a": True, "b": False, "c": None}
    rows = [(gold, Prediction(("b", "c"), (0.1, 0.7, 0.9))), (gold, Prediction(("a",), (0.8, 0.2, 0.1)))]
    errors = errors_of(tmp_path, head, rows)
    assert errors.counts == {"a": {"missed": 1, "right": 1}, "b": {"added": 1}}
    assert [(one.kind, one.label, one.weight) for one in errors.wrong] == [("missed", "a", 0.9), ("added", "b", 0.7)]


def test_numbers_are_sorted_by_the_size_of_the_residual(tmp_path: Path) -> None:
    head = make_head(HeadConfig("regression"), LabelSet(()))
    rows = [(1.0, Prediction(1.5)), (2.0, Prediction(0.0)), (3.0, Prediction(3.0)), (1.0, Prediction(float("nan")))]
    errors = errors_of(tmp_path, head, rows)
    assert errors.counts == {"all": {"too high": 1, "too low": 1, "right": 1, "not a number": 1}}
    assert [(one.where, one.weight) for one in errors.wrong] == [("t.tsv:2", 2.0), ("t.tsv:1", 0.5), ("t.tsv:4", None)]


def test_every_kind_of_wrong_answer_is_counted(tmp_path: Path) -> None:
    head = make_head(HeadConfig("span"), LabelSet(("answer", "no answer")))
    gold = (("Dar es Salaam", 0),)
    rows = [
        (gold, Prediction("Dar es Salaam", (5.0, 1.0))),
        (gold, Prediction("Dar", (4.0, 1.0))),
        (gold, Prediction("Tanga", (3.0, 1.0))),
        (gold, Prediction("", (1.0, 6.0))),
        ((), Prediction("Tanga", (2.0, 1.0))),
        ((), Prediction("", (1.0, 2.0))),
    ]
    errors = errors_of(tmp_path, head, rows, text_pair="Dar es Salaam, Tanga")
    assert errors.counts == {
        "with an answer": {
            "right": 1, "shares words with the right answer": 1, "shares no word with the right answer": 1,
            "no answer where there is one": 1,
        },
        "without an answer": {"an answer where there is none": 1, "right": 1},
    }  # fmt: skip
    assert [one.weight for one in errors.wrong] == [5.0, 3.0, 2.0, 1.0]


def test_plain_tags_are_counted_by_word_and_words_that_were_not_read_are_told_apart(tmp_path: Path) -> None:
    head = make_head(HeadConfig("tagging", scheme="plain"), LabelSet(("N", "V")))
    rows = [(("N", "V", "N"), Prediction(("N", "N", None)))]
    errors = errors_of(tmp_path, head, rows, text="mtu anakula wali", words=("mtu", "anakula", "wali"))
    assert errors.counts == {"N": {"right": 1, "N → (not read)": 1}, "V": {"V → N": 1}}
    assert [(one.gold, one.predicted) for one in errors.wrong] == [
        ("anakula=V", "anakula=N"), ("wali=N", "wali=(not read)"),
    ]  # fmt: skip


def test_errors_of_dev_and_of_test_are_counted_apart(tmp_path: Path) -> None:
    head = make_head(HeadConfig("classification"), LabelSet(("bad", "good")))
    run_of(tmp_path, head, [("good", Prediction("bad", (0.6, 0.4)))], split="dev")
    run_of(tmp_path, head, [("good", Prediction("good", (0.4, 0.6)))])
    assert [(one.set, len(one.wrong)) for one in read_errors(tmp_path)] == [("dev", 1), ("test", 0)]


def test_suspects_are_ranked_by_the_probability_of_the_given_label() -> None:
    examples = [Example(f"t.tsv:{n}", f"text {n}", {"h": "good"}) for n in range(3)]
    labels = [JudgedLabel(one, "good", p, None, "bad") for one, p in zip(examples, (0.5, 0.1, 0.9), strict=True)]
    (head,) = rank_suspects({("t", "h"): labels})
    assert [(one.where, one.given, one.predicted) for one in head.suspects] == [
        ("t.tsv:1", "good", "bad"), ("t.tsv:0", "good", "bad"), ("t.tsv:2", "good", "bad"),
    ]  # fmt: skip
    assert head.num_labels == 3


def test_a_suspect_shows_the_least_probable_word_or_label() -> None:
    tagged = Example("t.txt:1", "Amina anaishi", {"h": ("B-PER", "O")}, words=("Amina", "anaishi"))
    several = Example("t.tsv:1", "text", {"h": {"a": True, "b": False}})
    (of_words, of_labels) = rank_suspects(
        {
            ("t", "h"): [JudgedLabel(tagged, ("B-PER", "O"), 0.1, 0, ("B-LOC", "O"))],
            ("u", "h"): [JudgedLabel(several, {"a": True, "b": False}, 0.2, "b", ("b",))],
        }
    )
    assert [(one.given, one.predicted) for one in of_words.suspects] == [("Amina=B-PER", "Amina=B-LOC")]
    assert [(one.given, one.predicted) for one in of_labels.suspects] == [("b: no", "b: yes")]


def test_a_data_map_has_mean_and_deviation_of_each_probability_over_the_epochs() -> None:
    example = Example("t.tsv:1", "text", {"h": "good"})
    epochs = [{("t", "h"): [JudgedLabel(example, "good", p, None, "good")]} for p in (0.2, 0.4, 0.9)]
    (drawn,) = draw_maps(epochs)
    (point,) = drawn.points
    assert point.confidence == pytest.approx(0.5)
    assert point.variability == pytest.approx(((0.09 + 0.01 + 0.16) / 3) ** 0.5)


def diagnosed(run_dir: Path, **options: Any) -> Diagnosis:
    config = ExperimentConfig(action="diagnose", run_dir=str(run_dir), diagnose=DiagnoseConfig(**options))
    return diagnose_run(config, lambda line: None)


def test_texts_and_labels_never_become_html_or_markdown(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script> | [x](y)"
    head = make_head(HeadConfig("classification"), LabelSet(("bad", evil)))
    run_of(tmp_path / "run", head, [(evil, Prediction("bad", (0.6, 0.4)))], text=evil)
    example = Example(evil, evil, {"h": evil})
    judged = {("t", "h"): [JudgedLabel(example, evil, 0.1, None, "bad")]}
    diagnosis = replace(
        diagnosed(tmp_path / "run"), suspects=rank_suspects(judged), maps=draw_maps([judged, judged])
    )  # fmt: skip
    write_diagnosis(diagnosis, tmp_path / "out")
    page = (tmp_path / "out" / "diagnosis.html").read_text(encoding="utf-8")
    check_page(page)
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; | [x](y) → bad" in page
    assert '<img width="' in page
    markdown = (tmp_path / "out" / "diagnosis.md").read_text(encoding="utf-8")
    assert r"\<script\>alert\(1\)\</script\> \| \[x\]\(y\) → bad" in markdown
    assert "<script>" not in markdown
    values = json.loads((tmp_path / "out" / "diagnosis.json").read_text(encoding="utf-8"))
    assert values["heads"][0]["wrong"][0]["text"] == evil
    assert values["suspects"][0]["suspects"][0]["where"] == evil


def refusal(run_dir: Path, **options: Any) -> str:
    with pytest.raises(InputError) as error:
        diagnosed(run_dir, **options)
    return str(error.value)


def test_what_is_no_run_or_has_no_predictions_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "empty: not the folder of a run" in refusal(tmp_path / "empty")
    (tmp_path / "old" / ".hydra").mkdir(parents=True)
    (tmp_path / "old" / ".hydra" / "config.yaml").write_text("action: train\n", encoding="utf-8")
    assert f"run_dir={tmp_path / 'old'}: this run is not finished" in refusal(tmp_path / "old")
    (tmp_path / "old" / "results.json").write_text("{}", encoding="utf-8")
    assert f"make them with action=evaluate run_dir={tmp_path / 'old'}" in refusal(tmp_path / "old")


def test_one_fold_is_refused_before_anything_is_read() -> None:
    with pytest.raises(InputError, match=r"diagnose\.folds=1: one model would be trained on nothing; choose 2 or more"):
        check(ExperimentConfig(action="diagnose", run_dir="r", diagnose=DiagnoseConfig(folds=1)))
    with pytest.raises(InputError, match=r"diagnose\.folds=-1"):
        check(ExperimentConfig(action="diagnose", run_dir="r", diagnose=DiagnoseConfig(folds=-1)))


@pytest.mark.slow
def test_a_finished_run_is_diagnosed_with_folds_and_a_data_map(
    make_config: MakeConfig, data_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = data_root / "mood" / "train.tsv"
    lines = train.read_text(encoding="utf-8").splitlines()
    config = make_config(num_epochs=2)
    trained(config, tmp_path / "run")
    config.action, config.run_dir = "diagnose", str(tmp_path / "run")
    config.diagnose = DiagnoseConfig(folds=2, data_map=True)
    capsys.readouterr()
    actions.diagnose(config, tmp_path / "out")
    printed = capsys.readouterr().out
    cost = "diagnose.folds=2: trains 2 models, each without 1/2 of train"
    assert printed.index(cost) < printed.index("fold 1 of 2")
    assert re.search(r"test: mood\.\w+: \d+ errors in \d+ examples\n", printed)  # a table has the kinds
    values = json.loads((tmp_path / "out" / "diagnosis.json").read_text(encoding="utf-8"))
    assert [(one["set"], one["task"]) for one in values["heads"]] == [
        ("dev", "mood"), ("dev", "people"), ("test", "mood"), ("test", "people"),
    ]  # fmt: skip
    suspects = {one["task"]: one["suspects"] for one in values["suspects"]}
    assert sorted(int(one["where"].rpartition(":")[2]) for one in suspects["mood"]) == [*range(2, len(lines) + 1)]
    assert len(suspects["people"]) == 40
    assert {one["num_epochs"] for one in values["maps"]} == {2}
    assert [len(one["points"]) for one in values["maps"] if one["task"] == "mood"] == [len(lines) - 1]
    config.diagnose = DiagnoseConfig(folds=1000)
    with pytest.raises(InputError, match=r"diagnose\.folds=1000: task .* has only .* different training texts"):
        actions.diagnose(config, tmp_path / "again")
    assert "diagnose.folds" not in capsys.readouterr().out
    assert not (tmp_path / "again").exists()


def test_the_folder_of_an_evaluation_has_errors_and_no_suspects(make_config: MakeConfig, tmp_path: Path) -> None:
    head = make_head(HeadConfig("classification"), LabelSet(("bad", "good")))
    run_dir = run_of(tmp_path, head, [("good", Prediction("bad", (0.6, 0.4)))])
    config = make_config("mood")
    config.action, config.run_dir = "evaluate", "earlier"
    save_config(config, run_dir)
    assert len(diagnosed(run_dir).heads) == 1
    assert "the folder of an action=evaluate, which has trained nothing" in refusal(run_dir, folds=2)
