"""`tasks=FAMILY_LANGUAGE`: tasks that have no file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.plugins.completion_plugin import CompletionPlugin

from multitask_bert.config.families import WRITTEN_IN, FolderSource
from multitask_bert.sweeps.conf_files import hash_files
from multitask_bert.trust.paths import is_own
from tests.composing import CONF, MOOD_YAML, composed, config_of, error_of, run_line

MOODS = """
task:
  source: {format: csv, folder: "{language}/moods", train: train.csv, dev: dev.csv, test: test.csv, text: text}
  heads: {mood: {type: classification, column: mood}}
languages: {swa: , hau: [train], lug: [dev, test]}
"""


def family(folder: Path, text: str = MOODS, name: str = "moods") -> str:
    """The words that name a folder with one family's file."""
    (folder / "families").mkdir(parents=True, exist_ok=True)
    (folder / "families" / f"{name}.yaml").write_text(text, encoding="utf-8")
    return f"hydra.searchpath=[file://{folder}]"


def tasks_of(*overrides: str) -> Any:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)


def completed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """What a shell offers after `python run.py …`."""
    monkeypatch.setenv("COMP_LINE", f"python run.py {line}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        plugins: list[Any] = Plugins.instance().discover(CompletionPlugin)
        loader = GlobalHydra.instance().config_loader()
        (bash,) = (plugin(loader) for plugin in plugins if plugin.provides() == "bash")
        bash.query("config")
    return capsys.readouterr().out.split()


# What a language's task is


def test_a_task_of_a_family_is_what_a_file_of_its_own_would_say() -> None:
    other_name = config_of("tasks=masakhaner_swa").tasks["masakhaner_swa"]
    assert config_of("tasks=masakhaner1_swa").tasks == {"masakhaner1_swa": other_name}


def test_tasks_of_families_are_joined_with_others_in_any_order() -> None:
    names = ["afrisenti_swa", "masakhaner2_hau", "ner"]
    alone = {name: config_of(f"tasks={name}").tasks[name] for name in names}
    joined = config_of(f"tasks={'+'.join(reversed(names))}").tasks
    assert joined == alone
    assert list(joined) == names


def test_a_language_without_a_train_file_has_no_train_set() -> None:
    source = composed("tasks=afrisenti_orm").tasks.afrisenti_orm.source
    assert (source.train, source.dev, source.test, list(source.downloads)) == (
        None, "dev.tsv", "test.tsv", ["dev", "test"],
    )  # fmt: skip


def test_a_family_of_the_user_has_the_splits_that_its_languages_name(tmp_path: Path) -> None:
    tree = tasks_of(family(tmp_path), "tasks=moods_swa+moods_hau+moods_lug+ner")
    sources = {name: task.source for name, task in tree.tasks.items() if name != "ner"}
    assert {name: (source.folder, source.train, source.dev, source.test) for name, source in sources.items()} == {
        "moods_hau": ("hau/moods", "train.csv", None, None),
        "moods_lug": ("lug/moods", None, "dev.csv", "test.csv"),
        "moods_swa": ("swa/moods", "train.csv", "dev.csv", "test.csv"),
    }


def test_an_experiment_file_and_the_command_line_change_a_task_of_a_family(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "both.yaml").write_text(
        "# @package _global_\ndefaults: [{override /tasks: moods_swa+ner}]\n", encoding="utf-8"
    )
    words = (family(tmp_path), "experiment=both", "tasks.moods_swa.source.train=other.csv")
    tree = tasks_of(*words)
    assert tree.tasks.moods_swa.source.train == "other.csv"
    assert list(tree.tasks) == ["moods_swa", "ner"]


# Which one is read


def test_a_users_family_goes_before_the_shipped_family_and_a_users_file_before_both(tmp_path: Path) -> None:
    searched = family(tmp_path, name="masakhaner2")
    tree = tasks_of(searched, "tasks=masakhaner2_swa+masakhaner2_yor")
    assert tree.tasks.masakhaner2_swa.source.format == "csv"
    assert tree.tasks.masakhaner2_yor.source.format == "conll"  # the user's family has no Yoruba
    files = tree.hydra.runtime.files
    assert files["tasks/masakhaner2_swa"] == f"{tmp_path}/families/masakhaner2.yaml"
    assert files["tasks/masakhaner2_yor"] == f"{CONF}/families/masakhaner2.yaml"
    assert list(tree.hydra.runtime.same_names) == [
        f"tasks/masakhaner2_swa: {tmp_path}/families/masakhaner2.yaml is read, and not {CONF}/families/masakhaner2.yaml"
    ]
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "masakhaner2_swa.yaml").write_text(
        MOOD_YAML.replace("\nmood:", "\nmasakhaner2_swa:"), encoding="utf-8"
    )
    assert tasks_of(searched, "tasks=masakhaner2_swa").tasks.masakhaner2_swa.source.folder == "mood"


def test_the_family_with_the_longest_name_is_meant(tmp_path: Path) -> None:
    family(tmp_path, MOODS.replace("/moods", "/short").replace("swa:", "a_b:"), name="x")
    searched = family(tmp_path, MOODS.replace("/moods", "/long").replace("swa:", "b:"), name="x_a")
    assert tasks_of(searched, "tasks=x_a_b").tasks.x_a_b.source.folder == "b/long"


def test_a_family_is_no_option_of_a_group_and_its_tasks_are_listed_only_for_completion() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        assert "families" not in loader.list_groups("")
        options = loader.get_group_options("tasks", config_name="config", overrides=[])
    assert "masakhaner2_hau" not in options


# Completion, help, messages


