"""Where a model may run."""

from __future__ import annotations

import pytest

from multitask_bert.errors import InputError
from multitask_bert.model.devices import pick_device


@pytest.mark.parametrize("name", ["cuda:77", "tpu"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=rf"trainer\.device={name}: not usable here"):
        pick_device(name)
