"""`action=export` itself: its folder, the card, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from multitask_bert.config.checks import check
from multitask_bert.config.schema import ExperimentConfig, ExportConfig
from multitask_bert.errors import InputError
from multitask_bert.export import exporting
from multitask_bert.export.exporting import export_run
from multitask_bert.utils.files import compare_checksums
from tests.export.run_of_all_heads import make_run

pytestmark = pytest.mark.slow

TASKS = ("moods", "people")  # of the run


def exporting_of(run: Path, **fields: Any) -> ExperimentConfig:
    return ExperimentConfig(action="export", run_dir=str(run), **{"format": "hf", **fields})


def test_export_stands_in_the_run_with_scores_and_intact_checksums(run: Path) -> None:
    target = export_run(exporting_of(run))
    assert target == run / "export" / "hf"
    compare_checksums(target)
    assert json.loads((target / "results.json").read_text()) == json.loads((run / "results.json").read_text())
    assert [path.name for path in (run / "export").iterdir()] == ["hf"]


def test_card_has_the_metadata_of_the_hub_and_scores_with_intervals(run: Path, tmp_path: Path) -> None:
    stated = ExportConfig(languages=["sw", "en"], license="apache-2.0")
    target = export_run(exporting_of(run, output=str(tmp_path / "out"), export=stated))
    _, header, text = (target / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    metadata = yaml.safe_load(header)
    assert (metadata["language"], metadata["license"]) == (["sw", "en"], "apache-2.0")
    assert metadata["library_name"] == "transformers"
    assert {"token-classification", "text-classification"} <= set(metadata["tags"])
    (result,) = metadata["model-index"][0]["results"]
    assert result["metrics"][0] == {"type": "f1", "value": 0.5, "name": "head f1"}
    assert "| moods | head | f1 | 0.5000 [0.4000, 0.6000] | 0.5000 |" in text
    assert "LOC, PER" in text
    assert "first 36 tokens" in text
    of_head = (target / "moods.head" / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load(of_head.split("---\n", 2)[1])["pipeline_tag"] == "text-classification"
    assert "| people |" not in of_head


def test_card_names_no_path_of_the_machine(run: Path, tmp_path: Path) -> None:
    target = export_run(exporting_of(run, output=str(tmp_path / "out")))
    for path in target.rglob("*"):
        if path.suffix in (".md", ".json") and path.name != "tokenizer.json":
            assert str(run.parent) not in path.read_text(encoding="utf-8"), path.name


def test_earlier_export_is_replaced_and_another_folder_is_not(run: Path, tmp_path: Path) -> None:
    target = export_run(exporting_of(run, output=str(tmp_path / "out")))
    (target / "old.txt").touch()
    export_run(exporting_of(run, output=str(target)))
    assert not (target / "old.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(InputError, match=r"output=.*mine: exists and is no earlier export"):
        export_run(exporting_of(run, output=str(tmp_path / "mine")))
    assert (tmp_path / "mine" / "thesis.txt").is_file()


def test_failed_export_leaves_the_earlier_one_and_nothing_half_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = export_run(exporting_of(run, output=str(tmp_path / "out")))
    before = sorted(path.name for path in target.iterdir())

    def fail(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(exporting, "card", fail)
    with pytest.raises(InputError, match=r"cannot be written there.*No space left.*output=FOLDER"):
        export_run(exporting_of(run, output=str(target)))
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert sorted(path.name for path in target.iterdir()) == before


def test_missing_dev_set_is_said_in_the_card_of_tags_and_refused_in_8_bits(tmp_path: Path, tokenizer: Any) -> None:
    make_run(tmp_path / "run", tokenizer, names=("people",))
    (tmp_path / "run" / "data" / "people.txt").unlink()
    target = export_run(exporting_of(tmp_path / "run"))
    assert "not compared with ours: the dev set was not there" in (target / "README.md").read_text(encoding="utf-8")
    with pytest.raises(InputError, match=r"people\.txt"):
        export_run(exporting_of(tmp_path / "run", format="onnx_int8"))
    assert not (tmp_path / "run" / "export" / "onnx_int8").exists()


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the folder of a run"):
        export_run(exporting_of(tmp_path))


def test_missing_package_is_refused_with_the_command_that_installs_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"format=onnx: onnx, .* not installed; pip install 'multitask_bert\[onnx\]'"):
        export_run(exporting_of(run, format="onnx"))


@pytest.mark.parametrize(
    ("export_format", "message"),
    [
        (None, "format: action=export needs one of hf, onnx"),
        ("gguf", "format=gguf: choose one of hf, onnx, onnx_int8, mlflow"),
    ],
)
def test_unknown_format_is_refused_with_the_choices(run: Path, export_format: str | None, message: str) -> None:
    config = ExperimentConfig(action="export", run_dir=str(run), format=export_format)
    config.model.pretrained = "some/encoder"
    with pytest.raises(InputError, match=message):
        check(config)