def test_a_shell_completes_the_languages_of_a_family(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    family(tmp_path)
    assert completed(capsys, monkeypatch, "tasks=masakhaner2_s") == ["tasks=masakhaner2_sna", "tasks=masakhaner2_swa"]
    assert completed(capsys, monkeypatch, "tasks=ner+afrisenti_o") == ["tasks=ner+afrisenti_orm"]
    offered = completed(capsys, monkeypatch, f"--config-dir {tmp_path} tasks=ner+moods_")
    assert offered == ["tasks=ner+moods_hau", "tasks=ner+moods_lug", "tasks=ner+moods_swa"]
    assert completed(capsys, monkeypatch, "tasks=masakhaner2_hau tasks.masakhaner2_hau.heads.") == [
        "tasks.masakhaner2_hau.heads.entities."
    ]


def test_a_shell_completes_beside_a_family_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    family(tmp_path, "task: [")
    assert completed(capsys, monkeypatch, f"--config-dir {tmp_path} tasks=masakhaner2_ha") == ["tasks=masakhaner2_hau"]


def test_help_has_a_line_for_each_family_also_for_the_users(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    family(tmp_path)
    with pytest.raises(SystemExit, match=r"^0$"):
        run_line("--config-dir", str(tmp_path), "--help")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("_ ")[1].split() for line in lines if line.startswith("  moods_ ")] == [["hau,", "lug,", "swa"]]
    assert sum(line.startswith("  masakhaner2_ ") for line in lines) == 1
    assert not any(line.startswith("tasks:") and "masakhaner2_hau" in line for line in lines)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("masakhaner1_xyz", "masakhaner1 has no language 'xyz'\nit has: amh, hau, ibo, "),
        ("ner+masakhaner1_hauu", "masakhaner1 has no language 'hauu'; did you mean masakhaner1_hau?\nit has: amh, "),
        ("masakhaner1", "masakhaner1 is a family; name a language of it, as in tasks=masakhaner1_amh\nit has: amh, "),
    ],
)
def test_a_language_that_a_family_does_not_have_is_refused_with_those_that_it_has(task: str, message: str) -> None:
    assert error_of("--cfg", "job", f"tasks={task}").startswith(f"error: tasks: {message}")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("task:", "tasks:", "a family's file has the keys `task` and `languages`, and `url` for downloads"),
        ("{language}/", "all/", "nothing in `task.source` says {language}, so all languages would read the same data"),
        ('"{language}/moods"', "{language}", "nothing in `task.source` says {language}, so all languages would"),
        ("lug:", "no:", "languages: False is no name of letters, digits, '-' and '_'; YAML reads `no`, `yes` and"),
        ("lug:", "../lug:", "languages: '../lug' is no name of letters, digits, '-' and '_'"),
        ("[dev, test]", "[dev, tset]", "languages.lug: 'tset' is no split that `task.source` names (train, dev, test)"),
        ("[dev, test]", "dev", "languages.lug: 'dev' must be the splits that it has, as [dev, test], or their sha256"),
        ("[dev, test]", f"{{test: {'a' * 64}}}", "languages.lug: has the sha256 of files, but `url` does not say"),
    ],
)
def test_a_familys_file_in_another_form_is_refused_by_name(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    assert MOODS.count(before) == 1
    family(tmp_path, MOODS.replace(before, after))
    error = error_of("--config-dir", str(tmp_path), "--cfg", "job", "tasks=moods_swa")
    assert error.startswith(f"error: {tmp_path}/families/moods.yaml: {message}")


# Trust


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            "text: text",
            "text: '${oc.env:HOME}'",
            "tasks.moods_swa.source.text=${oc.env:HOME}: a file cannot read the env",
        ),
        (
            "column: mood",
            "column: mood, metrics: [/x/evil.py]",
            "tasks.moods_swa.heads.mood.metrics.0: /x/evil.py is code",
        ),
        ("column: mood", "column: mood, options: {_target_: os.system}", "tasks.moods_swa.heads.mood.options._target_"),
    ],
)
def test_a_familys_file_of_the_user_may_say_no_more_than_a_tasks_file(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    family(tmp_path, MOODS.replace(before, after))
    error = error_of("--config-dir", str(tmp_path), "--cfg", "job", "tasks=moods_swa+ner")
    assert error.startswith(f"error: {tmp_path}/families/moods.yaml: {message}")


def test_a_link_in_a_folder_of_ours_does_not_make_a_familys_file_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    family(tmp_path / "conf")
    monkeypatch.setattr("multitask_bert.trust.paths.OWN_CONF", tmp_path / "conf")
    found = FolderSource("main", str(tmp_path / "conf")).load_config("tasks/moods_swa")
    assert is_own(found.path, str(found.header[WRITTEN_IN]))
    (tmp_path / "conf" / "families").rename(tmp_path / "elsewhere")
    (tmp_path / "conf" / "families").symlink_to(tmp_path / "elsewhere")
    found = FolderSource("main", str(tmp_path / "conf")).load_config("tasks/moods_swa")
    assert not is_own(found.path, str(found.header[WRITTEN_IN]))


def test_the_files_of_a_users_family_are_downloaded_from_its_url_and_verified(tmp_path: Path) -> None:
    text = MOODS.replace("[dev, test]", f"{{train: {'a' * 64}}}") + "url: https://example.org/{language}/{file}\n"
    source = tasks_of(family(tmp_path, text), "tasks=moods_lug").tasks.moods_lug.source
    assert source.downloads == {"train": {"url": "https://example.org/lug/train.csv", "sha256": "a" * 64}}


def test_a_sweep_notices_that_a_familys_file_changed(tmp_path: Path) -> None:
    family(tmp_path)
    before = hash_files([tmp_path], ["tasks"])
    assert list(before) == ["0/families/moods.yaml"]
    family(tmp_path, MOODS + "\n")
    assert hash_files([tmp_path], ["tasks"]) != before
