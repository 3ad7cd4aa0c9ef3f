"""Files that are missing: fetched whole and verified, or refused with nothing written."""

from __future__ import annotations

import hashlib
import logging
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote

import pytest

from multitask_bert.config.schema import DownloadConfig, SourceConfig
from multitask_bert.data.downloads import locate
from multitask_bert.errors import InputError
from tests.composing import ROOT

CONTENT = b"Asha\tB-PER\r\nMoshi\tB-LOC\r\n" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Answers(BaseHTTPRequestHandler):
    """`/train.txt` is the file, `/cut` the half of it in spite of its length, `/to?URL` leads to that address, and
    anything else is not found.
    """

    def do_GET(self) -> None:
        if self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", unquote(self.path.removeprefix("/to?")))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200 if self.path in ("/train.txt", "/cut") else 404)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        if self.path == "/train.txt":
            self.wfile.write(CONTENT)
        elif self.path == "/cut":
            self.wfile.write(CONTENT[: len(CONTENT) // 2])

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def source_of(url: str, sha256: str = SHA256, folder: str = "swa/news") -> SourceConfig:
    return SourceConfig(
        format="conll", folder=folder, train="train.txt", downloads={"train": DownloadConfig(url, sha256)}
    )


def all_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def test_a_missing_file_is_fetched_over_http_and_verified(tmp_path: Path, address: str) -> None:
    path = locate(source_of(f"{address}/train.txt"), "train", data_root=str(tmp_path))
    assert path == tmp_path / "swa" / "news" / "train.txt"
    assert path.read_bytes() == CONTENT
    assert all_below(tmp_path) == [path.parent.parent, path.parent, path]


def test_a_redirection_over_http_is_followed(tmp_path: Path, address: str) -> None:
    url = f"{address}/to?{quote(f'{address}/train.txt')}"
    path = locate(source_of(url), "train", data_root=str(tmp_path))
    assert path is not None
    assert path.read_bytes() == CONTENT


def test_a_downloaded_file_is_not_downloaded_again(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = source_of(f"{address}/train.txt")
    path = locate(source, "train", data_root=str(tmp_path / "data"))
    monkeypatch.setattr("multitask_bert.data.downloads._web", lambda: pytest.fail("it was fetched again"))
    assert locate(source, "train", data_root=str(tmp_path / "data")) == path


# Where somebody else's task may not fetch from, and what it may not write


@pytest.mark.parametrize("form", ["{url}", "{address}/to?{quoted}"])
@pytest.mark.parametrize("scheme", ["file", "data", "ftp"])
def test_only_http_is_fetched_or_redirected_to(tmp_path: Path, address: str, scheme: str, form: str) -> None:
    (tmp_path / "mirror.txt").write_bytes(CONTENT)
    url = {
        "file": (tmp_path / "mirror.txt").as_uri(), "data": f"data:,{quote(CONTENT)}",
        "ftp": f"ftp://{address.removeprefix('http://')}/train.txt",
    }[scheme]  # fmt: skip
    source = source_of(form.format(url=url, address=address, quoted=quote(url)))
    with pytest.raises(InputError, match=f"unknown url type: {scheme}|redirection to url '{scheme}:|Moved|Found"):
        locate(source, "train", data_root=str(tmp_path / "data"))
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", [
    "x.py", "x.PY", "sub/x.so", "x.pth", "x.yaml", "__init__.pyc", ".bashrc", ".git/hooks/post-commit", "x.sh",
])  # fmt: skip
def test_files_that_could_be_loaded_as_code_or_config_are_not_downloaded(
    tmp_path: Path, address: str, name: str
) -> None:
    source = SourceConfig("conll", folder="swa", train=name)
    source.downloads = {"train": DownloadConfig(f"{address}/train.txt", SHA256)}
    with pytest.raises(InputError, match=r"not downloaded, since a"):
        locate(source, "train", data_root=str(tmp_path))
    assert all_below(tmp_path) == []


@pytest.mark.parametrize("place", ["", "conf", "conf/tasks", "hydra_plugins", "multitask_bert/heads/new", ".."])
def test_a_download_is_never_written_to_where_code_is(address: str, place: str) -> None:
    with pytest.raises(InputError, match="leads to a folder that code or configs are loaded from"):
        locate(source_of(f"{address}/train.txt", folder=""), "train", data_root=str(ROOT / place))
    assert not (ROOT / place / "train.txt").exists()


def test_a_download_is_not_written_to_where_python_looks_for_modules(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match="leads to a folder that code"):
        locate(source_of(f"{address}/train.txt", folder=""), "train", data_root=str(tmp_path))
    assert locate(source_of(f"{address}/train.txt"), "train", data_root=str(tmp_path / "data")) is not None


@pytest.mark.parametrize("linked", ["swa", "swa/news"])
def test_a_download_follows_no_link_out_of_the_data_root(tmp_path: Path, address: str, linked: str) -> None:
    (tmp_path / "elsewhere" / "news").mkdir(parents=True)
    (tmp_path / "data" / linked).parent.mkdir(parents=True)
    (tmp_path / "data" / linked).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="or a link, lead out of data_root="):
        locate(source_of(f"{address}/train.txt"), "train", data_root=str(tmp_path / "data"))
    assert [path.name for path in all_below(tmp_path / "elsewhere")] == ["news"]


