"""A config is data, not a program: what a file may name, and where a run may write (docs/trust.md).

A file of our own conf/ is trusted with Hydra's settings; any other (`--config-dir`, `reproduce.yaml`) only with what is
listed here. Classes (`_target_`) are looked at wherever they stand. `MULTITASK_BERT_ALLOW` opens more. Folders of runs,
sweeps and models: foreign_folders.py.
"""

from __future__ import annotations

import ast
import os
import re
import sqlite3
import sys
import sysconfig
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from hydra.utils import get_class

from multitask_bert.config import InputError, expand_user_path
from multitask_bert.utils.addresses import sqlite_path

ALLOW = "MULTITASK_BERT_ALLOW"  # environment: packages, config keys, metrics' places, variables; joined by commas
PACKAGE = Path(__file__).parent
OWN_CONF = (PACKAGE.parent / "conf").resolve()
TARGET = re.compile(r"(torch\.optim|multitask_bert(?:\.[a-z0-9_]+)+)\.[A-Z]\w*(?:\.from_config)?")
MADE_OF_CLASS = re.compile(r"(?:optimizer|balancing|trainer|logger\.[^.]+)\._target_")
PLUGINS = frozenset({
    "multitask_bert.command_line.RefuseEarly",
    "hydra_plugins.multitask_bert_sweeper.StudySweeper",
    "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.LocalLauncher",
    "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher",
    "hydra._internal.core_plugins.basic_launcher.BasicLauncher",
    "hydra._internal.core_plugins.basic_sweeper.BasicSweeper",
})  # fmt: skip
# What a file that is not ours may tell Hydra: folders below this one, what is searched, and the size of its jobs.
FOLDERS = ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir")
OF_SWEEPER = (
    "space", "n_trials", "seeds", "metric", "direction", "sampler", "sampler_options", "pruner", "pruner_options",
    "max_failures", "n_jobs", "seed",
)  # fmt: skip
OF_LAUNCHER = (
    "n_jobs", "array_parallelism", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "nodes", "mem_gb",
    "partition", "qos", "account", "constraint",
)  # fmt: skip
ONLY_TYPED = ("output", "run_dir")  # written to, or read as a run: the command line names them
NOT_SEARCHED = ("hydra", "logger", "data_root", "action", "resume", "input", *ONLY_TYPED)
STORE, METRIC = re.compile(r"logger\..+\.tracking_uri"), re.compile(r"tasks\..+\.metrics\.\d+")
LOGGER = re.compile(r"logger(?:\.[^.]+)?")
PLUGIN = re.compile(r"hydra\.(?:callbacks\.[^.]+|launcher|sweeper)\._target_")
PLAIN_WORD = re.compile(r"[\w.+=,@&|-]*")
REFERENCE = re.compile(
    r"\$\{(?:\.*[\w.+-]+|now:[^${}]*|hydra:[\w.]+|oc\.env:(?P<variable>\w+)(?:,[^${}]*)?)\}"
)  # another key, the time, what Hydra knows, a variable; nothing that computes, and nothing inside another
OF_FOLDERS = re.compile(r"\$\{(?:now:[%\w-]*|hydra:(?:job\.num|runtime\.choices\.\w+)|hydra\.sweeper\.study)\}")
OF_STUDY = re.compile(r"\$\{hydra[.:]runtime\.choices\.\w+\}")
LEFT_BY_RUNS = (".hydra", "run.log", "metrics.jsonl", "sweep.json", "study.journal", "multirun.yaml", "reproduce.yaml")
LOADED = frozenset(
    {
        ".py",
        ".pyc",
        ".pyo",
        ".pyi",
        ".pyd",
        ".pyw",
        ".so",
        ".dll",
        ".dylib",
        ".pth",
        ".egg-link",
        ".egg",
        ".whl",
        ".yaml",
        ".yml",
        ".ini",
        ".cfg",
        ".toml",
        ".sh",
        ".bash",
        ".bat",
        ".cmd",
        ".ps1",
        ".exe",
        ".ipynb",
        ".pkl",
        ".pickle",
        ".joblib",
        ".pt",
    }
)  # suffixes of what Python, Hydra, their tools or a shell run or are configured by; never of a download
LAST_PLACE = re.compile(r"(\.\d+)+$")  # of a value in a list
OUR_VARIABLES = "MULTITASK_BERT_"


def is_allowed(name: str) -> bool:
    """Whether the user has opened this package, config key, variable or place of a metric, or what it lies in."""
    items = [item.strip() for item in os.environ.get(ALLOW, "").split(",")]
    return any(name == item or name.startswith((f"{item}.", f"{item}/")) for item in items if item)


