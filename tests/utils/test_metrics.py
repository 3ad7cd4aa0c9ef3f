"""Our metrics beside the libraries that define them, on random input and at the edges."""

from __future__ import annotations

import warnings
from pathlib import Path
from random import Random

import evaluate
import numpy as np
import pytest
import scipy.stats
import seqeval.metrics
import sklearn.metrics
from seqeval.scheme import IOB2

from multitask_bert.utils import metrics
from tests.metric_modules import module_code

TAGS = ("O", "O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG-X", "I-ORG-X")
SEEDS = range(30)


def random_tags(random: Random) -> tuple[list[list[str]], list[list[str]]]:
    """Gold and predicted tags of a few sentences; most predictions are right, all kinds of wrong ones occur."""
    gold = [[random.choice(TAGS) for _ in range(random.randint(1, 9))] for _ in range(random.randint(1, 6))]
    found = [[tag if random.random() < 0.7 else random.choice(TAGS) for tag in sentence] for sentence in gold]
    return gold, found


def of_seqeval(name: str, gold: list[list[str]], found: list[list[str]]) -> float:
    name, _, mode = name.partition("_")
    options = {"mode": "strict", "scheme": IOB2} if mode else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "ill-defined" where there is no entity: a zero for us, too
        function = getattr(seqeval.metrics, f"{name}_score")
        return float(function(gold, found, **options))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["f1", "precision", "recall", "f1_strict", "precision_strict", "recall_strict"])
def test_entity_scores_equal_seqeval(name: str, seed: int) -> None:
    gold, found = random_tags(Random(seed))
    ours = metrics.compute_all(metrics.ENTITIES, [name], gold, found)
    assert ours == {name: pytest.approx(of_seqeval(name, gold, found), abs=1e-12)}


EDGES = {
    "all O": ([["O", "O"]], [["O", "O"]]),
    "nothing found": ([["B-PER", "O"]], [["O", "O"]]),
    "nothing to find": ([["O", "O"]], [["B-PER", "O"]]),
    "everything right": ([["B-PER", "I-PER"], ["B-LOC"]], [["B-PER", "I-PER"], ["B-LOC"]]),
    "I- after O": ([["O", "I-PER", "I-PER"]], [["O", "B-PER", "I-PER"]]),
    "I- after another type": ([["B-PER", "I-LOC"]], [["B-PER", "B-LOC"]]),
    "B- after B-": ([["B-PER", "B-PER"]], [["B-PER", "I-PER"]]),
    "one word": ([["B-PER"]], [["B-LOC"]]),
}


@pytest.mark.parametrize("case", EDGES)
@pytest.mark.parametrize("name", ["f1", "f1_strict"])
def test_entity_scores_equal_seqeval_at_the_edges(case: str, name: str) -> None:
    gold, found = EDGES[case]
    ours = metrics.compute_all(metrics.ENTITIES, [name], gold, found)[name]
    assert ours == pytest.approx(of_seqeval(name, gold, found), abs=1e-12)


def test_default_and_strict_mode_differ_where_an_entity_begins_with_i() -> None:
    gold, found = [["B-PER", "O"]], [["I-PER", "O"]]
    ours = metrics.compute_all(metrics.ENTITIES, ["f1", "f1_strict"], gold, found)
    assert ours == {"f1": 1.0, "f1_strict": 0.0}


def of_sklearn(name: str, gold: list[str], found: list[str]) -> float:
    if name == "accuracy":
        return float(sklearn.metrics.accuracy_score(gold, found))
    if name == "matthews_correlation":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of a single class
            return float(sklearn.metrics.matthews_corrcoef(gold, found))
    name, _, average = name.partition("_")
    function = getattr(sklearn.metrics, f"{name}_score")
    return float(function(gold, found, average=average or "macro", zero_division=0))


@pytest.mark.parametrize("seed", SEEDS)
def test_classification_scores_equal_scikit_learn(seed: int) -> None:
    random = Random(seed)
    labels = ["negative", "neutral", "positive", "Ü"][: random.randint(1, 4)]
    gold = [random.choice(labels) for _ in range(random.randint(1, 40))]
    found = [label if random.random() < 0.6 else random.choice(labels) for label in gold]
    ours = metrics.compute_all(metrics.CLASSIFICATION, list(metrics.CLASSIFICATION), gold, found)
    assert ours == {name: pytest.approx(of_sklearn(name, gold, found), abs=1e-12) for name in metrics.CLASSIFICATION}


FAMILIES = {
    "classification": metrics.CLASSIFICATION, "tags": metrics.TAGS, "entities": metrics.ENTITIES,
    "multilabel": metrics.MULTILABEL, "numbers": metrics.NUMBERS, "answers": metrics.ANSWERS,
}  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_to_score_is_zero_and_no_error(name: str) -> None:
    family = FAMILIES[name]
    assert metrics.compute_all(family, family.names, [], []) == dict.fromkeys(family.names, 0.0)


