"""A translator's training step and its beam search, beside PyTorch with the same weights and the same pairs.

    python benchmarks/translate.py [--threads 2] [--repeat 5] [--data FOLDER] [--sentences 32] [--json]

FOLDER holds train.en and train.de (multi30k's, say); without it pairs of like lengths are drawn. Before anything is timed,
the loss and every gradient must equal PyTorch's, and so must the scores of all translations. PyTorch pads a batch, which is
of pairs of like lengths; its search is a loop over sources, a batch of hypotheses each.
"""

from __future__ import annotations

import common  # first: it sets the environment that the others read  # isort: skip

from pathlib import Path

import numpy as np

import nblstm
from nblstm.nn.parameters import views
from nblstm.tasks.translation.config import TranslatorConfig, TranslatorTraining
from nblstm.tasks.translation.network import initial_translator
from nblstm.tasks.translation.pairs import encoded_pairs, sizes_of, vocabularies_of
from nblstm.tasks.translation.settings import PairedTextConfig
from nblstm.tasks.translation.training import PairedCorpus, translator_trainer

PAIRS, WORDS = 6400, 7000  # drawn
BEAM, ALPHA = 5, 1.0
TOLERANCE = 1e-4  # of the loss, of each gradient relative to its largest entry, and of scores
QUIET = {"dropout": 0.0, "input_dropout": 0.0, "output_dropout": 0.0}


def drawn_pairs() -> tuple[list[str], list[str]]:
    """Sentences of 6 to 24 words, as frequent as those of a language, and others of about the same length."""
    r = np.random.default_rng(0)
    sentence = lambda count: " ".join(f"w{word}" for word in np.minimum(r.zipf(1.3, count), WORDS))
    lengths = np.clip(r.normal(13, 4, PAIRS).astype(int), 6, 24)
    return [sentence(n) for n in lengths], [sentence(max(4, n + r.integers(-3, 4))) for n in lengths]


class Case:
    """Both contestants, with the same weights, and the batch of one step."""

    def __init__(self, pairs, threads: int, noise: bool) -> None:
        text = PairedTextConfig(tokenizer="whitespace", min_count=2)
        self.vocabularies = vocabularies_of(pairs, text)
        self.config = TranslatorConfig(
            **sizes_of(self.vocabularies, pairs[0]), hidden_size=256, **({} if noise else QUIET)
        )
        self.recipe = TranslatorTraining(threads=threads)
        self.parameters = initial_translator(self.config, 0)
        corpus = PairedCorpus(self.vocabularies, pairs, ([], []))
        self.trainer = translator_trainer(self.config, self.parameters.copy(), self.recipe, corpus, print)
        self.sources, self.targets = encoded_pairs(pairs, self.vocabularies, self.config)
        batches = self.trainer.chunks.batches
        self.batch = min(batches, key=lambda batch: abs(self._tokens(batch) - np.mean([*map(self._tokens, batches)])))
        self.chunk = self.trainer.source.chunk(self.batch)

    def _tokens(self, batch) -> int:
        return int(self.targets.lengths[batch].sum())

    def texts(self, torch, encoded, texts, more: int) -> list:
        """Their ids as PyTorch's tensors; more: that stand behind each."""
        ends = encoded.starts[texts] + encoded.lengths[texts] + more
        return [torch.from_numpy(encoded.ids[a:b]).long() for a, b in zip(encoded.starts[texts], ends)]

    def step(self) -> float:
        """One update, as `Trainer` makes it, always on the same batch."""
        trainer, network = self.trainer, self.trainer.network
        state = network.initial_state(self.chunk.num_texts)
        loss, _ = network.loss_and_gradient(trainer.gradient, self.chunk, state, 0, trainer.step)
        norm = np.sqrt(network.kernels.squared_norm(trainer.gradient, network.threads))
        trainer.step += 1
        trainer.optimizer.update(
            network.kernels, network.parameters, trainer.gradient, 2e-3, trainer.step, min(1.0, 5 / (norm + 1e-6)),
            network.threads,
        )  # fmt: skip
        return loss


def checked(torch, pairs, threads: int) -> float:
    """Compare loss and gradients without dropout; return the largest error. The program ends if it is too large."""
    from torch_translator import TorchTranslator

    case = Case(pairs, threads, False)
    network, gradient = case.trainer.network, case.trainer.gradient
    loss, _ = network.loss_and_gradient(gradient, case.chunk, network.initial_state(case.chunk.num_texts), 0, 0)
    peer = TorchTranslator(case.config, case.parameters)
    their_loss = peer.loss(
        *(case.texts(torch, each, case.batch, more) for each, more in ((case.sources, 0), (case.targets, 1))),
        case.recipe.label_smoothing,
    )
    their_loss.backward()
    common.require_close("loss", loss, their_loss.item(), TOLERANCE)
    named = dict(peer.named_parameters())
    return max(
        common.require_close(f"gradient of {name}", array, named[name].grad.numpy(), TOLERANCE)
        for name, array in views(gradient, case.config).items()
    )


def main() -> None:
    """Measure and report."""
    parser = common.parser(__doc__, 5, ["torch"])
    parser.add_argument("--data", metavar="FOLDER", help="of train.en and train.de")
    parser.add_argument("--sentences", type=int, default=32, metavar="N", help="to translate (default %(default)s)")
    args = parser.parse_args()
    pairs = drawn_pairs()
    if args.data:
        pairs = nblstm.read_parallel(Path(args.data, "train.en"), Path(args.data, "train.de"))
    case = Case(pairs, args.threads, True)
    contestants, error, slow = {"nblstm": case.step}, None, {}
    found = pairs[0][: args.sentences]
    model = nblstm.Translator.of_parameters(case.config, case.vocabularies, case.parameters, {})
    how = {"beam": BEAM, "length_penalty": ALPHA, "backend": "cpu", "threads": args.threads, "replace_unknown": True}
    searches = {"nblstm": lambda: model.translations(found, **how)}
    if common.installed(args.peers):
        import torch
        from torch_translator import TorchTranslator, TorchTranslatorTraining

        torch.set_num_threads(args.threads)
        error = checked(torch, pairs, args.threads)
        theirs = TorchTranslatorTraining(TorchTranslator(case.config, case.parameters), 2e-3, 5.0)
        batch = [case.texts(torch, each, case.batch, more) for each, more in ((case.sources, 0), (case.targets, 1))]
        contestants["torch"] = lambda: theirs.step(*batch, case.recipe.label_smoothing)
        peer = TorchTranslator(case.config, case.parameters).eval()
        texts = case.texts(torch, case.sources, np.arange(len(found)), 0)
        searches["torch"] = lambda: [peer.search(ids, BEAM, 2 * len(ids) + 10, ALPHA) for ids in texts]
        ours = [one[0].score for one in searches["nblstm"]()]
        common.require_close("scores", ours, [score for score, _ in searches["torch"]()], TOLERANCE)
    rows = []
    for name, calls, per in (("step of 64 pairs", contestants, 1), ("beam 5, a sentence", searches, len(found))):
        slow[name] = common.interleaved(calls, args.repeat)
        times = {who: [seconds / per for seconds in each] for who, each in slow[name].items()}
        row = {"": name, **{f"{who} ms": common.spread(each, 1e3) for who, each in times.items()}}
        if "torch" in times:
            row["torch / nblstm"] = common.spread(common.ratios(times["torch"], times["nblstm"]), digits=2)
        rows.append(row | ({"error": "not checked" if error is None else f"{error:.0e}"}))
    common.report("Translation, LSTM 2 x 256, general attention", args, rows, figures=slow)


if __name__ == "__main__":
    main()