def target_problems(where: str, value: Any) -> Iterator[str]:
    """Classes at any depth that no config may name; `where`: the full name of the value, empty for the whole config."""
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    for key, child in items:
        name = f"{where}.{key}" if where else str(key)
        if key == "_target_":
            yield from _target_problem(name, child)
        else:
            yield from target_problems(name, child)


def _target_problem(name: str, target: Any) -> Iterator[str]:
    """The class must be defined in a file of ours: what that file imports is another's (`…study.JournalFileBackend`).

    Whether it is of the kind that is wanted there is known only once it is imported: see `named_class`.
    """
    if isinstance(target, str) and (is_allowed(target) or (name.startswith("hydra.") and target in PLUGINS)):
        return
    match = TARGET.fullmatch(target) if isinstance(target, str) else None
    if match is None or name.startswith("hydra."):
        package = str(target).partition(".")[0]
        what = "a plugin that comes with this project" if name.startswith("hydra.") else "a class of multitask_bert or"
        what += "" if name.startswith("hydra.") else " of torch.optim"
        yield f"{name}={target}: must name {what} ({opened(package)} where it is your own)"
    elif not MADE_OF_CLASS.fullmatch(name):
        yield f"{name}={target}: nothing is made of a class here; remove it"
    elif match[1] != "torch.optim" and target.removesuffix(".from_config").rpartition(".")[2] not in _classes(match[1]):
        yield f"{name}={target}: there is no such class in {match[1]}"


@cache
def _classes(module: str) -> frozenset[str]:
    """The classes that a module of ours defines, without importing it; none where there is no such module."""
    place = PACKAGE.joinpath(*module.split(".")[1:])
    files = [file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()]
    nodes = (node for file in files for node in ast.parse(file.read_text(encoding="utf-8")).body)
    return frozenset(node.name for node in nodes if isinstance(node, ast.ClassDef))


def named_class(field: str, target: str, kind: type) -> Any:
    """The class that a config names in `field`; of another kind only where the user has opened it.

    Raises:
        InputError: there is no such class, or it is none of these.
    """
    try:
        found = get_class(target)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{field}={target}: cannot be imported ({error})") from error
    if not issubclass(found, kind) and not is_allowed(target):
        raise InputError(f"{field}={target}: must name a {kind.__name__} ({opened(target)} where it is your own)")
    return found


def file_problems(tree: Any, typed: Collection[str] = ()) -> Iterator[str]:
    """What a file that is not ours may not say; `tree`: as it stands there, unresolved, its package included.

    `typed`: keys that the command line sets, so that what the file says of them counts for nothing.
    """
    for key, value in leaves(tree):
        if LAST_PLACE.sub("", key) in typed or is_allowed(key):  # a list is replaced whole
            continue
        if key.partition(".")[0] == "hydra" and value is not None:
            yield from _hydra_problem(key, value)
        elif key in ONLY_TYPED and value is not None:
            yield f"{key}={value}: a file cannot say this; {typed_words(key, value)}"
        elif LOGGER.fullmatch(key) and isinstance(value, str):
            yield f"{key}={_short(value)}: a file has to write this out, with its keys below it"
        elif STORE.fullmatch(key) and not is_inner_store(value):
            yield f"{key}={value}: a file can name a server, or a database below this folder; {typed_words(key, value)}"
        elif METRIC.fullmatch(key) and "/" in str(value) and (problem := metric_problem(str(value))):
            yield f"{key}: {problem}"
        if isinstance(value, str):
            yield from reference_problems(key, value)


def _hydra_problem(key: str, value: Any) -> Iterator[str]:
    room, _, field = key.removeprefix("hydra.").partition(".")
    top = field.partition(".")[0]
    if PLUGIN.fullmatch(key):
        return  # checked as all classes are
    if key in FOLDERS:
        folder = OF_FOLDERS.sub("x", str(value))
        if not is_inside(folder) or (key != "hydra.sweep.subdir" and not _is_folder_of_runs(folder)):
            what = "can only name a folder below this one, and none with code or configs"
            yield f"{key}={value}: a file {what}; {typed_words(key, value)}"
    elif key == "hydra.sweeper.study":
        if not PLAIN_WORD.fullmatch(rest := OF_STUDY.sub("x", str(value))) or rest.startswith("."):
            yield f"{key}={value}: must be a plain name; {typed_words(key, value)}"
    elif key == "hydra.sweeper.storage" and value is not None:
        if not (str(value).startswith(("postgresql://", "postgres://")) or is_inner_store(value)):
            yield f"{key}={value}: a file can name a server, or a database below this folder; {typed_words(key, value)}"
    elif key == "hydra.sweeper.function" and isinstance(value, str):
        if not is_allowed(value):
            yield f"{key}={value}: names code, which a file cannot; {typed_words(key, value)}"
    elif (
        room == "sweeper" and isinstance(value, str) and "${" in value
    ):  # Hydra resolves what it makes a sweeper of twice
        yield f"{key}={_short(value)}: a file cannot refer to other keys here; write the value itself"
    elif room == "sweeper" and top == "space" and (problem := searched_key_problem(field.removeprefix("space."))):
        yield f"{key}={_short(value)}: {problem}"
    elif room == "launcher" and field in OF_LAUNCHER:
        if isinstance(value, list | dict) or not PLAIN_WORD.fullmatch(str(value)):
            yield f"{key}={value}: must be a number or a plain word; {typed_words(key, value)}"
    elif value is not None and not (room == "sweeper" and top in OF_SWEEPER):
        way_out = f"{typed_words(key, value)}, or {opened(LAST_PLACE.sub('', key))}"
        yield f"{key}={_short(value)}: a file cannot tell Hydra this; {way_out}"


