"""Limits Hydra's plugins to installed ones and our sweeper, so that none is imported from the working directory.

Hydra imports every module in the namespace package `hydra_plugins` at each start, and Python looks for the parts of a
namespace package in all of `sys.path`, which includes the folder of run.py and often the working directory.
"""

from __future__ import annotations

import importlib
import importlib.util
import site
import sys
import sysconfig
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from hydra.plugins.plugin import Plugin

from multitask_bert.trust.paths import PACKAGE
from multitask_bert.trust.permissions import is_allowed

NAMESPACE, SWEEPER = "hydra_plugins", "multitask_bert_sweeper"


def our_sweeper() -> type[Plugin]:
    """The class of our sweeper."""
    found: type[Plugin] = importlib.import_module(f"{NAMESPACE}.{SWEEPER}").StudySweeper
    return found


def keep_to_installed() -> None:
    """Fix the folders of `hydra_plugins` before Hydra imports it; has no effect when called again.

    With `MULTITASK_BERT_ALLOW=hydra_plugins`, Python's own search is kept.
    """
    if is_allowed(NAMESPACE) or getattr(sys.modules.get(NAMESPACE), "__file__", "") == __file__:
        return
    spec = ModuleSpec(NAMESPACE, loader=None, is_package=True)
    spec.submodule_search_locations = [str(folder) for folder in _installed()]
    package = ModuleType(NAMESPACE)
    package.__spec__, package.__path__ = spec, spec.submodule_search_locations
    package.__file__ = __file__  # shows that it was made here
    sys.modules[NAMESPACE] = package
    _import_sweeper()


def _installed() -> list[Path]:
    """The parts of the namespace package in the folders of installed packages."""
    folders = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib"), *site.getsitepackages()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    found = [Path(folder, NAMESPACE) for folder in dict.fromkeys(folders)]
    return [folder for folder in found if folder.is_dir()]


def _import_sweeper() -> None:
    """Import our sweeper, which lies beside the package, in a checkout and where it is installed."""
    name = f"{NAMESPACE}.{SWEEPER}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, PACKAGE.parent / NAMESPACE / f"{SWEEPER}.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
