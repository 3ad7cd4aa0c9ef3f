"""Records that cannot be read: refused together, or (`on_bad_record: skip`) left out, counted and named."""

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

NUM_SHOWN = 10  # errors that are raised together, and skipped records that are named


class BadRecords:
    """The bad records of one file. A context: around the reading of the file; and `caught`, around each record."""

    def __init__(self, path: Path | str, source: SourceConfig) -> None:
        self.path, self.skips = path, source.on_bad_record == "skip"
        self.errors: list[InputError] = []  # the first of them
        self.num_bad = self.num_good = 0
        self.are_too_many = False
        self.remarks: Callable[[], Iterable[str]] = lambda: ()  # on the file as a whole, once it is read

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Around the reading of one record: keep its error, so that the records after it are read as well.

        Raises:
            InputError: so many records are bad that there is no use in going on; names them all.
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
        """Whether good records are still wanted; once one is refused, only further errors are."""
        return self.skips or not self.num_bad

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """After the last record, or at an error after which the file cannot be read on.

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
        """One error of all that were kept, each on a line of its own."""
        if len(self.errors) == 1:
            return self.errors[0]
        more = ", and the file was read no further" if self.are_too_many else ""
        remark = f"{len(self.errors)} errors{more}; `on_bad_record: skip` leaves bad records out and counts them"
        return InputError("\n".join([*map(str, self.errors), remark]))
