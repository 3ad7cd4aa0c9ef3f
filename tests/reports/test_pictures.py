"""The pictures of a run: what is counted, how it is drawn, and where it lands."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig, HeadConfig
from multitask_bert.heads import make_head
from multitask_bert.inference.predictor import Predictor
from multitask_bert.labels import LabelSet
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.records import Example, Prediction, TaskResult
from multitask_bert.reports import picture_plots
from multitask_bert.reports.label_counts import NONE, LabelCounts, confusion_of, count_labels
from multitask_bert.reports.pictures import confidence, draw_pictures, figures_of
from multitask_bert.saving.predictions import KeptAnswer, read_predictions, write_predictions
from multitask_bert.utils import metrics
from multitask_bert.utils.files import checksums_of, write_json
from tests.trained_runs import logged_without_times, trained

MakeConfig = Callable[..., ExperimentConfig]
COLOURS = LabelSet(("blue", "green", "red"))


def counted(config: HeadConfig, labels: LabelSet, golds: list[Any], values: list[Any]) -> dict[tuple[str, str], int]:
    """The cells of the confusion that are not 0, by gold and predicted label."""
    confusion, _ = count_labels(make_head(config, labels), golds, values)
    assert confusion is not None
    return {
        (confusion.names[row], confusion.names[column]): int(count)
        for (row, column), count in np.ndenumerate(confusion.count_GP)
        if count
    }


def test_confusions_of_labels_are_those_counted_by_hand() -> None:
    golds, values = ["red", "red", "blue", "red", "blue"], ["red", "blue", "blue", "blue", "green"]
    assert counted(HeadConfig("classification"), COLOURS, golds, values) == {
        ("red", "red"): 1, ("red", "blue"): 2, ("blue", "blue"): 1, ("blue", "green"): 1,
    }  # fmt: skip


def test_confusions_of_tags_count_words_and_those_that_were_not_read() -> None:
    config = HeadConfig("tagging", scheme="plain")
    cells = counted(config, COLOURS, [("red", "blue", "red"), ("green",)], [("red", "red", None), ("green",)])
    assert cells == {("red", "red"): 1, ("blue", "red"): 1, ("red", NONE): 1, ("green", "green"): 1}


def test_confusions_of_entities_are_of_those_that_span_the_same_words() -> None:
    """One right, one of another type, one with another border (twice none), one missed."""
    labels = LabelSet(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    gold = ("B-PER", "I-PER", "O", "B-LOC", "O", "B-LOC", "I-LOC", "O", "B-PER")
    found = ("B-PER", "I-PER", "O", "B-PER", "O", "B-LOC", "O", "O", "O")
    assert counted(HeadConfig("tagging"), labels, [gold], [found]) == {
        ("PER", "PER"): 1, ("LOC", "PER"): 1, ("LOC", NONE): 1, (NONE, "LOC"): 1, ("PER", NONE): 1,
    }  # fmt: skip


def test_choices_with_names_are_confused_by_their_names() -> None:
    labels = LabelSet(("A", "B", "C"))
    assert counted(HeadConfig("choice"), labels, [0, 2, 2], [0, 2, 1]) == {
        ("A", "A"): 1, ("C", "C"): 1, ("C", "B"): 1,
    }  # fmt: skip


def test_confusions_and_measures_of_random_labels_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    golds, values = (random.choice(COLOURS.names, 300).tolist() for _ in range(2))
    confusion, labels = count_labels(make_head(HeadConfig("classification"), COLOURS), golds, values)
    assert confusion is not None
    assert confusion.count_GP.tolist() == confusion_matrix(golds, values, labels=COLOURS.names).tolist()
    expected = precision_recall_fscore_support(golds, values, labels=COLOURS.names)
    assert [[one.precision, one.recall, one.f1, one.gold] for one in labels] == pytest.approx(np.transpose(expected))


def test_the_f1_of_each_entity_type_is_that_of_the_metrics() -> None:
    random = np.random.default_rng(1)
    labels = LabelSet(("O", "B-LOC", "I-LOC", "B-PER", "I-PER"))
    golds, values = ([tuple(random.choice(labels.names, 8)) for _ in range(100)] for _ in range(2))
    _, found = count_labels(make_head(HeadConfig("tagging"), labels), golds, values)
    names = [f"f1_of_{one.name}" for one in found]
    expected = metrics.compute_all(metrics.ENTITIES, names, [list(gold) for gold in golds], [list(v) for v in values])
    assert names == ["f1_of_LOC", "f1_of_PER"]
    assert [one.f1 for one in found] == pytest.approx(list(expected.values()))


def test_of_several_labels_unknown_cells_do_not_count_and_there_is_no_confusion() -> None:
    golds = [{"red": True, "blue": None}, {"green": True}, {"red": True}]
    confusion, found = count_labels(
        make_head(HeadConfig("multilabel"), COLOURS), golds, [("red", "blue"), ("red",), ()]
    )
    assert confusion is None
    assert found == [LabelCounts("blue", 0, 0, 0), LabelCounts("green", 0, 1, 0), LabelCounts("red", 1, 2, 2)]


@pytest.mark.parametrize(("kind", "gold", "value"), [("regression", 1.5, 2.0), ("span", (("Amina", 3),), "Amina")])
def test_numbers_and_answers_have_nothing_to_draw(kind: str, gold: Any, value: Any) -> None:
    assert count_labels(make_head(HeadConfig(kind), LabelSet(())), [gold], [value]) == (None, [])


def test_many_labels_become_those_with_most_confusions_and_the_others_and_no_count_is_lost() -> None:
    pairs = [(f"l{index:02}", f"l{index:02}") for index in range(77)] + [("l70", "l71")] * 3 + [("l05", NONE)]
    confusion = confusion_of("words", pairs, [])
    shown, num_more = picture_plots.shown_confusion(confusion, most=4)
    assert (shown.names, num_more) == (("l00", "l05", "l70", "l71", "(73 others)", NONE), 73)
    assert shown.count_GP.sum() == confusion.count_GP.sum() == len(pairs)
    assert shown.count_GP[2].tolist() == [0, 0, 1, 3, 0, 0]
    assert shown.count_GP[4].tolist() == [0, 0, 0, 0, 73, 0]


def test_pictures_of_many_labels_stay_of_bounded_size_and_say_what_they_leave_out() -> None:
    pairs = [(f"${index}$", f"${index % 70}$") for index in range(300)]
    confusion = confusion_of("examples", pairs, [])
    with picture_plots.drawing():
        matrix = picture_plots.confusion_plot("t.h", "test", confusion)
        bars = picture_plots.label_bars("t.h", "test", confusion.label_counts(), "examples")
    assert "the 20 labels of 300 " in matrix.caption
    assert "the 30 labels with the lowest F1 of 300" in bars.caption
    assert max(matrix.width, bars.width) < 1100


def test_the_confidence_of_an_answer_is_the_probability_of_what_was_predicted(tmp_path: Path) -> None:
    head = make_head(HeadConfig("choice"), LabelSet(()))
    result = TaskResult(predictions={"h": [Prediction(1, (0.2, 0.7, 0.1))]})
    write_predictions(
        tmp_path, "test", {"t": {"h": head}}, {"t": result}, {"t": [Example("a:1", "x", {"h": 2})]}, limit=None
    )
    (kept,) = read_predictions(tmp_path, "test")
    assert confidence(kept.answers["h"]) == 0.7
    assert confidence(KeptAnswer("red", "blue", {"blue": 0.6, "red": 0.4})) == 0.6
    assert confidence(KeptAnswer("red", "blue", {})) is None


def test_a_head_without_probabilities_has_no_reliability_diagram() -> None:
    answers = [KeptAnswer(("red",), ("red",), {})]
    figures = figures_of("t.h", "test", make_head(HeadConfig("tagging", scheme="plain"), COLOURS), answers)
    assert figures.confusion is not None
    assert figures.reliability is None


@pytest.mark.slow
def test_a_run_leaves_pictures_and_a_page_that_shows_no_label_as_html(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("people+mood", pictures=True)
    config.logger = {"tensorboard": {"_target_": "multitask_bert.tracking.tensorboard.TensorBoardLogger"}}
    config.name = "<script>alert(1)</script>"
    trained(config, tmp_path / "run")
    names = {path.stem for path in (tmp_path / "run" / "pictures").glob("*.png")}
    assert names == {
        "curves", "mood.polarity.confusion", "mood.polarity.reliability", "mood.polarity.labels",
        "people.entities.confusion", "people.entities.labels",
    }  # fmt: skip
    page = (tmp_path / "run" / "pictures.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 6
    assert "<script>alert" not in page
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["images"]) == {f"pictures/{name}" for name in names}
    (image,) = events.Images("pictures/curves")
    assert image.encoded_image_string == (tmp_path / "run" / "pictures" / "curves.png").read_bytes()
    later = replace(make_config("mood", pictures=True), action="evaluate", run_dir=str(tmp_path / "run"))
    actions.evaluate(later, tmp_path / "again")
    assert (tmp_path / "again" / "pictures" / "mood.polarity.confusion.png").is_file()


@pytest.mark.slow
def test_a_picture_that_cannot_be_drawn_is_a_warning_and_the_run_is_complete(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any) -> Any:
        raise RuntimeError("no fonts")

    monkeypatch.setattr(picture_plots, "confusion_plot", broken)
    results = trained(make_config("mood", num_epochs=1, pictures=True), tmp_path / "run")
    assert "the pictures of the run could not be drawn (no fonts)" in caplog.text
    assert results["metrics"]["test"]
    assert not (tmp_path / "run" / "pictures.html").exists()


@pytest.mark.slow
def test_pictures_and_calibration_change_neither_losses_nor_scores_nor_predictions(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    plain, calibrated = make_config("mood"), make_config("mood", pictures=True)
    calibrated.tasks["mood"].heads["polarity"].calibrate = True
    before, after = trained(plain, tmp_path / "plain"), trained(calibrated, tmp_path / "calibrated")
    assert "calibration" not in before
    assert logged_without_times(tmp_path / "plain") == logged_without_times(tmp_path / "calibrated")
    assert before["metrics"] == after["metrics"]
    found = after["calibration"]["mood.polarity"]
    assert found["temperature"] != 1
    assert set(found) == {"temperature", "dev", "test"}
    for split in ("dev", "test"):
        sides = [list(read_predictions(tmp_path / run, split)) for run in ("plain", "calibrated")]
        answers = [[one.answers["polarity"] for one in side] for side in sides]
        assert [one.predicted for one in answers[0]] == [one.predicted for one in answers[1]]
        errors = [figures_of("h", split, make_head(HeadConfig("classification"), COLOURS), side) for side in answers]
        measured = [one.reliability.expected_calibration_error for one in errors if one.reliability is not None]
        assert measured == pytest.approx([found[split]["before"], found[split]["after"]], abs=1e-5)
    page = (tmp_path / "calibrated" / "pictures.html").read_text(encoding="utf-8")
    assert f"Temperature {found['temperature']:.3f}, fitted on dev" in page


@pytest.mark.slow
def test_a_saved_model_predicts_with_its_temperature_and_one_from_before_there_were_any_loads(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config("mood", num_epochs=1)
    config.tasks["mood"].heads["polarity"].calibrate = True
    results = trained(config, tmp_path / "run")
    predictor = Predictor.load(tmp_path / "run", device="cpu")
    head: Any = predictor.model.heads["mood"]["polarity"]
    assert head.temperature == results["calibration"]["mood.polarity"]["temperature"]
    kept = list(read_predictions(tmp_path / "run", "test"))
    for example, found in zip(kept, predictor.predict([one.text for one in kept]), strict=True):
        shown = found["predictions"]["mood"]["polarity"]
        assert shown["probabilities"] == pytest.approx(dict(example.answers["polarity"].probabilities), abs=1e-5)
    trained(make_config("mood", num_epochs=1), tmp_path / "old")
    model = tmp_path / "old" / "model"
    description = json.loads((model / "multitask.json").read_text(encoding="utf-8"))
    del description["heads"]["mood"]["polarity"]["config"]["calibrate"]
    write_json(model / "multitask.json", description)
    (model / "checksums.json").unlink()
    write_json(model / "checksums.json", checksums_of(model))
    old, _ = MultiTaskModel.load(model)
    assert not old.heads["mood"]["polarity"].config.calibrate


def test_nothing_is_drawn_where_nothing_is_left_to_draw(tmp_path: Path, make_config: MakeConfig) -> None:
    assert draw_pictures(make_config("mood"), tmp_path) == []
    assert list(tmp_path.iterdir()) == []
