"""A command under torchrun, for tests of runs of several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from tests.composing import ROOT


class Torchrun:
    """`torchrun --nproc_per_node=2 run.py ARGUMENTS`, which writes what it prints into a file.

    `stdin`: the file that is its standard input; `program`: another one than run.py.
    """

    def __init__(
        self, folder: Path, *arguments: str, processes: int = 2, max_restarts: int = 0, stdin: Path | None = None,
        program: Path | None = None,
    ) -> None:  # fmt: skip
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}",
            f"--max-restarts={max_restarts}", str(program or "run.py"), *arguments,
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        self._output = folder / f"output{len(list(folder.glob('output*')))}.txt"
        with self._output.open("w") as file, Path(stdin or os.devnull).open() as given:
            self.process = psutil.Popen(
                command, cwd=ROOT, env=environment, stdin=given, stdout=file, stderr=subprocess.STDOUT
            )

    def rank(self, number: int) -> psutil.Process:
        """The process of a rank."""
        for child in self.process.children():
            if child.environ().get("RANK") == str(number):
                return child
        raise AssertionError(f"no rank {number}: {self.output}")

    def end(self, seconds: float = 400) -> int:
        """Its exit status."""
        try:
            return int(self.process.wait(seconds))
        finally:
            for child in [*self.process.children(recursive=True), self.process] if self.process.is_running() else []:
                child.kill()

    @property
    def output(self) -> str:
        return self._output.read_text()