def reference_problems(key: str, text: str) -> Iterator[str]:
    """`${…}` that compute something, or read a variable of the environment that is not ours."""
    for found in REFERENCE.finditer(text):
        variable = found["variable"]
        if variable and not variable.startswith(OUR_VARIABLES) and not is_allowed(variable):
            yield (
                f"{key}={text}: a file cannot read {variable} of the environment; write what it holds, or "
                f"{opened(variable)}"
            )
    if "${" in REFERENCE.sub("", text):
        yield f"{key}={text}: a file can refer to other keys, and compute nothing; write the value itself"


def unresolved_problems(tree: Any) -> Iterator[str]:
    """What still looks like a reference once all are resolved: nobody wrote it as one, so nobody has looked at it."""
    for key, value in leaves(tree):
        if isinstance(value, str) and "${" in value:
            yield f"{key}={_short(value)}: is put together as a reference, and is not followed; write the value itself"


def searched_key_problem(key: str) -> str | None:
    """A key that a search space may not have: it would change what only the command line may."""
    plain = key.lstrip("+~")
    if plain.partition(".")[0] in NOT_SEARCHED or "_target_" in plain or "@" in plain:
        return "a search cannot change this; set it on the command line, outside of the space"
    return None


def choice_problems(choices: Mapping[str, Any]) -> Iterator[str]:
    """Options that would be looked for outside of the folders of configs; their names become names of folders."""
    for group, option in choices.items():
        if isinstance(option, str) and not is_inside(option):
            yield f"{group}={option}: must be the name of a file in {group}/"


def download_problems(tasks: Mapping[str, Any], data_root: str) -> Iterator[str]:
    """Downloads into a data root that a file names, and that lies elsewhere; what is there already is only read.

    `tasks`: as plain dicts, resolved.
    """
    if _is_data_folder(data_root) or is_allowed("data_root") or data_root == os.environ.get(f"{OUR_VARIABLES}DATA"):
        return
    for name, task in tasks.items():
        source = task["source"]
        for key in source.get("downloads") or ():
            split, _, part = str(key).partition("/")
            path = Path(expand_user_path(data_root), source.get("folder") or "", source.get(split) or "", part)
            if not path.exists():
                yield (
                    f"data_root={data_root}: a file names this folder, and {path} of task {name} is missing there; to "
                    f"have it downloaded to that place, {typed_words('data_root', data_root)}, or {opened('data_root')}"
                )
                return


def download_place_problem(data_root: str, path: Path, inside: Iterable[str]) -> str | None:
    """Why a download must not be written to `path`; None: it may. `inside`: what leads there from the data root."""
    names = [PurePath(name) for name in inside]
    root = Path(expand_user_path(data_root)).resolve()
    if not all(map(is_inside, map(str, names))) or not path.parent.resolve().is_relative_to(root):
        return f"`source.folder`, `source.train` and the like, or a link, lead out of data_root={data_root}"
    if any(part.startswith(".") for name in names for part in name.parts):
        return "a hidden file or folder is no data"
    if any(name != name.strip() or not name.isprintable() for name in map(str, names)):
        return "a name with a control character, or with blanks at its ends, is no name of data"
    if found := LOADED.intersection(suffix.lower() for suffix in path.suffixes):
        return f"a {min(found)} file may be loaded as code or as a config"
    if not path.suffix and path.name.lower() in ("makefile", "gnumakefile", "dockerfile", "justfile"):
        return f"a {path.name} is a script"
    if _is_code_folder(path.parent.resolve()) or _is_code_folder(root):
        return f"data_root={data_root} leads to a folder that code or configs are loaded from"
    return None


def _is_data_folder(data_root: str) -> bool:
    """Whether a file may name this data root for downloads: a visible folder below this one, without code in it."""
    here, parts = Path.cwd().resolve(), PurePath(data_root).parts
    if not is_inside(data_root) or not parts or any(part.startswith(".") for part in parts):
        return False
    folder = (here / data_root).resolve()
    if not folder.is_relative_to(here) or folder == here or _is_code_folder(folder):
        return False
    return not folder.is_dir() or not any(file.suffix.lower() in LOADED for file in folder.iterdir())


