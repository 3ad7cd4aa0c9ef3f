"""`format=onnx` and `onnx_int8`: the graph, `Predictor` on it, and the script that needs neither torch nor us."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from multitask_bert import actions
from multitask_bert.config.schema import ExperimentConfig, ExportConfig
from multitask_bert.errors import InputError
from multitask_bert.export.exporting import export_run
from multitask_bert.export.logits import Logits
from multitask_bert.export.onnx_graph import write_graph
from multitask_bert.heads.classification import ClassificationHead
from multitask_bert.inference.onnx_model import GRAPH, session_of
from multitask_bert.inference.predictor import Predictor
from multitask_bert.model.multitask import MultiTaskModel
from tests.export.run_of_all_heads import TEXTS, make_model, make_run, tasks
from tests.model.tiny_encoders import SHAPES

INPUTS: list[Any] = [
    *TEXTS,
    *((text, TEXTS[-index]) for index, text in enumerate(TEXTS)),
    *(
        {"question": "anaishi wapi?", "context": f"{text} na {TEXTS[-i]} {TEXTS[i // 2]}"}
        for i, text in enumerate(TEXTS)
    ),
    *({"text": text, "choices": [TEXTS[-index], TEXTS[index // 2]]} for index, text in enumerate(TEXTS)),
    {"words": TEXTS[0].split()},
    "",
]
GRAPHS = [(family, "pooler") for family in (*SHAPES, "deberta-v2")]
GRAPHS += [("bert", "mean"), ("bert", "max"), ("bert", "cls")]
WITHOUT_US = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "multitask_bert"):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.path.insert(0, {folder!r})
import json
from predict import predict
print(json.dumps([predict(*texts) for texts in json.loads({texts!r})]))
"""


@pytest.fixture(scope="module")
def exported(run: Path) -> Path:
    return export_run(ExperimentConfig(action="export", run_dir=str(run), format="onnx"))


@pytest.fixture(scope="module")
def in_8_bits(run: Path) -> Path:
    options = ExportConfig(max_loss=100.0)
    return export_run(ExperimentConfig(action="export", run_dir=str(run), format="onnx_int8", export=options))


def numbers_in(value: Any) -> list[float]:
    if isinstance(value, dict | list):
        return [
            found for child in (value.values() if isinstance(value, dict) else value) for found in numbers_in(child)
        ]
    return [value] if isinstance(value, float) else []


def without_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_numbers(child) for key, child in value.items()}
    if isinstance(value, list):
        return [without_numbers(child) for child in value]
    return None if isinstance(value, float) else value


def predict_without_us(folder: Path, texts: list[tuple[str, ...]]) -> list[dict[str, Any]]:
    """What the folder's script predicts in a process that can import neither torch nor transformers nor our package."""
    program = WITHOUT_US.format(folder=str(folder), texts=json.dumps(texts))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("family", "pooling"), GRAPHS)
