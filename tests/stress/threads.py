"""A threaded web server with one model, asked by many clients at once and by one: the same answers, and how fast.

    python tests/stress/threads.py --seed 1 --count 512 --clients 64

Every request is one of three verbs (generate, score, beam) with settings drawn from the seed. Exit status 1 if an answer
of the many differs from that of the one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from nblstm.tasks.language.config import LanguageConfig  # noqa: E402
from nblstm.tasks.language.model import LanguageModel  # noqa: E402
from nblstm.nn.parameters import initial  # noqa: E402
from nblstm.text.vocabulary import Vocabulary  # noqa: E402

TEXT = "".join(map(chr, range(32, 127))) + "\n"


def a_model(hidden_size: int, cell: str, seed: int) -> LanguageModel:
    """A model of random weights."""
    vocabulary = Vocabulary.build([TEXT], "char")
    config = LanguageConfig(len(vocabulary), hidden_size=hidden_size, num_layers=2, cell=cell)
    return LanguageModel(config, vocabulary, 2 * initial(config, seed), {})


def answer(model: LanguageModel, verb: str, text: str, seed: int, backend: str) -> object:
    """What the model says to a request."""
    if verb == "generate":
        return "".join(model.generate(text, n=50, seed=seed, backend=backend))
    if verb == "beam":
        return [found.text for found in model.beam(text, n=10, beam=4, backend=backend)]
    return model.score(text, backend).nats


def served(model: LanguageModel, backend: str) -> ThreadingHTTPServer:
    """A server that answers every request in a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            said = json.dumps(answer(model, *asked, backend)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def log_message(self, *args: object) -> None:
            """Be quiet."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 256

    server = Server(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    return server


def ask(port: int, request: list[object]) -> object:
    """The server's answer."""
    with urlopen(Request(f"http://127.0.0.1:{port}/", json.dumps(request).encode()), timeout=300) as said:
        return json.load(said)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=512, help="requests")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--hidden-size", type=int, default=128)
    parser.add_argument("--cell", default="lstm")
    parser.add_argument("--backend", choices=("numpy", "cpu"), default="cpu")
    args = parser.parse_args()
    chance, model = random.Random(args.seed), a_model(args.hidden_size, args.cell, args.seed)
    requests = [
        [chance.choice(["generate", "score", "beam"]), "".join(chance.choices(TEXT, k=chance.randint(1, 400))), number]
        for number in range(args.count)
    ]
    server = served(model, args.backend)
    for verb in ("generate", "score", "beam"):
        ask(server.server_port, [verb, "warm up", 0])  # compile
    found, seconds = [], []
    for clients in (1, args.clients):
        started = time.perf_counter()
        with ThreadPoolExecutor(clients) as pool:
            found.append(list(pool.map(lambda request: ask(server.server_port, request), requests)))
        seconds.append(time.perf_counter() - started)
    server.shutdown()
    wrong = sum(one != other for one, other in zip(*found))
    print(
        f"{args.cell}, {args.backend}, seed {args.seed}: {wrong} of {args.count} answers to {args.clients} clients are "
        f"not those to one; one client {args.count / seconds[0]:.0f} answers a second, {args.clients} clients "
        f"{args.count / seconds[1]:.0f}"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