@pytest.mark.parametrize("seed", SEEDS)
def test_tags_in_sentences_score_like_all_their_words(seed: int) -> None:
    gold, found = random_tags(Random(seed))
    in_sentences = metrics.compute_all(metrics.TAGS, metrics.TAGS.names, gold, found)
    flat = [tag for tags in gold for tag in tags], [tag for tags in found for tag in tags]
    assert in_sentences == metrics.compute_all(metrics.CLASSIFICATION, metrics.TAGS.names, *flat)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_f1_of_one_label_equals_scikit_learn(seed: int) -> None:
    random = Random(seed)
    gold, found = ([random.choice("abc") for _ in range(12)] for _ in range(2))
    ours = metrics.compute_all(metrics.CLASSIFICATION, ["f1_of_a", "f1_of_never"], gold, found)
    theirs = sklearn.metrics.f1_score(gold, found, labels=["a"], average="macro", zero_division=0)
    assert ours == {"f1_of_a": pytest.approx(theirs, abs=1e-12), "f1_of_never": 0.0}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ["precision", "recall"])
def test_precision_and_recall_of_one_label_equal_scikit_learn(seed: int, name: str) -> None:
    random = Random(seed)
    gold, found = ([random.choice("abc") for _ in range(12)] for _ in range(2))
    ours = metrics.compute_all(metrics.CLASSIFICATION, [f"{name}_of_a"], gold, found)
    theirs = getattr(sklearn.metrics, f"{name}_score")(gold, found, labels=["a"], average="macro", zero_division=0)
    assert ours == {f"{name}_of_a": pytest.approx(theirs, abs=1e-12)}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_accuracy_without_a_label_is_that_of_the_examples_that_do_not_have_it(seed: int) -> None:
    random = Random(seed)
    gold, found = ([random.choice(["a", "b", "oos"]) for _ in range(20)] for _ in range(2))
    in_scope = [(label, other) for label, other in zip(gold, found, strict=True) if label != "oos"]
    ours = metrics.compute_all(metrics.CLASSIFICATION, ["accuracy_without_oos", "accuracy_without_never"], gold, found)
    assert ours["accuracy_without_oos"] == pytest.approx(sklearn.metrics.accuracy_score(*zip(*in_scope, strict=True)))
    assert ours["accuracy_without_never"] == pytest.approx(sklearn.metrics.accuracy_score(gold, found))


