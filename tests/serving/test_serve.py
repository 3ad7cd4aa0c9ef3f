"""A served model answers as `Predictor` does, refuses bad requests in plain words, and survives all of them."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import uvicorn
from transformers import AutoModel, BertConfig

from multitask_bert.config.schema import ExperimentConfig, HeadConfig, ServeConfig
from multitask_bert.errors import InputError
from multitask_bert.heads import make_head
from multitask_bert.inference.inputs import read_input
from multitask_bert.inference.predictor import Predictor
from multitask_bert.labels import LabelSet
from multitask_bert.model.encoder import Encoder
from multitask_bert.model.multitask import MultiTaskModel
from multitask_bert.serving.app import make_app
from multitask_bert.serving.batcher import Batcher
from multitask_bert.serving.examples import examples_of_test_sets
from multitask_bert.serving.page import page_of
from multitask_bert.serving.server import listen
from tests.conftest import TINY
from tests.trained_runs import trained

ROOT = Path(__file__).parent.parent.parent
EVIL = "</script><img src=x onerror=alert(1)>"
TEXTS = [f"Amina anaishi Arusha na Juma {'sana ' * (i % 7)}" for i in range(20)]


@pytest.fixture(scope="module")
def predictor(tokenizer: Any) -> Predictor:
    torch.manual_seed(5)
    heads = {
        "mood": {"polarity": make_head(HeadConfig("classification"), LabelSet(("bad", EVIL)))},
        "people": {"entities": make_head(HeadConfig("tagging"), LabelSet(("O", "B-PER", "I-PER")))},
    }
    shape = {key: value for key, value in TINY.items() if key != "model_type"}
    model = MultiTaskModel(
        Encoder(AutoModel.from_config(BertConfig(**shape))), heads, pooling="mean", max_length=48,
        input_types={"mood": "text", "people": "text"},
    )  # fmt: skip
    return Predictor(model, tokenizer, device="cpu", batch_size=8)


class Client:
    """Asks one server; each call has a connection of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def predict(self, content: Any) -> tuple[int, Any]:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        status, answer = self.ask("POST", "/predict", body, Content_Type="application/json")
        return status, json.loads(answer)


@contextmanager
def served(predictor: Predictor, **fields: Any) -> Iterator[Client]:
    """A server in a thread of this process."""
    config = ServeConfig(port=0, **fields)
    batcher = Batcher(lambda: predictor, max_waiting=config.max_waiting)
    with listen(config) as listener:
        server = uvicorn.Server(
            uvicorn.Config(make_app(batcher, config, name="people+mood"), log_config=None, access_log=False)
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield Client(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def client(predictor: Predictor) -> Iterator[Client]:
    with served(predictor, max_inputs=30, max_bytes=20_000) as client:
        yield client


def test_answers_are_those_of_the_predictor(client: Client, predictor: Predictor) -> None:
    inputs = [*TEXTS, {"text": "Juma", "id": 7}, {"words": ["Juma", "na", "Amina"]}, ""]
    status, answer = client.predict({"inputs": inputs})
    assert status == 200
    assert answer["outputs"] == list(predictor.predict(inputs))
    status, answer = client.predict({"inputs": TEXTS, "tasks": ["mood"]})
    assert answer["outputs"] == list(predictor.predict(TEXTS, "mood"))


def test_requests_of_many_clients_at_once_get_their_own_answers(client: Client, predictor: Predictor) -> None:
    expected = [next(iter(predictor.predict([text]))) for text in TEXTS]

    def ask(number: int) -> bool:
        status, answer = client.predict({"inputs": [TEXTS[number % 20]]})
        found = answer["outputs"][0]["predictions"]
        close = found["mood"]["polarity"]["probabilities"]
        own = expected[number % 20]["predictions"]
        return (
            status == 200
            and found["people"] == own["people"]
            and close == pytest.approx(own["mood"]["polarity"]["probabilities"], abs=2e-6)
        )

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(100)))


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (b"not JSON", 400, "not JSON"),
        (b"[" * 100_00, 400, "the request: lists or objects are nested too deeply; send {"),
        (b'{"inputs": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", 400, "nested too deeply"),
        (b'"a text"', 422, "the request: must be an object"),
        ({"inputs": []}, 422, "inputs: list should have at least 1 item"),
        ({"texts": ["a"]}, 422, "inputs: field required; texts: extra inputs are not permitted; send {"),
        ({"inputs": ["a", 3]}, 422, r"inputs\[1\]: int 3 cannot be predicted for"),
        (
            {"inputs": [{"text": "a", "text_pair": "b"}]},
            422,
            r"inputs\[0\]: no head of mood, people predicts .* \(pair\)",
        ),
        ({"inputs": ["a"], "tasks": ["moods"]}, 422, "tasks: moods is none of the model's, which are mood, people"),
        ({"inputs": ["a"] * 31}, 413, r"inputs: 31 in one request, and 30 are the most \(serve.max_inputs\)"),
        ({"inputs": ["a" * 20_001]}, 413, r"more than 20,000 bytes \(serve.max_bytes\)"),
        (b'{"inputs": ["\\ud800"]}', 422, "half a surrogate pair"),
    ],
)
def test_a_bad_request_is_refused_with_what_is_wrong(client: Client, body: Any, status: int, message: str) -> None:
    found, answer = client.predict(body)
    assert found == status
    assert list(answer) == ["error"]
    assert re.search(message, answer["error"])
    assert "Traceback" not in answer["error"]