def test_graph_computes_the_logits_of_every_family_and_pooling(tmp_path: Path, family: str, pooling: str) -> None:
    """At other numbers of sequences and tokens than those traced, one of each included."""
    model = make_model(
        {name: task for name, task in tasks().items() if name in ("moods", "people")},
        pooling=pooling, shape={"model_type": family, "vocab_size": 100, **SHAPES.get(family, SHAPES["bert"])},
    )  # fmt: skip
    write_graph(model, tmp_path / GRAPH)
    session = session_of(tmp_path / GRAPH)
    for num_sequences, num_tokens in ((1, 1), (1, 30), (5, 3), (3, 17)):
        ids_BS = torch.randint(5, 100, (num_sequences, num_tokens), generator=torch.Generator().manual_seed(num_tokens))
        mask_BS = torch.ones_like(ids_BS)
        mask_BS[-1, 1 + num_tokens // 2 :] = 0
        types_BS = (torch.arange(num_tokens) > num_tokens // 2).long().expand_as(ids_BS)
        named = {"input_ids": ids_BS, "attention_mask": mask_BS, "token_type_ids": types_BS}
        wanted = [one.name for one in session.get_inputs()]
        with torch.no_grad():
            expected = Logits(model)(*(named[name] for name in wanted))
        found = session.run(None, {name: named[name].numpy() for name in wanted})
        for ours, theirs in zip(expected, found, strict=True):
            is_read = mask_BS.bool() if ours.dim() == 3 else torch.ones(num_sequences, dtype=torch.bool)
            np.testing.assert_allclose(theirs[is_read.numpy()], ours[is_read].numpy(), atol=1e-4)


@pytest.mark.slow
def test_predictor_on_onnxruntime_gives_the_outputs_of_torch(run: Path, exported: Path) -> None:
    """Texts, pairs, questions with contexts of several windows, choices, words and an empty text; batches of 7."""
    expected = list(Predictor.load(run, device="cpu", batch_size=7).predict(INPUTS))
    for folder in (run, exported):
        found = list(Predictor.load(folder, backend="onnx", batch_size=7).predict(INPUTS))
        assert without_numbers(found) == without_numbers(expected)
        assert numbers_in(found) == pytest.approx(numbers_in(expected), abs=2e-4)
    assert len({str(one["predictions"]["feelings"]) for one in expected[: len(TEXTS)]}) > 2


@pytest.mark.slow
def test_torch_computes_losses_in_one_thread_and_has_its_threads_afterwards(exported: Path, monkeypatch: Any) -> None:
    seen = []
    loss = ClassificationHead.loss

    def watched(self: ClassificationHead, *given: Any) -> Any:
        seen.append(torch.get_num_threads())
        return loss(self, *given)

    monkeypatch.setattr(ClassificationHead, "loss", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(Predictor.load(exported, backend="onnx").predict(TEXTS[:2]))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {1}


@pytest.mark.slow
def test_action_predict_on_onnxruntime_writes_what_the_graph_says(run: Path, exported: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    asked = {"input": str(tmp_path / "texts.txt"), "output": str(tmp_path / "said.jsonl"), "backend": "onnx"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MultiTaskModel, "load", None)  # the torch model is not read
        actions.predict(ExperimentConfig(action="predict", run_dir=str(run), **asked), tmp_path)
        said = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text(encoding="utf-8").splitlines()]
        assert said == list(Predictor.load(exported, backend="onnx").predict(TEXTS))


@pytest.mark.parametrize("action", ["predict", "serve"])
def test_backend_without_its_graph_is_refused_with_the_command_that_writes_it(
    action: str, tmp_path: Path, tokenizer: Any
) -> None:
    make_run(tmp_path / "run", tokenizer, names=("moods",))
    (tmp_path / "texts.txt").write_text("Juma\n", encoding="utf-8")
    config = ExperimentConfig(
        action=action, run_dir=str(tmp_path / "run"), input=str(tmp_path / "texts.txt"), backend="onnx"
    )
    config.serve.port = 0
    with pytest.raises(InputError, match=r"run: there is no model\.onnx.* action=export run_dir=.*run format=onnx"):
        getattr(actions, action)(config, tmp_path)


@pytest.mark.slow
def test_script_in_the_folder_predicts_as_we_do_without_torch_and_transformers(run: Path, exported: Path) -> None:
    pairs = [("anaishi wapi?", text) for text in TEXTS]
    found = predict_without_us(exported, [*((text,) for text in TEXTS), *pairs])
    predictor = Predictor.load(run, device="cpu")
    of_texts = [one["predictions"] for one in predictor.predict(TEXTS)]
    for own, theirs in zip(of_texts, found[: len(TEXTS)], strict=True):
        assert theirs.keys() == {"feelings/head", "moods/head", "people/head"}
        tagging = own["people"]["head"]
        assert theirs["people/head"] == [list(one) for one in zip(tagging["words"], tagging["tags"], strict=True)]
        assert theirs["feelings/head"] == own["feelings"]["head"]["labels"]
        assert theirs["moods/head"] == pytest.approx(own["moods"]["head"]["probabilities"], abs=1e-4)
    contexts = [{"question": question, "context": context} for question, context in pairs]
    answers = [one["predictions"]["answers"]["head"]["answer"] for one in predictor.predict(contexts)]
    assert [one["answers/head"] for one in found[len(TEXTS) :]] == answers
    values = [one["predictions"]["likeness"]["head"]["value"] for one in predictor.predict(pairs)]
    assert [one["likeness/head"] for one in found[len(TEXTS) :]] == pytest.approx(values, abs=1e-3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((["a", "b"],), "give predict one text or a pair"),
        ((), "give predict one text or a pair"),
        (("a", "b", "c"), "give predict one text or a pair"),
        (("a", "b"), "a pair was given, but every head of this model needs one text"),
    ],
)
def test_script_in_the_folder_refuses_what_no_head_reads(
    given: tuple[Any, ...], message: str, tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "onnx.json").write_text(
        '{"max_length": 9, "heads": {"moods/head": {"num_texts": 1}}}', encoding="utf-8"
    )
    session = SimpleNamespace(InferenceSession=lambda *given, **options: None)  # nothing is computed
    monkeypatch.setitem(sys.modules, "onnxruntime", session)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    script = tmp_path / "predict.py"
    script.write_bytes((files("multitask_bert") / "export" / "templates" / "predict.py").read_bytes())
    with pytest.raises((TypeError, ValueError), match=message):
        runpy.run_path(str(script))["predict"](*given)


@pytest.mark.slow
def test_in_8_bits_an_answer_does_not_depend_on_the_other_texts_of_its_batch(in_8_bits: Path) -> None:
    together = list(Predictor.load(in_8_bits, backend="onnx", batch_size=32).predict(INPUTS))
    alone = list(Predictor.load(in_8_bits, backend="onnx", batch_size=1).predict(INPUTS))
    assert without_numbers(together) == without_numbers(alone)
    assert numbers_in(together) == pytest.approx(numbers_in(alone), abs=1e-4)


@pytest.mark.slow
def test_in_8_bits_the_graph_is_smaller_and_its_card_says_the_scores_before_and_after(
    exported: Path, in_8_bits: Path
) -> None:
    assert (in_8_bits / GRAPH).stat().st_size < 0.5 * (exported / GRAPH).stat().st_size
    card = (in_8_bits / "README.md").read_text(encoding="utf-8")
    for task in tasks():
        assert f"- {task}.head " in card
        assert "on dev: " in card


@pytest.mark.slow
def test_loss_over_the_limit_is_refused_and_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    from multitask_bert.export import agreement

    monkeypatch.setattr(agreement.ScoreLoss, "points", property(lambda self: 2.5))
    target = tmp_path / "small"
    with pytest.raises(InputError, match=r"moods\.head loses 2\.50.*export\.max_loss=1"):
        export_run(ExperimentConfig(action="export", run_dir=str(run), format="onnx_int8", output=str(target)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("metric", "before", "after", "points"), [("f1", 0.8, 0.79, 1.0), ("mse", 0.2, 0.25, 25.0), ("f1", 0.5, 0.6, -10.0)]
)
def test_loss_is_in_points_of_a_score_and_in_percent_of_an_error(
    metric: str, before: float, after: float, points: float
) -> None:
    from multitask_bert.export.agreement import ScoreLoss

    assert ScoreLoss(metric, before, after).points == pytest.approx(points)


@pytest.mark.slow
def test_damaged_export_is_refused_by_the_name_of_its_file(exported: Path, tmp_path: Path) -> None:
    import shutil

    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / "onnx.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"onnx\.json is not what was written.*export it again"):
        Predictor.load(copy, backend="onnx")


def test_folder_without_a_graph_is_refused_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model\.onnx.*action=export run_dir=.* format=onnx"):
        Predictor.load(tmp_path, backend="onnx")


def test_backend_on_cpus_refuses_another_device(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"trainer\.device=cuda: backend=onnx computes on the CPU; leave it out"):
        Predictor.load(tmp_path, backend="onnx", device="cuda")


def test_unknown_backend_is_refused_with_the_choices(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="backend=tensorrt: choose one of torch, onnx"):
        Predictor.load(tmp_path, backend="tensorrt")
