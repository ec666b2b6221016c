"""A server of one model, 50 clients at once and hostile ones between them: the same answers as alone, and it lives.

    python tests/stress/serve.py --seed 1 --count 300

Every client asks for a text drawn from the seed, whole or as a stream; meanwhile others send what nobody should: endless
heads, a byte now and then, bad JSON, wrong types, half requests, streams they leave. Exit status 1 if an answer differs
from the one to a single client, if a hostile request is not refused, or if anything is left when all are gone.
"""

from __future__ import annotations

import http.client
import json
import random
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from children import arguments

from nblstm.nn.parameters import initial
from nblstm.serving.config import ServeConfig
from nblstm.serving.server import CompletionServer
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.text.vocabulary import Vocabulary

CLIENTS, SECONDS = 50, 2.0
LETTERS = "".join(map(chr, range(32, 127))) + "\näß😀"
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def a_model(level: str, seed: int) -> LanguageModel:
    """A model of random weights."""
    vocabulary = Vocabulary.build([LETTERS], level)
    config = LanguageConfig(len(vocabulary), hidden_size=64, num_layers=2)
    return LanguageModel(config, vocabulary, 2 * initial(config, seed), {})


def a_request(chance: random.Random) -> dict[str, object]:
    """A request that is in order."""
    fields: dict[str, object] = {
        "prompt": "".join(chance.choices(LETTERS, k=chance.randint(0, 300))),
        "max_tokens": chance.randint(0, 400),
        "seed": chance.randint(0, 10**6),
        "temperature": round(chance.uniform(0, 1.5), 2),
        "stream": chance.random() < 0.5,
    }
    extra = {
        "top_p": 0.9, "top_k": 10, "n": 3, "logprobs": 2, "echo": True, "stop": ["e", "😀"], "min_p": 0.02,
        "no_repeat_ngram": 3, "repetition_penalty": 1.3,
    }  # fmt: skip
    return fields | {name: extra[name] for name in chance.sample(sorted(extra), 3)}


def answer(port: int, fields: dict[str, object]) -> object:
    """What it says, a stream's pieces joined."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", "/v1/completions", json.dumps(fields), {"Content-Type": "application/json"})
    response = connection.getresponse()
    body = response.read().decode()
    connection.close()
    if not fields["stream"]:
        return response.status, json.loads(body)["choices"]
    texts: dict[int, list[object]] = {}
    for part in body.split("\n\n")[:-2]:
        for choice in json.loads(part[6:])["choices"]:
            texts.setdefault(choice["index"], []).append(choice["text"])
    return response.status, [
        ["".join(map(str, parts)) for _, parts in sorted(texts.items())],
        body.endswith("[DONE]\n\n"),
    ]


def hostile(chance: random.Random) -> tuple[bytes, float, tuple[bytes, ...]]:
    """(what is sent, the pause between its pieces, the statuses of which one must come; none: whatever it is)."""
    body = lambda data: HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data
    junk = [None, True, -1, 10**30, 1.5, "x", "", [], {}, [[]], [None], "\ud800", "😀" * 50, 1e308]
    names = ["prompt", "max_tokens", "temperature", "top_p", "n", "stop", "logprobs", "seed", "echo", "stream", "top_k"]
    fields = {name: chance.choice(junk) for name in chance.sample(names, chance.randint(1, 4))}
    return chance.choice([
        (body(json.dumps(fields).encode()), 0, (b"200", b"400")),
        (body(chance.randbytes(chance.randint(0, 3000))), 0, (b"400",)),
        (body(b"[" * 200_000), 0, (b"400",)),
        (b"GET /" + b"a" * 300_000, 0, (b"431",)),
        (b"GET / HTTP/1.1\r\n" + b"X-Y: zzzz\r\n" * 30_000, 0, (b"431",)),
        (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 0, (b"403",)),
        (HEAD + b"Content-Length: 99999999\r\n\r\n" + b" " * 100_000, 0, (b"413",)),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffff\r\n", 0, (b"411",)),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 400, 0.02, (b"408", b"")),
        (HEAD + b"Content-Length: 900\r\n\r\n" + b" " * 500, 0.02, (b"408", b"")),
        (chance.randbytes(chance.randint(1, 2000)), 0, ()),
        (body(b'{"max_tokens": 60000, "stream": true}'), -1, ()),
        (body(b'{"max_tokens": 60000}'), -1, ()),
    ])  # fmt: skip


def attack(port: int, seed: int) -> str | None:
    """What is wrong with how one hostile client is treated, if anything."""
    chance = random.Random(seed)
    data, pause, statuses = hostile(chance)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            if pause > 0:
                for byte in data:
                    connection.sendall(bytes((byte,)))
                    time.sleep(pause)
            else:
                connection.sendall(data)
            if pause < 0:
                time.sleep(chance.uniform(0, 0.3))
                return None
            connection.shutdown(socket.SHUT_WR)
            said = b"".join(iter(lambda: connection.recv(65536), b""))
    except ConnectionError:
        return None  # it has had enough of us
    except TimeoutError:
        return f"no end to {data[:80]!r}"
    if said and statuses and said.split(b" ")[1] not in statuses:
        return f"{data[:200]!r} gets {said[:200]!r}"
    return None


def main() -> int:
    options = arguments(__doc__.splitlines()[0], 300)
    chance = random.Random(options.seed)
    model = a_model(chance.choice(["char", "byte"]), options.seed)
    requests = [a_request(chance) for _ in range(options.count)]
    attacks = [chance.randrange(10**9) for _ in range(options.count // 4)]
    server = CompletionServer(model, "m", ServeConfig(port=0, timeout=SECONDS, queue=200))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    started = time.perf_counter()
    alone = [answer(server.port, fields) for fields in requests]
    between = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool, ThreadPoolExecutor(20) as others:
        attacked = others.map(lambda seed: attack(server.port, seed), attacks)
        together = list(pool.map(lambda fields: answer(server.port, fields), requests))
        wrong = [found for found in attacked if found]
    took = time.perf_counter() - between
    wrong += [f"{fields} differs" for fields, one, other in zip(requests, alone, together) if one != other]
    deadline = time.monotonic() + 30
    while server._connections and time.monotonic() < deadline:
        time.sleep(0.05)
    if server._connections or server._completions:
        wrong.append(f"{len(server._connections)} connections and {server._completions} requests are left")
    server.shutdown()
    thread.join()
    server.stop()
    print(*wrong[:20], sep="\n")
    print(
        f"seed {options.seed}: {len(wrong)} faults; {options.count / (between - started):.0f} answers a second to one client, "
        f"{options.count / took:.0f} to {CLIENTS}, {len(attacks)} hostile ones between them"
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
