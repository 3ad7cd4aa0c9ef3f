"""Addresses of stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from multitask_bert.utils.addresses import has_password, sqlite_path, sqlite_uri, without_password


@pytest.mark.parametrize("scheme", ["http", "https", "postgresql", "postgresql+psycopg2", "mysql"])
@pytest.mark.parametrize("password", ["secret", "s@cr@et", "s/cr:et", "12345", "s?c#r", "%40"])
def test_no_part_of_a_password_is_shown(scheme: str, password: str) -> None:
    address = f"{scheme}://me:{password}@host:5000/path?x=1"
    assert has_password(address)
    assert without_password(f"{address}: refused") == f"{scheme}://me@host:5000/path?x=1: refused"


@pytest.mark.parametrize(
    "address",
    [
        "http://host", "http://host:5000", "http://host:5000/a@b", "http://me@host/", "sqlite:///outputs/mlflow.db",
        "sqlite:////home/a:b@c/mlflow.db", "postgresql://me@/study?host=/run/sockets", "databricks", "",
    ],
)  # fmt: skip
def test_an_address_without_a_password_is_unchanged(address: str) -> None:
    assert not has_password(address)
    assert without_password(address) == address


def test_a_password_in_a_field_is_not_shown() -> None:
    assert without_password("postgresql://host/db?user=me&password=secret&x=1") == (
        "postgresql://host/db?user=me&password=***&x=1"
    )


@pytest.mark.parametrize("path", ["/a/b.db", "/is it 100%?#x/b.db", "/a%20b/c.db", "out/b.db"])
def test_a_path_comes_back_from_its_address(path: str) -> None:
    assert sqlite_path(sqlite_uri(Path(path))) == Path(path)


def test_only_plain_files_have_a_path() -> None:
    addresses = ("http://host", "sqlite:///:memory:", "sqlite:///a.db?mode=ro", "postgresql://host/a.db")
    assert [sqlite_path(address) for address in addresses] == [None] * 4
