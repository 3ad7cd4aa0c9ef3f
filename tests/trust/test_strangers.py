"""Somebody else's configs: every way in is tried, and each is refused before anything of it is acted on."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.hydra import Hydra
from hydra.core.global_hydra import GlobalHydra

from multitask_bert.config import composition
from multitask_bert.config.checked_loader import CheckedLoader
from multitask_bert.config.schema import ExperimentConfig
from multitask_bert.trust import paths
from multitask_bert.trust.classes import PLUGINS
from multitask_bert.trust.paths import is_own
from tests.composing import CONF, ROOT, composed, error_of, run_line
from tests.strangers import ATTEMPTS, GLOBAL, PAYLOAD, Attempt, Touch, of_experiment, written

pytestmark = pytest.mark.slow  # whole commands

QUICK = ("model=tiny", "trainer=quick", "trainer.max_steps=1")


@pytest.fixture
def trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What is there if a payload got through. The working directory is one of its own, as is the stranger's folder."""
    (tmp_path / "here" / "deep").mkdir(parents=True)
    (tmp_path / "stranger").mkdir()
    monkeypatch.chdir(tmp_path / "here" / "deep")
    monkeypatch.syspath_prepend(str(tmp_path / "stranger"))
    monkeypatch.setenv("TRACE", str(tmp_path / "trace"))
    monkeypatch.setenv("SECRET", "s3cret")
    monkeypatch.delitem(sys.modules, "payload", raising=False)
    return tmp_path / "trace"


@pytest.fixture
def stranger(trace: Path) -> Path:
    return trace.parent / "stranger"


def left_by_a_payload(trace: Path) -> list[str]:
    """What there is now that should not be."""
    names = [trace, trace.parent / "home", trace.parent / "here" / "trace", *trace.parent.rglob("trace*/*")]
    found = [str(path) for path in names if path.exists()]
    return [*found, *(["payload was imported"] if "payload" in sys.modules else [])]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[ExperimentConfig]:
    """The configs that reach `actions.run`, which does nothing else."""
    configs: list[ExperimentConfig] = []
    monkeypatch.setattr("multitask_bert.actions.run", configs.append)
    return configs


# Ways in


@pytest.mark.parametrize("name", ATTEMPTS)
def test_what_a_strangers_file_tries_is_refused_by_key_and_file_and_leaves_no_trace(
    name: str, trace: Path, stranger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hydra, "get_mode", lambda *_, **__: None)  # it composes once more, and passes over errors
    attempt = ATTEMPTS[name]
    told = error_of(*written(attempt, stranger, trace), *QUICK)
    assert left_by_a_payload(trace) == []
    assert attempt.key in told
    assert attempt.file in told
    assert "s3cret" not in told


@pytest.mark.parametrize("name", ["callback in reproduce.yaml", "search path", "launcher"])
def test_a_process_of_its_own_refuses_in_a_line_and_without_a_traceback(name: str, trace: Path, stranger: Path) -> None:
    command = [sys.executable, str(ROOT / "run.py"), *written(ATTEMPTS[name], stranger, trace), *QUICK]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{stranger}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {stranger}/{ATTEMPTS[name].file}: {ATTEMPTS[name].key}")
    assert "Traceback" not in done.stderr
    assert left_by_a_payload(trace) == []


@pytest.mark.parametrize("flag", ["--experimental-rerun", "--exp"])
@pytest.mark.parametrize("form", ["{flag} {file}", "{flag}={file}"])
def test_a_pickled_config_is_not_run_again(flag: str, form: str, trace: Path, stranger: Path) -> None:
    file = stranger / "config.pickle"
    file.write_bytes(pickle.dumps(Touch(trace)))
    command = [sys.executable, str(ROOT / "run.py"), *form.format(flag=flag, file=file).split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, trace.exists()) == (1, False)
    assert done.stderr.startswith("error: --experimental-rerun: unpickles a file")


@pytest.mark.parametrize("flag", ["--cfg=job", "--help", "--info=config"])
def test_looking_at_a_strangers_config_is_as_safe_as_running_it(flag: str, trace: Path, stranger: Path) -> None:
    words = written(ATTEMPTS["search path"], stranger, trace)
    assert "hydra.searchpath" in error_of(*words, flag)
    assert left_by_a_payload(trace) == []


def test_the_trap_works_where_the_user_opens_it(
    trace: Path, stranger: Path, monkeypatch: pytest.MonkeyPatch, ran: list[ExperimentConfig]
) -> None:
    """Else the tests above would hold for a payload that does nothing."""
    monkeypatch.setenv("MULTITASK_BERT_ALLOW", "payload, hydra.callbacks.evil")
    run_line(*written(ATTEMPTS["callback"], stranger, trace), *QUICK)
    assert trace.is_file()
    assert len(ran) == 1