def test_a_link_that_leads_nowhere_is_replaced_and_not_followed(tmp_path: Path, address: str) -> None:
    (tmp_path / "data" / "swa" / "news").mkdir(parents=True)
    (tmp_path / "data" / "swa" / "news" / "train.txt").symlink_to(tmp_path / "made")
    path = locate(source_of(f"{address}/train.txt"), "train", data_root=str(tmp_path / "data"))
    assert path is not None
    assert (path.is_symlink(), path.read_bytes()) == (False, CONTENT)
    assert not (tmp_path / "made").exists()


def test_a_download_without_end_is_broken_off(tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multitask_bert.data.downloads.MAX_BYTES", 1000)
    monkeypatch.setattr("multitask_bert.data.downloads.CHUNK_BYTES", 100)
    with pytest.raises(InputError, match="it has more than 1,000 bytes"):
        locate(source_of(f"{address}/train.txt"), "train", data_root=str(tmp_path))
    assert all_below(tmp_path) == []


def test_a_download_with_another_hash_is_not_written_and_both_hashes_are_named(tmp_path: Path, address: str) -> None:
    expected = "0" * 64
    with pytest.raises(InputError) as error:
        locate(source_of(f"{address}/train.txt", expected), "train", data_root=str(tmp_path))
    assert str(error.value).startswith(f"{tmp_path / 'swa' / 'news' / 'train.txt'}: not written")
    for part in (SHA256, expected, f"{address}/train.txt"):
        assert part in str(error.value)
    assert all_below(tmp_path) == []


def closed_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


@pytest.mark.parametrize(("url", "reason"), [
    ("{address}/gone.txt", "Not Found"),
    ("{address}/cut", "it broke off after 12,500 bytes"),
    ("http://127.0.0.1:{closed}/train.txt", "refused"),
    ("train.txt", "unknown url type"),
    ("http://127.0.0.1:x/train.txt", "nonnumeric port"),
])  # fmt: skip
def test_a_failed_download_names_the_path_and_the_address_and_writes_nothing(
    tmp_path: Path, address: str, url: str, reason: str
) -> None:
    url = url.format(address=address, closed=closed_port())
    with pytest.raises(InputError) as error:
        locate(source_of(url), "train", data_root=str(tmp_path))
    assert str(error.value).startswith(f"{tmp_path / 'swa' / 'news' / 'train.txt'}: the file is missing and could not")
    assert reason in str(error.value)
    assert f"put the file from {url} there, or point data_root=" in str(error.value)
    assert all_below(tmp_path) == []


def test_without_a_network_the_error_names_the_place_and_the_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_nothing(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", find_nothing)
    url = "https://example.org/data/train.txt"
    with pytest.raises(InputError) as error:
        locate(source_of(url), "train", data_root=str(tmp_path))
    place = tmp_path / "swa" / "news" / "train.txt"
    assert str(error.value).startswith(f"{place}: the file is missing and could not be downloaded")
    assert "Temporary failure in name resolution" in str(error.value)
    assert f"put the file from {url} there" in str(error.value)
    assert all_below(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path, address: str) -> None:
    (tmp_path / "swa").write_text("a file where the folder should be", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written") as error:
        locate(source_of(f"{address}/train.txt"), "train", data_root=str(tmp_path))
    assert str(tmp_path / "swa" / "news" / "train.txt") in str(error.value)


def test_a_local_file_that_differs_from_the_published_one_is_used_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "train.txt").write_bytes(CONTENT + b"\n")
    source = source_of("http://127.0.0.1:1/train.txt", folder="")
    with caplog.at_level(logging.WARNING):
        assert locate(source, "train", data_root=str(tmp_path)) == tmp_path / "train.txt"
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"{tmp_path / 'train.txt'} differs from the published file (http://127.0.0.1:1/train.txt)" in record.message


def test_a_local_file_with_the_published_hash_gives_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "train.txt").write_bytes(CONTENT)
    locate(source_of("http://127.0.0.1:1/train.txt", folder=""), "train", data_root=str(tmp_path))
    assert not caplog.records


def test_a_missing_file_without_an_address_is_refused_with_path_and_field(tmp_path: Path) -> None:
    source = SourceConfig(format="conll", folder="swa", dev="dev.txt")
    with pytest.raises(InputError) as error:
        locate(source, "dev", data_root=str(tmp_path))
    assert str(error.value).startswith(f"{tmp_path / 'swa' / 'dev.txt'}: no such file")
    for part in ("source.dev", f"data_root={tmp_path}", "MULTITASK_BERT_DATA"):
        assert part in str(error.value)


def test_a_missing_file_of_an_absolute_folder_is_told_with_the_files_that_are_there(tmp_path: Path) -> None:
    source = SourceConfig(format="csv", folder=str(tmp_path), train="trian.csv")
    (tmp_path / "train.csv").write_text("text,label\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"trian\.csv: no such file\. .* the folder has train\.csv$") as error:
        locate(source, "train", data_root="elsewhere")
    assert "data_root" not in str(error.value)


def test_a_split_without_a_file_has_no_path(tmp_path: Path) -> None:
    assert locate(SourceConfig(format="conll", train="train.txt"), "dev", data_root=str(tmp_path)) is None


@pytest.mark.parametrize(
    ("folder", "name"), [("{there}", "train.txt"), ("$THERE", "train.txt"), ("x", "{there}/train.txt")]
)
def test_absolute_paths_and_variables_do_without_the_data_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str, name: str
) -> None:
    monkeypatch.setenv("THERE", str(tmp_path))
    (tmp_path / "train.txt").write_bytes(CONTENT)
    source = SourceConfig(format="conll", folder=folder.format(there=tmp_path), train=name.format(there=tmp_path))
    found = locate(source, "train", data_root=os.devnull)
    assert found == tmp_path / "train.txt"
