"""Messages that are told once."""

from __future__ import annotations

import logging

import pytest

from multitask_bert.utils.once import each_message_once

log = logging.getLogger(__name__)


def test_a_message_is_told_once_inside_and_as_often_as_it_comes_outside(caplog: pytest.LogCaptureFixture) -> None:
    with each_message_once():
        for number in (1, 2, 1):
            log.warning("file %d differs", number)
    log.warning("file %d differs", 1)
    assert [record.getMessage() for record in caplog.records] == ["file 1 differs", "file 2 differs", "file 1 differs"]