def _is_folder_of_runs(folder: str) -> bool:
    """Whether a file may name this folder, a path below this one, for runs to be written to."""
    parts = PurePath(folder).parts
    return (
        bool(parts) and not any(part.startswith(".") for part in parts) and not _is_code_folder(Path(folder).resolve())
    )


def _is_code_folder(folder: Path) -> bool:
    """Whether Python or Hydra loads from a folder, from one that it lies in, or from one that lies in it."""
    checkout = PACKAGE.parent.resolve()
    ours = [PACKAGE.resolve(), OWN_CONF, checkout / "hydra_plugins"]
    if any(folder.is_relative_to(place) or place.is_relative_to(folder) for place in ours):
        return True
    if any(folder == Path(entry).resolve() for entry in sys.path if entry):
        return True
    installed = (Path(sysconfig.get_path(kind)).resolve() for kind in ("stdlib", "purelib", "platlib"))
    return any(folder.is_relative_to(place) for place in installed)


def refuse(problems: Iterable[str], source: object = None) -> None:
    """Raise one error of all problems, if there are any.

    Raises:
        InputError: there are problems; `source`: the file or folder that they stand in, if it is one.
    """
    if lines := [problem if source is None else f"{source}: {problem}" for problem in problems]:
        raise InputError("\n".join(lines))


def is_own(path: str | None, config_path: str) -> bool:
    """Whether a config lies in our conf/, in Hydra's own folder, or in code; `path`: where Hydra says it found it.

    `config_path`, below that, may climb out of it: a defaults list may hold `/../../other/file`. The folder of a run or
    of a sweep is nobody's conf/, though it lie in ours.
    """
    if path is None or path.startswith("structured://"):
        return True
    scheme, _, place = path.rpartition("://")
    if scheme not in ("", "file"):
        return path.startswith("pkg://hydra.conf") and is_inside(config_path)
    file = Path(place, config_path).resolve()
    if Path(place).resolve() != OWN_CONF or not file.is_relative_to(OWN_CONF):
        return False
    between = [folder for folder in file.parents if folder.is_relative_to(OWN_CONF)]
    return not any((folder / name).exists() for folder in between for name in LEFT_BY_RUNS)


def is_inside(path: str) -> bool:
    """Whether a path, once it is joined to a folder, lies in that folder by its name alone."""
    pure = PurePath(path)
    return not (pure.is_absolute() or ".." in pure.parts or path.startswith(("~", "$")) or "${" in path)


def is_inner_store(uri: Any) -> bool:
    """Whether MLflow's store is a server, or a database below the working directory."""
    text = str(uri)
    if text.startswith(("http://", "https://")):
        return True
    path = sqlite_path(text)
    if path is None or not is_inside(path.as_posix()):
        return False
    return path.suffix in (".db", ".sqlite", ".sqlite3") and not is_other_file(path)


def is_other_file(path: Path, tables: Collection[str] = ("experiments", "studies")) -> bool:
    """Whether something else is there already, to which MLflow or Optuna would add their tables.

    `tables`: those by which their own databases are known.
    """
    if not os.path.lexists(path):
        return False
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            found = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error:
        return True
    return found.isdisjoint(tables)


def is_allowed_metric(place: str) -> bool:
    """Whether the user has opened somebody else's metric: a hub name, or a folder or file, however it is written."""
    places = [item.strip() for item in os.environ.get(ALLOW, "").split(",") if "/" in item]
    full = Path(expand_user_path(place)).resolve()
    return is_allowed(place) or any(full.is_relative_to(Path(expand_user_path(item)).resolve()) for item in places)


def metric_problem(place: str) -> str | None:
    """Why somebody else's metric is not run; None where it may be."""
    return None if is_allowed_metric(place) else f"{place} is code, which no file may name by itself; {opened(place)}"


def leaves(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value with its full name, elements of lists too; an empty dict or list is a value of its own."""
    items = list(tree.items() if isinstance(tree, Mapping) else enumerate(tree) if isinstance(tree, list) else ())
    for key, value in items:
        yield from leaves(value, f"{prefix}.{key}" if prefix else str(key))
    if not items and prefix:
        yield prefix, tree


def typed_words(key: str, value: Any) -> str:
    name = LAST_PLACE.sub("", key)
    return f"if you want it, type it: {name}={_short(value) if name == key else f'[{_short(value)}]'}"


def opened(name: str) -> str:
    return f"{ALLOW}={name}"


def _short(value: Any) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 60 else f"{text[:60]}…"
