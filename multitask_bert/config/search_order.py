"""The order in which Hydra looks for a config: the user's folders before conf/ (docs/decisions/0008)."""

from __future__ import annotations

from hydra._internal.config_repository import ConfigRepository
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigSource

from multitask_bert.config.families import FolderSource
from multitask_bert.config.joined_tasks import JoinedTasksSource
from multitask_bert.trust.paths import is_own

# Files that every run is based on (fields and types, Hydra's settings, the groups), which no user's file replaces.
BASE = ("config", "hydra_settings", "schema", "hydra/config")


class UsersFirst(ConfigRepository):
    """Looks for a config in the user's folders (`--config-dir`, `hydra.searchpath`) first, and then in conf/.

    Hydra's own order is the reverse: it would silently ignore a user's `tasks/sentiment.yaml`.
    """

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        super().initialize_sources(config_search_path)
        self.sources = [
            FolderSource(source.provider, source.path) if source.scheme() == "file" else source
            for source in self.sources
        ]
        self.sources.sort(key=_rank)
        for source in self.sources:
            if isinstance(source, JoinedTasksSource):
                source.siblings = self.sources

    def _find_object_source(self, config_path: str, object_type: ObjectType | None) -> ConfigSource | None:
        if object_type == ObjectType.CONFIG and config_path.removesuffix(".yaml") in BASE:
            for source in self.sources:
                if not is_users(source) and source.is_config(config_path):
                    return source
        return super()._find_object_source(config_path, object_type)


def is_users(source: ConfigSource) -> bool:
    """Whether a source is a folder of the user's, and not our conf/."""
    return is_named_by_user(source.provider) and not is_own(source.full_path(), ".")


def is_named_by_user(provider: str) -> bool:
    """Whether a folder is searched because of `--config-dir` or `hydra.searchpath`."""
    return provider == "command-line" or provider.startswith("hydra.searchpath")


def _rank(source: ConfigSource) -> int:
    """The order of sources: Hydra itself, the user's folders, the folder of the primary config, the rest."""
    return 0 if source.provider == "hydra" else 1 if is_users(source) else 2 if source.provider == "main" else 3
