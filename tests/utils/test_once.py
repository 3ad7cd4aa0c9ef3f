"""Messages that are told once."""

from __future__ import annotations

import logging

import pytest

from multitask_bert.utils.once import EachMessageOnce

log = logging.getLogger(__name__)


def read(*numbers: int) -> None:
    for number in numbers:
        log.warning("file %d differs", number)


def told(caplog: pytest.LogCaptureFixture) -> list[int]:
    numbers = [int(record.getMessage().split()[1]) for record in caplog.records]
    caplog.clear()
    return numbers


def test_a_message_is_told_once_inside_and_as_often_as_it_comes_outside(caplog: pytest.LogCaptureFixture) -> None:
    with EachMessageOnce():
        read(1, 2, 1)
    read(1, 1)
    assert told(caplog) == [1, 2, 1, 1]


def test_what_functions_tell_is_remembered_from_one_to_the_next(caplog: pytest.LogCaptureFixture) -> None:
    once = EachMessageOnce()
    first, second = once(read), once(read)
    first(1, 2)
    second(2, 3)
    first(3, 1)
    assert told(caplog) == [1, 2, 3]
