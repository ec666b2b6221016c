"""The server: what OpenAI's clients are answered, many of them at once, hostile ones too, and how it ends."""

import contextlib
import http.client
import json
import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import numpy as np
import pytest
from support.cases import each
from support.commands import PATIENCE, environment

import nblstm
from nblstm.errors import ConfigError, NblstmError
from nblstm.nn.parameters import initial
from nblstm.scoring import stream
from nblstm.serving import server as server_module
from nblstm.serving.config import ServeConfig
from nblstm.serving.page_script import SERVED_SCRIPT
from nblstm.serving.server import CompletionServer
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.masked.config import MaskedConfig

NODE = shutil.which("node")
LETTERS = "".join(map(chr, range(32, 127))) + "\näß😀"


def a_model(level="char", ends=False, hidden_size=16):
    """A model of random weights."""
    text = " ".join(LETTERS) if level == "word" else LETTERS
    vocabulary = nblstm.Vocabulary.build([text], level, ends=ends)
    config = LanguageConfig(len(vocabulary), hidden_size=hidden_size, num_layers=1)
    return nblstm.LanguageModel(config, vocabulary, 3 * initial(config, 1), {})


@contextlib.contextmanager
def serving(model, name="a model", **settings):
    """A server that runs in a thread of its own."""
    settings = {"port": 0, "backend": "numpy", **settings}
    server = CompletionServer(model, name, ServeConfig(**settings))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.stop()


@pytest.fixture(scope="module")
def model():
    return a_model()


@pytest.fixture(scope="module")
def server(model):
    with serving(model) as server:
        yield server