def test_only_json_is_read_and_only_known_paths_answer(client: Client) -> None:
    status, answer = client.ask("POST", "/predict", b'{"inputs": ["a"]}', Content_Type="text/plain")
    assert (status, json.loads(answer)) == (
        415,
        {"error": "send JSON with the header `Content-Type: application/json`"},
    )
    status, answer = client.ask("GET", "/nothing")
    assert (status, json.loads(answer)) == (404, {"error": "/nothing: not found; openapi.json lists what is"})
    # a page of elsewhere under a name of its own
    status, answer = client.ask("GET", "/", Host="somewhere.example")
    message = "the host somewhere.example is not served; ask for 127.0.0.1 or localhost or ::1"
    assert (status, json.loads(answer)) == (400, {"error": message})
    for host in (f"localhost:{client.port}", "LOCALHOST", "[::1]:80"):
        assert client.ask("GET", "/health", Host=host)[0] == 200


def test_an_input_on_which_the_model_fails_harms_no_other_request(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = predictor.predict

    def failing(inputs: Any, tasks: Any) -> Any:
        if any(one.example.text == "boom" for one in inputs):
            raise RuntimeError("secret detail")
        time.sleep(0.05)  # so that requests wait together
        return real(inputs, tasks)

    monkeypatch.setattr(predictor, "predict", failing)
    with served(predictor) as client, ThreadPoolExecutor(8) as pool:
        texts = ["boom" if number % 4 == 0 else "Juma" for number in range(16)]
        answers = list(pool.map(lambda text: client.predict({"inputs": [text]}), texts))
    assert [status for status, _ in answers] == [500 if text == "boom" else 200 for text in texts]
    assert "secret" not in json.dumps(answers)


def test_a_server_with_too_much_to_do_says_so(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer = threading.Event()
    real = predictor.predict
    monkeypatch.setattr(predictor, "predict", lambda *given: may_answer.wait() and real(*given))
    with served(predictor, max_waiting=2, timeout=0.5) as client, ThreadPoolExecutor(8) as pool:
        first = pool.submit(client.predict, {"inputs": ["a"]})
        assert first.result()[0] == 504
        waiting = [pool.submit(client.predict, {"inputs": ["a"]}) for _ in range(4)]
        statuses = sorted(answer.result()[0] for answer in waiting)
        assert statuses == [503, 503, 504, 504]
        may_answer.set()
        while (status := client.predict({"inputs": ["a"]})[0]) == 503:
            time.sleep(0.01)  # until those that were given up are out of the way
        assert status == 200


def test_health_metrics_and_schema_say_what_is_served(predictor: Predictor) -> None:
    with served(predictor) as client:
        client.predict({"inputs": TEXTS[:3]})
        client.predict(b"no")
        health = json.loads(client.ask("GET", "/health")[1])
        metrics = client.ask("GET", "/metrics")[1].decode().splitlines()
        schema = json.loads(client.ask("GET", "/openapi.json")[1])
    assert health["heads"]["people"] == {"entities": {"type": "tagging", "labels": ["O", "B-PER", "I-PER"]}}
    assert 'multitask_bert_requests_total{status="200"} 1' in metrics
    assert 'multitask_bert_requests_total{status="400"} 1' in metrics
    assert "multitask_bert_inputs_total 3" in metrics
    assert 'multitask_bert_request_seconds_bucket{le="+Inf"} 2' in metrics
    body = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert body["required"] == ["inputs"]


def test_no_name_label_or_example_becomes_html() -> None:
    heads = {"mood": {"polarity": {"type": "classification", "labels": [EVIL, "@SCRIPT@"]}}}
    page, policy = page_of(name=EVIL, heads=heads, input_types=["text"], examples=[{"text": EVIL}])
    assert "<img" not in page
    assert page.count("</script>") == 2  # of the facts and of the page's own script
    assert "script-src 'sha256-" in policy
    script = (ROOT / "multitask_bert" / "serving" / "assets" / "page.js").read_text(encoding="utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
    facts = re.search(r'id="facts">(.*?)</script>', page)
    assert facts is not None
    assert json.loads(facts[1])["heads"] == heads


def test_a_port_in_use_is_refused() -> None:
    with listen(ServeConfig(port=0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(
            InputError, match=rf"serve.host=127.0.0.1 serve.port={port}: cannot listen \(Address already"
        ):
            listen(ServeConfig(port=port)).__enter__()
    with pytest.raises(InputError, match=r"serve.host=nowhere.invalid: no such address"):
        listen(ServeConfig(host="nowhere.invalid")).__enter__()


@pytest.mark.slow
def test_the_command_serves_a_run_until_it_is_asked_to_stop(
    make_config: Callable[..., ExperimentConfig], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trained(make_config(num_epochs=1), run)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "run.py"), "action=serve", f"run_dir={run}", f"serve.port={port}"]
    server = subprocess.Popen(
        [*command, f"hydra.run.dir={tmp_path / 'log'}"],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        client = Client(port)
        for _ in range(600):
            assert server.poll() is None
            try:
                status, answer = client.predict({"inputs": ["Amina anaishi Arusha"]})
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        assert status == 200
        assert answer["outputs"] == list(Predictor.load(run).predict(["Amina anaishi Arusha"]))
        facts = re.search(r'id="facts">(.*?)</script>', client.ask("GET", "/")[1].decode())
        assert facts is not None
        offered = json.loads(facts[1])["examples"]
        assert offered == examples_of_test_sets(run, Predictor.load(run))
        assert len(offered) > 1
        os.kill(server.pid, signal.SIGTERM)
        said, _ = server.communicate(timeout=30)
    finally:
        server.kill()
    assert server.returncode == 0
    assert f"http://127.0.0.1:{port}" in said
    assert "Traceback" not in said


def test_an_answer_in_several_parts_is_sent_at_once() -> None:
    """On Linux, connections inherit the option; asyncio does not set it for a socket made by `create_server`."""
    with (
        listen(ServeConfig(port=0)) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_one_thread_loads_the_model_and_predicts_with_it(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    real = predictor.predict

    def load() -> Predictor:
        threads.append(threading.current_thread())
        return predictor

    def predict(*given: Any) -> Iterator[dict[str, Any]]:
        threads.append(threading.current_thread())
        return real(*given)

    monkeypatch.setattr(predictor, "predict", predict)
    batcher = Batcher(load, max_waiting=1)
    batcher.submit([read_input("Juma", "here")], predictor.tasks).result()
    batcher.close()
    assert len(threads) == 2
    assert len({*threads, threading.current_thread()}) == 2


def test_an_error_in_loading_the_model_is_raised_where_the_batcher_is_made() -> None:
    def load() -> Predictor:
        raise InputError("damaged")

    with pytest.raises(InputError, match="damaged"):
        Batcher(load, max_waiting=1)


def test_a_method_that_an_address_does_not_take_is_refused_with_the_one_that_it_takes(client: Client) -> None:
    status, answer = client.ask("GET", "/predict")
    assert (status, json.loads(answer)) == (405, {"error": "GET /predict: not allowed; use POST"})