PLUGIN = """
import os
from pathlib import Path

Path(os.environ["TRACE"]).write_text("imported", encoding="utf-8")
"""


@pytest.mark.parametrize("name", ["evil.py", "__init__.py", "hydra_joblib_launcher/__init__.py"])
@pytest.mark.parametrize("is_named", [False, True])  # in PYTHONPATH; not named, `python -c` has it all the same
def test_hydra_loads_no_plugin_from_the_current_folder(name: str, is_named: bool, trace: Path, stranger: Path) -> None:
    plugin = Path.cwd() / "hydra_plugins" / name
    plugin.parent.mkdir(parents=True)
    plugin.write_text(PLUGIN, encoding="utf-8")
    code = (
        "import runpy, sys; sys.argv = ['run.py', '--cfg', 'job']; "
        f"runpy.run_path({str(ROOT / 'run.py')!r}, run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path.cwd()) if is_named else "", str(ROOT)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    assert "multitask_bert" in done.stdout
    assert not trace.exists()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
        env={**environment, "MULTITASK_BERT_ALLOW": "hydra_plugins"},
    )  # fmt: skip
    assert trace.exists()  # where the user opens it


# What the command line may


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("run folder", "hydra.run.dir=mine"),
        ("predictions", "output=null"),
        ("mlflow database", "logger.mlflow.tracking_uri=sqlite:///mine.db"),
        ("secret", "name=mine"),
        ("download to a data root", "data_root=data"),
    ],
)
def test_what_the_command_line_says_takes_the_place_of_what_a_file_may_not(
    name: str, words: str, trace: Path, stranger: Path, ran: list[ExperimentConfig]
) -> None:
    command = [word for word in written(ATTEMPTS[name], stranger, trace) if word not in ("-m", "sweep=lr_warmup")]
    run_line(*command, words, *QUICK)
    assert len(ran) == 1


def test_the_refusal_says_the_words_to_type(trace: Path, stranger: Path) -> None:
    told = error_of(*written(ATTEMPTS["search function"], stranger, trace))
    assert "if you want it, type it: hydra.sweeper.function=payload.define" in told
    told = error_of(*written(ATTEMPTS["metric"], stranger, trace))
    assert f"MULTITASK_BERT_ALLOW={stranger}/payload.py" in told
    told = error_of(*written(ATTEMPTS["optimizer"], stranger, trace))
    assert "MULTITASK_BERT_ALLOW=payload" in told


@pytest.mark.parametrize(
    "text",
    [
        "hydra: {run: {dir: 'outputs/${now:%Y-%m-%d}/mine_${hydra:runtime.choices.tasks}'}}",
        "hydra: {sweeper: {n_trials: 3, study: 'mine_${hydra.runtime.choices.tasks}', space: {optimizer.lr: [1, 2]}}}\n"
        "defaults: [override /hydra/sweeper: study]",
        "defaults: [override /hydra/launcher: submitit_local]\nhydra: {launcher: {timeout_min: 5, mem_gb: 2}}",
        "data_root: ${oc.env:MULTITASK_BERT_DATA,data}\nname: seed ${seed}",
        "data_root: /somewhere/else",
        "logger: {mlflow: {tracking_uri: 'http://localhost:5000'}}",
        "optimizer: {_target_: torch.optim.NAdam, options: {betas: [0.9, 0.99]}}",
    ],
)
def test_what_people_share_is_not_refused(text: str, trace: Path, stranger: Path, ran: list[ExperimentConfig]) -> None:
    run_line(*written(of_experiment("", text), stranger, trace), "optimizer.options={}", *QUICK)
    assert len(ran) == 1


