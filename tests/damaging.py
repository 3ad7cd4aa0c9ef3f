"""What disks do to files."""

from __future__ import annotations

from pathlib import Path


def flip_a_bit(file: Path) -> None:
    """In the last byte, which in a .safetensors file is one of a weight."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 0b1
    file.write_bytes(content)
