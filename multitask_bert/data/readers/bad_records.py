"""Records that cannot be read are refused together, or (`on_bad_record: skip`) left out, counted and named."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from multitask_bert.config.schema import SourceConfig
from multitask_bert.errors import InputError

log = logging.getLogger(__name__)

NUM_SHOWN = 10  # most errors that are raised together, and most skipped records that are named


class BadRecords:
    """Collects the bad records of one file: a context around reading the file, with `caught` around each record."""

    def __init__(self, path: Path | str, source: SourceConfig) -> None:
        self.path, self.skips = path, source.on_bad_record == "skip"
        self.errors: list[InputError] = []  # the first of them
        self.num_bad = self.num_good = 0
        self.are_too_many = False
        self.remarks: Callable[[], Iterable[str]] = lambda: ()  # warnings about the file as a whole, once it is read

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Read one record within this context: its error is kept, so that the records after it are read as well.

        Raises:
            InputError: so many records are bad that reading stops; names them all.
        """
        try:
            yield
        except InputError as error:
            self.num_bad += 1
            if len(self.errors) < NUM_SHOWN:
                self.errors.append(error)
            if not self.skips and self.num_bad == NUM_SHOWN:
                self.are_too_many = True
                raise self._joined() from error
        else:
            self.num_good += 1

    @property
    def lets_through(self) -> bool:
        """Whether good records are still used; once a record is refused, only further errors are collected."""
        return self.skips or not self.num_bad

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Report the bad records, after the last record or after an error that ends the reading of the file.

        Raises:
            InputError: records were bad and are not to be skipped, or none was good.
        """
        if isinstance(error, InputError) and self.errors and not self.skips and not self.are_too_many:
            self.errors.append(error)
            raise self._joined() from error
        if error is not None:
            return
        if self.num_bad and not (self.skips and self.num_good):
            raise self._joined()
        if self.num_bad:
            log.warning(
                "%s: %d of %d records cannot be read and are skipped:\n%s%s",
                self.path, self.num_bad, self.num_bad + self.num_good,
                "\n".join(f"  {error}" for error in self.errors),
                f"\n  and {self.num_bad - NUM_SHOWN} more" if self.num_bad > NUM_SHOWN else "",
            )  # fmt: skip
        for remark in self.remarks():
            log.warning("%s: %s", self.path, remark)

    def _joined(self) -> InputError:
        """One error made of all that were kept, each on its own line."""
        if len(self.errors) == 1:
            return self.errors[0]
        more = ", and the rest of the file was not read" if self.are_too_many else ""
        way_out = "`source.on_bad_record: skip` of a task leaves the bad records of its data out"
        remark = f"{len(self.errors)} errors{more}; {way_out}"
        return InputError("\n".join([*map(str, self.errors), remark]))