def hydra_of(override: str) -> Any:
    """What Hydra itself is told by `python run.py OVERRIDE`."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", [override], return_hydra_config=True).hydra


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "sweep").glob("*.yaml")))
def test_every_sweep_that_comes_with_the_project_passes(option: str) -> None:
    assert hydra_of(f"sweep={option}").sweeper._target_ in PLUGINS


@pytest.mark.parametrize("option", sorted(path.stem for path in (CONF / "hydra" / "launcher").glob("*.yaml")))
def test_every_launcher_that_comes_with_the_project_passes(option: str) -> None:
    assert hydra_of(f"hydra/launcher={option}").launcher._target_ in PLUGINS


def test_what_our_own_conf_says_of_hydra_is_trusted_and_the_same_elsewhere_is_not(tmp_path: Path) -> None:
    assert is_own(f"file://{CONF}", "hydra/launcher/slurm")
    assert not is_own(f"file://{CONF}", os.path.relpath(tmp_path / "slurm", CONF))
    assert not is_own(f"file://{tmp_path}", "hydra/launcher/slurm")
    assert not is_own("pkg://payload", "config")


@pytest.mark.parametrize("left", ["reproduce.yaml", "metrics.jsonl", ".hydra/config.yaml", "sweep.json"])
def test_the_folder_of_a_run_is_not_trusted_though_it_lie_in_our_conf(
    left: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = tmp_path / "conf"
    monkeypatch.setattr(paths, "OWN_CONF", conf)
    (conf / "tasks").mkdir(parents=True)
    (conf / "run" / left).parent.mkdir(parents=True)
    (conf / "run" / left).touch()
    assert is_own(f"file://{conf}", "tasks/ner")
    assert not is_own(f"file://{conf}", "run/reproduce")
    assert not is_own(f"file://{conf}", "run/deeper/tasks/evil")
    assert not is_own(f"file://{conf / 'run'}", "reproduce")
    assert not is_own(f"file://{conf / 'run' / '.hydra'}", "config")


# The place of the check


def test_hydra_composes_with_our_loader_and_with_no_other() -> None:
    composition.register()
    seen = []
    original = CheckedLoader._load_configuration_impl

    def noted(self: CheckedLoader, *arguments: object, **options: object) -> object:
        seen.append(type(GlobalHydra.instance().config_loader()))
        return original(self, *arguments, **options)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CheckedLoader, "_load_configuration_impl", noted)
        composed.__wrapped__("model=tiny")
    assert seen == [CheckedLoader]


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_job_in_another_process_is_composed_with_the_same_check(launcher: str, trace: Path, stranger: Path) -> None:
    """The file is harmless when the command starts, and another one when the jobs are composed."""
    attempt = Attempt("", {"experiment/evil.yaml": f"{GLOBAL}name: harmless"}, ("-m", "experiment=evil"))
    words = written(attempt, stranger, trace)
    swap = stranger / "swap.py"
    swap.write_text(SWAP.format(file=str(stranger / "experiment" / "evil.yaml")), encoding="utf-8")
    command = [
        sys.executable, str(ROOT / "run.py"), *words, f"hydra/launcher={launcher}", "seed=1,2",
        "+hydra.callbacks.swap._target_=swap.Swap", *QUICK,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{stranger}", "MULTITASK_BERT_ALLOW": "swap"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode != 0
    assert f"{stranger}/experiment/evil.yaml: hydra.callbacks.evil" in done.stdout + done.stderr
    assert left_by_a_payload(trace) == []


SWAP = """
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback


class Swap(Callback):
    def on_multirun_start(self, config, **keywords):
        text = "# @package _global_\\nhydra: {{callbacks: {{evil: {{_target_: payload.Payload}}}}}}"
        Path({file!r}).write_text(text, encoding="utf-8")
"""


# Nothing is unpickled


PICKLERS = r"(pickle|cPickle|cloudpickle|dill|shelve|joblib|marshal)\b"


# What a process reads from the pipe of a child that it forked itself; no file, and nobody else's.
FROM_OWN_CHILDREN = {"loading.py": ["import pickle"]}


def calls_that_unpickle(source: str) -> list[str]:
    """Calls that run what a file holds, or may; `from_pretrained` must rule out pickles and code."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            found += [
                f"import {name}" for name in names if re.match(r"(pickle|cPickle|dill|shelve|joblib|marshal)\b", name)
            ]
        if not isinstance(node, ast.Call):
            continue
        call, options = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
        if call in ("torch.load", "torch.hub.load", "yaml.load", "pd.read_pickle", "eval", "exec"):
            found.append(call)
        if call == "np.load" and options.get("allow_pickle") != "False":
            found.append(call)
        if call.startswith("Auto") and call.endswith((".from_pretrained", ".from_config")):
            if options.get("trust_remote_code") != "False":
                found.append(f"{call} without trust_remote_code=False")
            if call == "AutoModel.from_pretrained" and options.get("use_safetensors") != "True":
                found.append(f"{call} without use_safetensors=True")
    return found


@pytest.mark.parametrize("file", sorted((ROOT / "multitask_bert").rglob("*.py")), ids=lambda file: file.stem)
def test_no_file_of_ours_unpickles_or_asks_for_remote_code(file: Path) -> None:
    assert calls_that_unpickle(file.read_text(encoding="utf-8")) == FROM_OWN_CHILDREN.get(file.name, [])


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "AutoModel.from_pretrained(place, trust_remote_code=False)",
        "AutoTokenizer.from_pretrained(place)",
        "AutoConfig.from_pretrained(place, trust_remote_code=True)",
        "eval(text)",
    ],
)
def test_a_call_that_unpickles_is_found(source: str) -> None:
    assert calls_that_unpickle(source)


def test_the_payload_leaves_a_trace_when_it_is_imported_or_unpickled(trace: Path, stranger: Path) -> None:
    pickle.loads(pickle.dumps(Touch(trace)))
    assert trace.is_dir()
    trace.rmdir()
    exec(PAYLOAD, {})
    assert trace.is_file()