def test_where_only_the_label_that_is_left_out_occurs_the_accuracy_is_zero() -> None:
    assert metrics.compute_all(metrics.CLASSIFICATION, ["accuracy_without_oos"], ["oos"], ["a"]) == {
        "accuracy_without_oos": 0.0
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_the_f1_of_one_entity_type_equals_seqeval(seed: int) -> None:
    gold, found = random_tags(Random(seed))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        report = seqeval.metrics.classification_report(gold, found, output_dict=True, zero_division=0)
    theirs = {f"f1_of_{kind}": report.get(kind, {"f1-score": 0.0})["f1-score"] for kind in ("PER", "LOC", "ORG-X")}
    assert metrics.compute_all(metrics.ENTITIES, list(theirs), gold, found) == pytest.approx(theirs, abs=1e-12)


def random_cells(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gold and predicted cells; some columns and rows are empty on one side or both."""
    generator = np.random.default_rng(seed)
    gold = (generator.random((generator.integers(1, 20), 4)) < generator.random(4)).astype(int)
    found = np.where(generator.random(gold.shape) < 0.8, gold, 1 - gold)
    found[:, seed % 4] = 0
    gold[:, (seed // 2) % 4] = 0
    return gold, found


MULTILABEL_THERE = {
    "f1": ("f1_score", "macro"), "f1_micro": ("f1_score", "micro"), "f1_samples": ("f1_score", "samples"),
    "f1_weighted": ("f1_score", "weighted"), "precision": ("precision_score", "macro"),
    "recall": ("recall_score", "macro"),
}  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
def test_multilabel_scores_equal_scikit_learn(seed: int) -> None:
    gold, found = random_cells(seed)
    theirs = {
        name: getattr(sklearn.metrics, function)(gold, found, average=average, zero_division=0)
        for name, (function, average) in MULTILABEL_THERE.items()
    }
    theirs["exact_match"] = sklearn.metrics.accuracy_score(gold, found)
    ours = metrics.compute_all(metrics.MULTILABEL, metrics.MULTILABEL.names, gold.tolist(), found.tolist())
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("name", ["f1", "f1_micro", "f1_weighted", "f1_of_1", "precision", "recall"])
def test_an_unknown_cell_scores_as_if_the_example_were_not_there_for_that_label(name: str) -> None:
    gold, found = random_cells(3)
    gold[:5, 1] = -1
    unknown = metrics.compute_all(metrics.MULTILABEL, [name], gold.tolist(), found.tolist())
    columns = [slice(5 if column == 1 else 0, None) for column in range(4)]
    sums = np.concatenate(
        [
            [((gold[rows, c] == 1) & (found[rows, c] == 1)).sum() for c, rows in enumerate(columns)],
            [(gold[rows, c] == 1).sum() for c, rows in enumerate(columns)],
            [(found[rows, c] == 1).sum() for c, rows in enumerate(columns)],
        ]
    ).astype(float)
    if name == "f1_of_1":
        sums = sums[1::4]
    assert unknown[name] == metrics.MULTILABEL.make(name).statistic(sums[None])[0]


def test_the_exact_match_of_an_example_is_over_its_known_cells() -> None:
    golds = [[1, -1], [-1, -1], [0, -1]]
    assert metrics.compute_all(metrics.MULTILABEL, ["exact_match"], golds, [[1, 1], [0, 1], [1, 0]]) == {
        "exact_match": pytest.approx(2 / 3)
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_number_scores_equal_scipy_and_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    gold = generator.integers(0, 6, size=30) + (1e6 if seed % 3 == 0 else 0.0)  # ties, and a large mean
    found = gold + generator.normal(size=30)
    ours = metrics.compute_all(metrics.NUMBERS, metrics.NUMBERS.names, gold.tolist(), found.tolist())
    assert ours["pearson"] == pytest.approx(scipy.stats.pearsonr(gold, found).statistic, abs=1e-9)
    assert ours["spearman"] == pytest.approx(scipy.stats.spearmanr(gold, found).statistic, abs=1e-9)
    assert ours["mse"] == pytest.approx(sklearn.metrics.mean_squared_error(gold, found))
    assert ours["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(gold, found))


@pytest.mark.parametrize(("gold", "found"), [([1.0, 1.0], [0.3, 0.7]), ([0.1, 0.2], [0.1, 0.1]), ([2.0], [3.0])])
def test_a_correlation_with_a_constant_is_zero_and_no_warning(gold: list[float], found: list[float]) -> None:
    scores = metrics.compute_all(metrics.NUMBERS, ["pearson", "spearman"], gold, found)
    assert scores == {"pearson": 0.0, "spearman": 0.0}


def module_folder(folder: Path, returned: str) -> str:
    (folder / "agreement").mkdir()
    (folder / "agreement" / "agreement.py").write_text(module_code("string", returned), encoding="utf-8")
    return str(folder / "agreement")


@pytest.mark.parametrize(
    "returned",
    ["{'anything': len(predictions) / 8}", "{'agreement': len(predictions) / 8, 'other': 7, 'text': 'x'}"],
)
def test_a_module_in_a_folder_gives_its_only_number_or_the_one_of_its_name(returned: str, tmp_path: Path) -> None:
    place = module_folder(tmp_path, returned)
    assert metrics.compute_module(place, {"references": ["a", "b"], "predictions": ["a", "c"]}) == 0.25


def test_a_module_that_returns_several_numbers_of_other_names_is_refused(tmp_path: Path) -> None:
    place = module_folder(tmp_path, "{'one': 1, 'two': 2}")
    with pytest.raises(ValueError, match="returns one, two; one of them must be called agreement"):
        metrics.compute_module(place, {"references": ["a"], "predictions": ["a"]})


@pytest.mark.parametrize(
    ("returned", "problem"),
    [
        ("{'strm': 'x'}", "returns strm='x', and no number; .* a number called agreement, as in {'agreement': 0.5}"),
        ("{'agreement': 'x', 'other': 1}", "returns agreement='x', which is no number; .* called agreement"),
        ("{}", "returns nothing, and no number; .* called agreement"),
        ("0.5", "returns '0.5', which is no dict; .* called agreement"),
        ("{}['kappa']", r"fails on references \['a'\] and predictions \['b'\] \(KeyError: 'kappa'\); correct its"),
        ("1 / 0", r"fails on .* \(ZeroDivisionError: division by zero\); correct its `_compute`, or remove it"),
    ],
)
def test_the_error_for_a_module_without_a_score_shows_what_it_returns(
    returned: str, problem: str, tmp_path: Path
) -> None:
    place = module_folder(tmp_path, returned)
    with pytest.raises(ValueError, match=problem):
        metrics.compute_module(place, {"references": ["a"], "predictions": ["b"]})


def test_the_error_for_a_module_of_another_form_shows_what_the_head_gives(tmp_path: Path) -> None:
    place = module_folder(tmp_path, "{'agreement': 1.0}")
    with pytest.raises(ValueError, match=r"takes {.*'string'.*}, but this head gives references \[0, 1\] .*`features`"):
        metrics.compute_module(place, {"references": [0, 1], "predictions": [0, 0]})


def test_a_number_of_numpy_is_a_number(tmp_path: Path) -> None:
    place = module_folder(tmp_path, "{'agreement': __import__('numpy').float32(0.25)}")
    assert metrics.compute_module(place, {"references": ["a"], "predictions": ["a"]}) == 0.25


@pytest.mark.parametrize(
    ("imports", "way_out"),
    [
        ("import datasets, evaluate", "write one import per line in its file"),
        ("import datasets\nimport evaluate\nimport no_such_library", "install what it imports"),
        ("import datasets\nimport evaluate\n1 / 0", "correct its file, or remove it"),
    ],
)
def test_the_error_for_a_module_that_cannot_be_imported_has_the_way_out(
    imports: str, way_out: str, tmp_path: Path
) -> None:
    place = Path(module_folder(tmp_path, "{'agreement': 1.0}"))
    file = place / "agreement.py"
    file.write_text(file.read_text(encoding="utf-8").replace("import datasets\nimport evaluate", imports), "utf-8")
    with pytest.raises(ValueError, match=rf"metrics: {place} cannot be loaded .*; {way_out}$"):
        metrics.compute_module(str(place), {"references": ["a"], "predictions": ["a"]})


def test_a_folder_without_a_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"metrics: {tmp_path} cannot be loaded .*; name a folder that holds one"):
        metrics.compute_module(str(tmp_path), {"references": ["a"], "predictions": ["a"]})


def test_batches_added_one_by_one_score_like_all_at_once() -> None:
    gold, found = random_tags(Random(5))
    metric = metrics.EntityMetric("f1")
    for one_gold, one_found in zip(gold, found, strict=True):
        metric.add_batch(references=[one_gold], predictions=[one_found])
    assert metric.compute() == metrics.compute_all(metrics.ENTITIES, ["f1"], gold, found)


def random_tags_with_gaps(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Gold and predicted tags, of which some are missing; `c` is never gold, `d` never predicted."""
    random = Random(seed)
    gold = [[random.choice("abd") for _ in range(random.randint(1, 9))] for _ in range(random.randint(1, 6))]
    choices = ("a", "b", "c", metrics.NO_PREDICTION)
    return gold, [[random.choice((*choices, tag)) if tag != "d" else "a" for tag in tags] for tags in gold]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_word_without_a_prediction_is_wrong_and_not_a_class(seed: int) -> None:
    gold, found = random_tags_with_gaps(seed)
    flat = [tag for tags in gold for tag in tags], [tag for tags in found for tag in tags]
    labels = sorted({*flat[0], *flat[1]} - {metrics.NO_PREDICTION})
    theirs = {"accuracy": sklearn.metrics.accuracy_score(*flat)}
    for name in ("f1", "f1_weighted", "f1_micro", "precision", "recall"):
        measure, _, average = name.partition("_")
        score = getattr(sklearn.metrics, f"{measure}_score")
        theirs[name] = score(*flat, labels=labels, average=average or "macro", zero_division=0)
    for label in "abcd":
        theirs[f"f1_of_{label}"] = sklearn.metrics.f1_score(*flat, labels=[label], average="macro", zero_division=0)
    assert metrics.compute_all(metrics.TAGS, list(theirs), gold, found) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_matthews_correlation_with_gaps_is_that_of_rows_of_zeros(seed: int) -> None:
    gold, found = random_tags_with_gaps(seed)
    sides = [np.array([[tag == label for label in "abcd"] for tags in side for tag in tags], float)
             for side in (gold, found)]  # fmt: skip
    x, y = (side - side.mean(axis=0) for side in sides)
    spread = np.sqrt((x * x).sum() * (y * y).sum())
    theirs = (x * y).sum() / spread if spread > 1e-9 else 0.0
    ours = metrics.compute_all(metrics.TAGS, ["matthews_correlation"], gold, found)
    assert ours["matthews_correlation"] == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("label", ["x" * 300, "nul\0", "../../outside", "a b"])
def test_no_label_becomes_a_path(label: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "deep" / "down" / "metrics")
    gold, found = [label, label, "other"], [label, "other", label]
    name = f"f1_of_{label}"
    metric = metrics.LabelMetric(name)
    assert metric.compute(references=gold, predictions=found) == {name: 0.5}
    assert metric.info.config_name == name
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", FAMILIES)
def test_metrics_need_no_home_that_can_be_written(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(evaluate.config, "HF_METRICS_CACHE", tmp_path / "file" / "metrics")
    assert [FAMILIES[name].make(metric).name for metric in FAMILIES[name]]