def ask(server, fields=None, path="/v1/completions", method=None, **headers):
    """(status, headers, body) of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    body = None if fields is None else fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    kind = {} if fields is None else {"Content-Type": "application/json"}
    connection.request(method or ("GET" if fields is None else "POST"), path, body, {**kind, **headers})
    answer = connection.getresponse()
    found = answer.status, dict(answer.headers), answer.read()
    connection.close()
    return found


def completed(server, **fields):
    """The answer to a request that is in order."""
    status, _, body = ask(server, fields)
    assert status == 200, body
    return json.loads(body)


def texts(server, **fields):
    return [choice["text"] for choice in completed(server, **fields)["choices"]]


def events(server, **fields):
    """The events of a stream, which must end as OpenAI's do."""
    status, headers, body = ask(server, {**fields, "stream": True})
    assert (status, headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    *parts, done, rest = body.decode().split("\n\n")
    assert (done, rest) == ("data: [DONE]", "") and all(part.startswith("data: ") for part in parts)
    return [json.loads(part[6:]) for part in parts]


def raw(server, data, seconds=PATIENCE):
    """What comes back for these bytes until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def until(condition):
    """Wait for what is to come soon."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


# ---------------------------------------------------------------- what is answered


def test_an_answer_is_what_the_model_generates(server, model):
    """The text, why it ends and what is counted; a seed that was not given is named, and gives the text again."""
    settings = {"temperature": 0.7, "top_p": 0.9, "top_k": 20, "seed": 5}
    answer = completed(server, model="a model", prompt="To be", max_tokens=30, **settings)
    assert answer["object"] == "text_completion" and answer["model"] == "a model"
    (choice,) = answer["choices"]
    assert choice["text"] == "".join(model.generate("To be", n=30, backend="numpy", **settings))
    assert (choice["index"], choice["finish_reason"], choice["logprobs"]) == (0, "length", None)
    assert answer["usage"] == {"prompt_tokens": 5, "completion_tokens": 30, "total_tokens": 35}
    drawn = completed(server, prompt="x")
    assert len(drawn["choices"][0]["text"]) == 16
    assert texts(server, prompt="x", seed=drawn["seed"]) == [drawn["choices"][0]["text"]]


def test_several_prompts_and_texts(server, model):
    """n texts of each prompt, numbered through; echo repeats the prompt; a null is as if it were not there."""
    found = completed(server, prompt=["ab", "c"], n=2, max_tokens=4, seed=1, echo=True, stop=None, logit_bias=None)
    written = [model.generate_many(p, n=4, num_samples=2, seed=1, backend="numpy") for p in ("ab", "c")]
    assert [choice["index"] for choice in found["choices"]] == [0, 1, 2, 3]
    assert [choice["text"] for choice in found["choices"]] == [
        prompt + text for prompt, pair in zip(("ab", "c"), written) for text in pair
    ]
    assert found["usage"] == {"prompt_tokens": 3, "completion_tokens": 16, "total_tokens": 19}


def test_a_text_ends_before_a_stop_string(server, model):
    """Of several the first; what is counted ends with it, however far the kernels have gone on."""
    text = "".join(model.generate("a", n=60, seed=2, backend="numpy"))
    for stop in (text[20:23], [text[30:33], text[20:23]], [text[20:23]]):
        answer = completed(server, prompt="a", max_tokens=60, seed=2, stop=stop)
        first = text.index(text[20:23])
        assert answer["choices"][0]["text"] == text[:first]
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["completion_tokens"] == first + 3


def test_a_model_of_documents_ends_them():
    """With finish_reason stop, and the end token counted but not written."""
    with serving(a_model(ends=True)) as server:
        answer = completed(server, prompt="a", max_tokens=2000, seed=1)
        (choice,) = answer["choices"]
        assert choice["finish_reason"] == "stop" and "<end>" not in choice["text"]
        assert answer["usage"]["completion_tokens"] == len(choice["text"]) + 1


@each("level", ["char", "byte", "word"])
def test_a_stream_joins_to_the_whole(level):
    """Texts, log-probabilities and reasons; characters of several bytes are never cut."""
    fields = {
        "prompt": "ä b 😀",
        "max_tokens": 40,
        "seed": 3,
        "n": 2,
        "logprobs": 2,
        "echo": True,
        "stop": ["QQ", "😀😀"],
    }
    with serving(a_model(level)) as server:
        whole, parts = completed(server, **fields)["choices"], events(server, **fields)
        assert len({part["id"] for part in parts}) == 1 and len(parts) > 4
        for index, choice in enumerate(whole):
            mine = [c for part in parts for c in part["choices"] if c["index"] == index]
            assert "".join(c["text"] for c in mine) == choice["text"]
            assert [c["finish_reason"] for c in mine] == [None] * (len(mine) - 1) + [choice["finish_reason"]]
            for name, values in choice["logprobs"].items():
                assert [value for c in mine for value in c["logprobs"][name]] == values
        usage = events(server, **fields, stream_options={"include_usage": True})[-1]
        assert usage["choices"] == [] and usage["usage"] == completed(server, **fields)["usage"]


@each("level, ends", [("char", False), ("char", True), ("byte", False), ("word", False)])
def test_log_probabilities_are_those_of_the_score(level, ends):
    """Of every token of an echoed prompt and of what follows; the first of a stream is given. Likely ones are sorted out."""
    model = a_model(level, ends)
    with serving(model) as server:
        (choice,) = completed(server, prompt="a ß c", max_tokens=10, seed=4, echo=True, logprobs=3, top_k=1)["choices"]
    text, found = choice["text"], choice["logprobs"]
    judged = "a ß c" if level == "byte" else text  # what follows need not be UTF-8
    nats = np.concatenate([piece.nats for piece in stream(model.network(), model.vocabulary, [judged], alone=ends)])
    known = [value for value in found["token_logprobs"] if value is not None]
    assert len(known) == len(found["tokens"]) - (0 if ends else 1)
    compared = min(len(known), len(nats))
    assert compared >= 4 and known[:compared] == pytest.approx((-nats[:compared]).tolist(), abs=1e-4)
    for name, own, best in zip(found["tokens"], found["token_logprobs"], found["top_logprobs"]):
        assert best is None or (best[name] == own and 3 <= len(best) <= 4)
    drawn = len(found["tokens"]) - 10
    assert all(
        own == max(best.values()) for own, best in zip(found["token_logprobs"][drawn:], found["top_logprobs"][drawn:])
    )
    if level == "char":
        assert found["tokens"] == list(text) and found["text_offset"] == list(range(len(text)))
    assert found["text_offset"] == sorted(found["text_offset"])


def test_a_prompt_alone_is_judged(server, model):
    """max_tokens 0 with echo: what evaluation programs ask for."""
    (choice,) = completed(server, prompt="To be", max_tokens=0, echo=True, logprobs=0)["choices"]
    assert choice["text"] == "To be" and choice["logprobs"]["token_logprobs"][0] is None
    assert sum(choice["logprobs"]["token_logprobs"][1:]) == pytest.approx(-model.score("To be", "numpy").nats, abs=1e-4)


def test_a_prompt_of_which_nothing_is_judged(server, monkeypatch):
    """None, one token, or one more than are read at once; a page asks so as it opens."""
    monkeypatch.setattr("nblstm.generation.sampler.READ", 4)
    for prompt in ("", "T", "To be"):
        (choice,) = completed(server, prompt=prompt, max_tokens=1, temperature=0, echo=True, logprobs=2)["choices"]
        assert choice["logprobs"]["tokens"] == list(choice["text"]) and len(choice["text"]) == len(prompt) + 1
        first, *rest = choice["logprobs"]["token_logprobs"]
        assert (first is None) == bool(prompt) and None not in rest


def test_unknown_characters_are_told_of(server):
    """The answer names what the model has never seen."""
    (warning,) = completed(server, prompt="a☃b", max_tokens=1)["warnings"]
    assert "'☃'" in warning and "warnings" not in completed(server, prompt="ab", max_tokens=1)


def test_the_other_paths(server):
    """The model's name, health, HEAD, and no others."""
    status, headers, body = ask(server, path="/v1/models")
    assert status == 200 and headers["X-Content-Type-Options"] == "nosniff"
    assert [found["id"] for found in json.loads(body)["data"]] == ["a model"]
    assert json.loads(ask(server, path="/v1/models/a%20model")[2])["object"] == "model"
    assert ask(server, path="/health?x=1")[::2] == (200, b'{"status":"ok"}')
    assert ask(server, path="/health", method="HEAD")[::2] == (200, b"")
    for path, method, status in [("/x", "GET", 404), ("/", "DELETE", 405), ("/v1/completions", "GET", 405)]:
        found = ask(server, path=path, method=method)
        assert found[0] == status and json.loads(found[2])["error"]["message"]
    assert "/v1/completions" in json.loads(ask(server, {}, "/v1/chat/completions")[2])["error"]["message"]


def test_fifty_clients_get_what_they_would_get_alone(server):
    """Whole answers and streams, drawn from seeds."""
    asked = [
        {
            "prompt": LETTERS[k : k + 9],
            "max_tokens": 20 + k,
            "seed": k,
            "temperature": 0.5 + k / 50,
            "logprobs": k % 3 or None,
        }
        for k in range(50)
    ]
    said = lambda fields: [c for part in events(server, **fields) for c in part["choices"]]
    whole = lambda fields: completed(server, **fields)["choices"]
    joined = lambda choices: "".join(choice["text"] for choice in choices)
    alone = [whole(fields) for fields in asked]
    with ThreadPoolExecutor(50) as pool:
        together = list(pool.map(lambda pair: (whole, said)[pair[0] % 2](pair[1]), enumerate(asked)))
    assert [joined(choices) for choices in together] == [joined(choices) for choices in alone]
    assert together[::2] == alone[::2]


# ---------------------------------------------------------------- what is refused


@each(
    "fields, status, param",
    [
        (b"", 400, None), (b"{", 400, None), (b"[1]", 400, None), (b"\xff\xfe", 400, None), (b'{"prompt": NaN}', 400, None),
        (b"[" * 100_000, 400, None), (b'{"n": 1' + b"0" * 5000 + b"}", 400, None), (b"null", 400, None),
        (b'{"prompt": "\\ud800"}', 400, "prompt"), (b'{"temperature": 1e999}', 400, "temperature"),
        ({"prompt": 3}, 400, "prompt"), ({"prompt": [1, 2]}, 400, "prompt"), ({"prompt": []}, 400, "prompt"),
        ({"prompt": ["a"] * 200}, 400, "prompt"), ({"prompt": {"a": 1}}, 400, "prompt"),
        ({"max_tokens": -1}, 400, "max_tokens"), ({"max_tokens": 1.5}, 400, "max_tokens"),
        ({"max_tokens": True}, 400, "max_tokens"), ({"max_tokens": 10**9}, 400, "max_tokens"),
        ({"max_tokens": 10**30}, 400, "max_tokens"), ({"n": 0}, 400, "n"), ({"n": 1000}, 400, "n"),
        ({"n": 128, "max_tokens": 1000}, 400, "max_tokens"), ({"temperature": "hot"}, 400, "temperature"),
        ({"temperature": -1}, 400, "temperature"), ({"top_p": 0}, 400, "top_p"), ({"top_k": -1}, 400, "top_k"),
        ({"stop": [""]}, 400, "stop"), ({"stop": [1]}, 400, "stop"), ({"stop": ["a"] * 99}, 400, "stop"),
        ({"logprobs": 6}, 400, "logprobs"), ({"logprobs": True}, 400, "logprobs"), ({"seed": -1}, 400, "seed"),
        ({"seed": "x"}, 400, "seed"), ({"echo": 1}, 400, "echo"), ({"stream": "yes"}, 400, "stream"),
        ({"stream_options": 1}, 400, "stream_options"), ({"best_of": 3}, 400, "best_of"), ({"suffix": "x"}, 400, "suffix"),
        ({"messages": []}, 400, "messages"), ({"backend": "cuda"}, 400, "backend"), ({"model": "gpt"}, 404, "model"),
        ({"model": 3}, 404, "model"),
    ],
    ids=lambda case: str(case[0])[:60],
)  # fmt: skip
def test_a_wrong_request_is_told_what_is_wrong(server, fields, status, param):
    """OpenAI's error object, with the field's name, and the server goes on."""
    found, headers, body = ask(server, fields)
    error = json.loads(body)["error"]
    assert (found, error["param"]) == (status, param), error
    assert headers["Content-Type"] == "application/json" and set(error) == {"message", "type", "param", "code"}
    assert error["type"] == {400: "invalid_request_error", 404: "not_found_error"}[status]
    assert error["message"].endswith(".") and len(error["message"]) < 300


@each(
    "host, status",
    [
        ("127.0.0.1", 200), ("localhost:99", 200), ("LOCALHOST", 200), ("[::1]:80", 200), ("192.168.0.7", 200),
        ("evil.example", 403), ("127.0.0.1.evil.example", 403), ("localhost.evil.example", 403), ("", 403),
        ("127.0.0.1:x", 403), ("a@evil.example", 403), ("[::1", 403), ("evil.example:8080", 403),
    ],
)  # fmt: skip
def test_a_name_that_is_not_this_machine_s_is_refused(server, host, status):
    """A page of another site, whose name was made to lead here, is not answered."""
    assert ask(server, path="/health", Host=host)[0] == status


HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"


@each(
    "data, status",
    [
        (b"nonsense\r\n\r\n", 400), (b"GET / HTTP/9.9\r\n\r\n", 505), (b"\x16\x03\x01\x02\0\x01\r\n\r\n", 400),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", 431), (b"GET /" + b"a" * 100_000, 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", 431), (b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000, 431),
        (b"GET / HTTP/1.1\r\n" + (b"X: " + b"a" * 3000 + b"\r\n") * 50 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (HEAD + b"Content-Length: 2\r\n\r\n{}", 415), (HEAD + b"Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415),
        (HEAD + JSON + b"\r\n", 411), (HEAD + JSON + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 411),
        (HEAD + JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 411),
        (HEAD + JSON + b"Content-Length: -1\r\n\r\n", 400), (HEAD + JSON + b"Content-Length: 1e9\r\n\r\n", 400),
        (HEAD + JSON + b"Content-Length: 9999999999999999999999\r\n\r\n", 413),
        (HEAD + JSON + b"Content-Length: 9000000\r\n\r\n" + b"a" * 3_000_000, 413),
        (HEAD + JSON + b"Expect: 100-continue\r\nContent-Length: 9000000\r\n\r\n", 413),
    ],
    ids=lambda case: repr(case[0])[:60],
)  # fmt: skip
def test_what_is_no_request_is_refused(server, data, status):
    """With its status, and the connection is closed."""
    answer = raw(server, data)
    assert answer.startswith(b"HTTP/1.1 %d " % status), answer[:200]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"Connection: close" in head and json.loads(body)["error"]["message"]


def test_requests_of_one_connection(server):
    """One after the other, sent at once; a body that nobody asked for does not become a request; 100-continue is told."""
    two = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" * 2 + b"GET /health HTTP/1.0\r\n\r\n"
    assert raw(server, two).count(b'{"status":"ok"}') == 3
    inner = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    smuggled = b"GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner
    assert raw(server, smuggled).count(b"HTTP/1.1") == 1
    body = b'{"max_tokens": 1}'
    asked = HEAD + JSON + b"Connection: close\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    assert raw(server, asked).startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
    old = HEAD.replace(b"1.1", b"1.0") + JSON + b"Content-Length: 33\r\n\r\n" + b'{"max_tokens": 1, "stream": true}'
    assert raw(server, old).endswith(b"}\n\ndata: [DONE]\n\n")  # no chunks for a client that does not know them


# ---------------------------------------------------------------- slow, gone, too many


def test_a_slow_client_is_not_waited_for(model):
    """Neither for its head nor for its body, however often a byte comes; others are answered meanwhile."""
    with serving(model, timeout=0.3) as server:
        for begin in (b"", b"GET /health HTTP/1.1\r\nX: ", HEAD + JSON + b"Content-Length: 1000\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as slow:
                slow.sendall(begin)
                with contextlib.suppress(OSError):
                    for _ in range(400):
                        slow.sendall(b"a")
                        time.sleep(0.01)
                        if not server._connections:
                            break
                with contextlib.suppress(ConnectionError):
                    assert not begin or b" 408 " in slow.recv(1000)
                assert ask(server, path="/health")[0] == 200


def test_a_client_that_goes_frees_its_place(model):
    """In the middle of a stream, and while it waits for the whole."""
    with serving(model, max_tokens=10**8) as server:
        for stream in (True, False):
            body = json.dumps({"prompt": "a", "max_tokens": 10**8, "stream": stream}).encode()
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as client:
                client.sendall(HEAD + JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body)
                until(lambda: server._completions == 1)
                if stream:
                    assert client.recv(100).startswith(b"HTTP/1.1 200 OK")
            until(lambda: server._completions == 0)
        assert texts(server, prompt="a", max_tokens=2, seed=1)


def test_too_many_are_asked_to_come_back(model):
    """Requests beyond the queue and clients beyond the connections get 503, and a place once there is one."""
    with serving(model, queue=1, connections=2, max_tokens=10**8) as server:
        body = json.dumps({"max_tokens": 10**8}).encode()
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as first:
            first.sendall(HEAD + JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            until(lambda: server._completions == 1)
            status, headers, body = ask(server, {"max_tokens": 1})
            assert (status, headers["Retry-After"], json.loads(body)["error"]["code"]) == (503, "1", "overloaded")
            until(lambda: len(server._connections) == 1)
            with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE):
                until(lambda: len(server._connections) == 2)
                assert b" 503 " in raw(server, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: not server._connections)
        assert texts(server, max_tokens=1, seed=1)


def test_a_damaged_model_is_a_fault_of_the_server():
    """NaN among the logits: 500 with a sentence, before or within a stream."""
    whole = a_model()
    weights = whole.parameters.copy()
    weights[:] = 1e38
    broken = nblstm.LanguageModel(whole.config, whole.vocabulary, weights, {})
    with pytest.raises(NblstmError), serving(broken):
        pass


# ---------------------------------------------------------------- the end


def test_requests_in_flight_finish(model, monkeypatch):
    """A short one whole; one that would take for ever ends with an error as its last event; nobody is let in any more."""
    monkeypatch.setattr(server_module, "GRACE", 0.2)
    with serving(model, max_tokens=10**8) as server, ThreadPoolExecutor(2) as pool:
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        endless = pool.submit(ask, server, {"max_tokens": 10**8, "stream": True, "seed": 1})
        until(lambda: server._completions == 1)
        short = pool.submit(texts, server, max_tokens=300, seed=2)
        until(lambda: server._completions == 2 or short.done())
        server.shutdown()
        server.stop()
        assert len(short.result()[0]) == 300
        last = endless.result()[2].decode().split("\n\n")[-2]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "stopped"
        assert idle.recv(1) == b""
        with pytest.raises(OSError):
            ask(server, path="/health")
        idle.close()


@each("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_serves_until_a_signal(model, tmp_path, number, code):
    """It says where, a line for each request, and ends as other commands do."""
    model.save(tmp_path / "small.safetensors")
    process = subprocess.Popen(
        [sys.executable, "-m", "nblstm", "serve", "small.safetensors", "--port", "0", "--backend", "numpy"],
        cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        said = process.stderr.readline()
        port = re.fullmatch(r"serving small at http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends\)\n", said)[1]
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
        assert "GET /health" in process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=PATIENCE)
        assert (process.returncode, out, err) == (code, "", "Error: interrupted.\n")
    finally:
        process.kill()
        process.communicate()


def test_what_cannot_be_served_is_refused(model, server):
    """A port that is taken, a host that is none, a model that reads both ways."""
    with pytest.raises(NblstmError, match=f"port {server.port} of 127.0.0.1 cannot be had"):
        CompletionServer(model, "m", ServeConfig(port=server.port, backend="numpy"))
    with pytest.raises(NblstmError, match="no address of host"):
        CompletionServer(model, "m", ServeConfig(host="no such host", backend="numpy"))
    config = MaskedConfig(len(model.vocabulary), hidden_size=3, num_layers=1)
    masked = nblstm.MaskedLanguageModel(config, model.vocabulary, initial(config, 0), {})
    with pytest.raises(ConfigError, match="bidirectional"):
        CompletionServer(masked, "m", ServeConfig(backend="numpy"))
    for settings in ({"port": -1}, {"port": 70_000}, {"queue": 0}, {"timeout": 0.0}, {"host": 3}, {"backend": "x"}):
        with pytest.raises(ConfigError):
            ServeConfig(**settings)


def test_another_host_is_named(model):
    """One that others can reach is told from one that they cannot."""
    with serving(model) as here, serving(model, host="0.0.0.0") as everywhere:
        assert here.is_local and not everywhere.is_local
        assert ask(everywhere, path="/health")[0] == 200


# ---------------------------------------------------------------- the page


def test_the_page_keeps_to_itself(model):
    """Its policy allows its own style and script and requests to its server; the model's name is escaped."""
    with serving(model, name='<b>"&') as server:
        status, headers, body = ask(server, path="/")
    page, policy = body.decode(), headers["Content-Security-Policy"]
    assert status == 200 and "<title>&lt;b&gt;&quot;&amp;</title>" in page and "<b>" not in page
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert f"{tag}-src 'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'; ") and "connect-src 'self'" in policy
    assert "img-src data:" in policy  # the page's own icon, which a browser would complain of
    assert not re.search(r'(src|href)="(?!data:,)', page) and "innerHTML" not in page and "style=" not in page


@pytest.mark.skipif(NODE is None, reason="there is no node")
def test_the_page_reads_a_stream(server, tmp_path):
    """Events cut at any place, characters outside the plane of most: the text, its tokens and their bits."""
    fields = {"prompt": "a😀b", "max_tokens": 30, "seed": 6, "echo": True, "logprobs": 5}
    _, _, body = ask(server, {**fields, "stream": True})
    (choice,) = completed(server, **fields)["choices"]
    driver = SERVED_SCRIPT + """
    const events = new Events(), reading = new Reading(), text = require("fs").readFileSync(0, "utf8");
    for (let k = 0; k < text.length; k += 7) for (const event of events.feed(text.slice(k, k + 7)))
      for (const choice of event.choices) reading.add(choice);
    process.stdout.write(JSON.stringify([reading.text(), reading.pieces().map(([text, token]) => [text, token.bits])]));
    """  # fmt: skip
    (tmp_path / "driver.js").write_text(driver, encoding="utf-8")
    done = subprocess.run([NODE, tmp_path / "driver.js"], input=body, capture_output=True, timeout=PATIENCE)
    text, pieces = json.loads(done.stdout)
    assert text == choice["text"] and [piece for piece, _ in pieces] == choice["logprobs"]["tokens"]
    nats = [value or 0 for value in choice["logprobs"]["token_logprobs"]]
    assert [bits for _, bits in pieces] == pytest.approx([-value / math.log(2) for value in nats])


# ---------------------------------------------------------------- the real client


def test_the_openai_client(server, model):
    """Completions, streams, log-probabilities and errors, as its classes have them."""
    openai = pytest.importorskip("openai")
    client = openai.OpenAI(base_url=f"{server.url}v1", api_key="none", max_retries=0)
    assert [found.id for found in client.models.list()] == ["a model"]
    written = "".join(model.generate("To be", n=20, seed=7, backend="numpy"))
    asked = {"model": "a model", "prompt": "To be", "max_tokens": 20, "seed": 7, "logprobs": 2}
    (choice,) = client.completions.create(**asked).choices
    assert choice.text == written and choice.logprobs.tokens == list(written)
    with client.completions.create(**asked, stream=True) as stream:
        assert "".join(chunk.choices[0].text for chunk in stream) == written
    assert client.completions.create(**asked, extra_body={"top_k": 1}).choices[0].text == "".join(
        model.generate("To be", n=20, seed=7, top_k=1, backend="numpy")
    )
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="other", prompt="a")
    with pytest.raises(openai.BadRequestError) as refused:
        client.completions.create(model="a model", prompt="a", temperature=-1)
    assert refused.value.param == "temperature"
