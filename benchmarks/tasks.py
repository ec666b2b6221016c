"""The tasks beside PyTorch networks of the same architecture: speed of training, and quality.

    python benchmarks/tasks.py [tag classify translate] --data FOLDER [--epochs 5] [--texts 2000]

FOLDER holds conll2003/eng.train and eng.testa, sst2/train.tsv and dev.tsv, multi30k/train.en, train.de, val.en and val.de.
Losses of the same weights are compared before anything is timed. A step is forward, backward, clipping and Adam, on batches
that are made beforehand. For quality (--epochs, which takes its time) both start from the same weights and take the same
batches at the same rates; what is measured are their last weights, and the seconds of their updates alone.
"""

from __future__ import annotations

import common  # first: it sets the environment that the others read  # isort: skip

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nblstm.kernels import fastest

SEED, BATCHES, CLIP = 0, 12, 5.0
TOLERANCE = 1e-4  # of the loss
TRANSLATED, BEAM, ALPHA = 200, 5, 1.0  # sources whose translations are compared, and how they are searched


class Case(ABC):
    """A task: our trainer, and the network of the peer with the same weights.

    trainer: of our network. peer: a torch module whose call on a batch is the loss; None where nobody is beside us.
    """

    UNIT = "words/s"

    def __init__(self, args: Any) -> None:
        self.trainer, self.peer = self.prepare(args), None
        if "torch" in args.peers:
            import torch

            torch.set_num_threads(args.threads)
            torch.manual_seed(SEED)
            self.peer = self.made_peer(args)
            self.optimizer = torch.optim.Adam(self.peer.parameters(), fused=True)

    @abstractmethod
    def prepare(self, args: Any) -> Any:
        """Make our trainer."""

    @abstractmethod
    def made_peer(self, args: Any) -> Any:
        """Make the peer, with the weights of our network."""

    @abstractmethod
    def batches(self, epoch: int) -> Iterator[tuple[Any, Any, int]]:
        """Yield (our chunk, the peer's arguments, the words in it) of an epoch."""

    @abstractmethod
    def measure_ours(self) -> dict[str, str]:
        """Measure our weights as they are."""

    @abstractmethod
    def measure_theirs(self) -> dict[str, str]:
        """Measure the peer's."""

    def quiet_losses(self, chunk: Any, batch: Any) -> tuple[float, float]:
        """Both losses without dropout."""
        import torch

        network = type(self.trainer.network)(
            self.trainer.network.config, self.trainer.network.parameters.copy(), fastest()
        )
        losses, _ = network.losses(chunk, network.initial_state(chunk.num_texts))
        self.peer.eval()
        with torch.no_grad():
            return float(losses.mean()), self.peer(*batch).item()

    def update(self, chunk: Any, lr: float) -> None:
        """One update of our trainer."""
        trainer, network = self.trainer, self.trainer.network
        loss, _ = network.loss_and_gradient(
            trainer.gradient, chunk, network.initial_state(chunk.num_texts), SEED, trainer.step
        )
        norm = np.sqrt(network.kernels.squared_norm(trainer.gradient, network.threads))
        trainer.step += 1
        trainer.optimizer.update(
            network.kernels, network.parameters, trainer.gradient, lr, trainer.step, min(1.0, CLIP / (norm + 1e-6)),
            network.threads,
        )  # fmt: skip

    def peer_update(self, batch: Any, lr: float) -> None:
        """The same in PyTorch."""
        import torch

        self.peer.train()
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.zero_grad(set_to_none=True)
        self.peer(*batch).backward()
        torch.nn.utils.clip_grad_norm_(self.peer.parameters(), CLIP)
        self.optimizer.step()


class Tagging(Case):
    """Lample et al. 2016: words 100, characters 2 x 25, 2 x 100, CRF; batches of 16 sentences."""

    def prepare(self, args: Any) -> Any:
        from nblstm.tasks.tagging.config import TaggerConfig
        from nblstm.tasks.tagging.network import initial_tagger
        from nblstm.tasks.tagging.reading import read_tagged
        from nblstm.tasks.tagging.settings import TaggedTextConfig, TaggerTraining
        from nblstm.tasks.tagging.training import TaggedPart, corpus_of, tagger_trainer

        train, valid = (
            TaggedPart(*(side[: args.texts] for side in read_tagged(Path(args.data, "conll2003", name))))
            for name in ("eng.train", "eng.testa")
        )
        corpus = corpus_of(train, valid, TaggedTextConfig())
        self.config = TaggerConfig(**corpus.fields)
        known = [all(self.config.knows(tag) for tag in tags) for tags in valid.tags]
        assert all(known), "the sentences that are learned have not all types of spans; take more texts"
        recipe = TaggerTraining(threads=args.threads, unknown_fraction=0.0)
        return tagger_trainer(self.config, initial_tagger(self.config, SEED), recipe, corpus, print)

    def made_peer(self, args: Any) -> Any:
        from torch_tagger import TorchTagger

        peer = TorchTagger(self.config)
        peer.load(self.trainer.network.weights)
        return peer

    def batches(self, epoch: int) -> Iterator[tuple[Any, Any, int]]:
        for chunk in self.trainer.source.epoch(epoch):
            yield chunk, self._padded(chunk), len(chunk.tokens)

    def _padded(self, chunk: Any) -> Any:
        if self.peer is None:
            return None
        from torch_tagger import padded

        return padded(chunk)

    def measure_ours(self) -> dict[str, str]:
        found = self.trainer.measure(self.trainer.network, self.trainer.valid, lambda: False).measures
        return {"F1": f"{found['f1']:.4f}"}

    def measure_theirs(self) -> dict[str, str]:
        from nblstm.tasks.tagging.measures import TagEvaluation
        from nblstm.tasks.tagging.network import in_sentences

        expected, found = [], []
        self.peer.eval()
        for chunk in self.trainer.valid:
            expected += in_sentences(chunk.targets, chunk, self.config)
            found += [[self.config.tags[tag] for tag in tags] for tags in self.peer.best(*self._padded(chunk)[:4])]
        return {"F1": f"{TagEvaluation.of(expected, found).f1:.4f}"}


class Classification(Case):
    """Words 128, an LSTM of 128 in both directions, the mean of its outputs; batches of 32 sentences."""

    def prepare(self, args: Any) -> Any:
        from nblstm.tasks.classification.config import ClassifierConfig, ClassifierTraining
        from nblstm.tasks.classification.reading import read_labelled
        from nblstm.tasks.classification.settings import LabelledTextConfig
        from nblstm.tasks.classification.training import (
            LabelledCorpus,
            LabelledPart,
            classifier_trainer,
            initial_parameters,
            vocabulary_of,
        )

        parts = []
        for name in ("train.tsv", "dev.tsv"):
            texts, labels = read_labelled(Path(args.data, "sst2", name))
            parts.append(LabelledPart(texts[: args.texts], np.array(labels[: args.texts], str) == "1"))
        parts = [LabelledPart(part.texts, part.labels.astype(np.int32)) for part in parts]
        vocabulary = vocabulary_of(parts[0].texts, LabelledTextConfig())
        corpus = LabelledCorpus(vocabulary, ("0", "1"), *parts)
        self.config = ClassifierConfig(len(vocabulary), labels=("0", "1"))
        recipe = ClassifierTraining(threads=args.threads)
        return classifier_trainer(self.config, initial_parameters(self.config, recipe, corpus), recipe, corpus, print)

    def made_peer(self, args: Any) -> Any:
        from torch_classifier import TorchClassifier

        peer = TorchClassifier(self.config)
        peer.load(self.trainer.network.weights)
        return peer

    def batches(self, epoch: int) -> Iterator[tuple[Any, Any, int]]:
        for chunk in self.trainer.source.epoch(epoch):
            yield chunk, self._padded(chunk), len(chunk.tokens)

    def _padded(self, chunk: Any) -> Any:
        if self.peer is None:
            return None
        from torch_classifier import padded_texts

        return padded_texts(chunk)

    def measure_ours(self) -> dict[str, str]:
        found = self.trainer.measure(self.trainer.network, self.trainer.valid, lambda: False).measures
        return {"accuracy": f"{found['accuracy']:.4f}"}

    def measure_theirs(self) -> dict[str, str]:
        import torch

        self.peer.eval()
        right = total = 0
        with torch.no_grad():
            for chunk in self.trainer.valid:
                tokens, lengths, labels = self._padded(chunk)
                right += int((self.peer.logits(tokens, lengths).argmax(1) == labels).sum())
                total += len(labels)
        return {"accuracy": f"{right / total:.4f}"}


class Translation(Case):
    """Luong et al. 2015: an encoder of 2 x 256 in both directions, a decoder of 2 x 256, general attention; 64 pairs."""

    def prepare(self, args: Any) -> Any:
        import nblstm
        from nblstm.tasks.translation.config import TranslatorConfig, TranslatorTraining
        from nblstm.tasks.translation.network import initial_translator
        from nblstm.tasks.translation.pairs import encoded_pairs, sizes_of, vocabularies_of
        from nblstm.tasks.translation.settings import PairedTextConfig
        from nblstm.tasks.translation.training import PairedCorpus, translator_trainer

        folder = Path(args.data, "multi30k")
        train, valid = (
            tuple(side[:most] for side in nblstm.read_parallel(folder / f"{name}.en", folder / f"{name}.de"))
            for name, most in (("train", args.texts), ("val", TRANSLATED))
        )
        self.vocabularies = vocabularies_of(train, PairedTextConfig(tokenizer="whitespace", min_count=2))
        self.config = TranslatorConfig(**sizes_of(self.vocabularies, train[0]), hidden_size=256)
        self.recipe, self.valid = TranslatorTraining(threads=args.threads), valid
        self.sources, self.targets = encoded_pairs(train, self.vocabularies, self.config)
        corpus = PairedCorpus(self.vocabularies, train, valid)
        return translator_trainer(self.config, initial_translator(self.config, SEED), self.recipe, corpus, print)

    def made_peer(self, args: Any) -> Any:
        from torch_translator import TorchTranslator

        return TorchTranslator(self.config, self.trainer.network.parameters, self.recipe.label_smoothing)

    def batches(self, epoch: int) -> Iterator[tuple[Any, Any, int]]:
        source = self.trainer.source
        for pairs in source.epoch(epoch).batches:
            chunk = source.chunk(pairs)
            batch = None if self.peer is None else self._texts(pairs)
            yield chunk, batch, int(source.sources.lengths[pairs].sum()) + len(chunk.targets)

    def _texts(self, pairs: np.ndarray) -> Any:
        """The ids of pairs as PyTorch's tensors; <end> stands on both sides of targets."""
        import torch

        source = self.trainer.source
        sides = []
        for encoded, more in ((source.sources, 0), (source.targets, 1)):
            ends = encoded.starts[pairs] + encoded.lengths[pairs] + more
            sides.append([torch.from_numpy(encoded.ids[a:b]).long() for a, b in zip(encoded.starts[pairs], ends)])
        return sides

    def quiet_losses(self, chunk: Any, batch: Any) -> tuple[float, float]:
        smoothing, self.peer.smoothing = self.peer.smoothing, 0.0
        try:
            return super().quiet_losses(chunk, batch)
        finally:
            self.peer.smoothing = smoothing

    def measure_ours(self) -> dict[str, str]:
        import nblstm

        model = nblstm.Translator.of_parameters(
            self.config, self.vocabularies, self.trainer.network.parameters.copy(), {}
        )
        how = {"beam": BEAM, "length_penalty": ALPHA, "backend": "cpu", "threads": self.recipe.threads}
        return self._scores(model.translate(self.valid[0], replace_unknown=False, **how))

    def measure_theirs(self) -> dict[str, str]:
        import torch

        from nblstm.tasks.translation.batches import encoded_sources

        self.peer.eval()
        encoded, words, written = encoded_sources(self.vocabularies[0], self.valid[0], self.config.max_length), [], []
        for start, length in zip(encoded.starts, encoded.lengths):
            words.append(torch.from_numpy(encoded.ids[start : start + length]).long())
        for source in words:
            _, ids = self.peer.search(source, BEAM, 2 * len(source) + 10, ALPHA)
            written.append(self.vocabularies[1].decode([id for id in ids if id != self.vocabularies[1].end_id]))
        return self._scores(written)

    def _scores(self, written: list[str]) -> dict[str, str]:
        from nblstm.tasks.translation.measures import corpus_bleu

        return {f"BLEU of {TRANSLATED}": f"{corpus_bleu(written, self.valid[1]):.2f}"}


def timed_batches(case: Case) -> list[tuple[Any, Any, int]]:
    """What a turn reads."""
    return [batch for batch, _ in zip(case.batches(0), range(BATCHES))]


def turns_of(case: Case) -> dict[str, Callable[[], Any]]:
    """What each contestant does in a turn: the updates of some batches."""
    some, lr = timed_batches(case), case.trainer.config.learning_rate
    contestants: dict[str, Callable[[], Any]] = {"nblstm": lambda: [case.update(chunk, lr) for chunk, _, _ in some]}
    if case.peer is not None:
        contestants["torch"] = lambda: [case.peer_update(batch, lr) for _, batch, _ in some]
    return contestants


def speed(name: str, case: Case, args: Any) -> list[dict[str, Any]]:
    """How many words a second each learns, and how many times as fast as PyTorch that is."""
    some = timed_batches(case)
    if case.peer is not None:
        common.require_close(f"loss of {name}", *case.quiet_losses(*some[0][:2]), TOLERANCE)
    contestants, words = turns_of(case), sum(words for _, _, words in some)
    if args.together:
        times = common.interleaved(contestants, args.repeat)
    else:
        times = common.in_processes({who: [name, who] for who in contestants}, args.repeat)
    rows = []
    for who, seconds in times.items():
        row = {"task": name, "who": who, case.UNIT: common.spread([words / s for s in seconds], digits=0)}
        if "torch" in times:
            row["times torch"] = common.spread(common.ratios(times["torch"], seconds), digits=2)
        rows.append(row)
    return rows


def quality(name: str, case: Case, args: Any) -> list[dict[str, Any]]:
    """What both have learned after as many epochs, and how long their updates took."""
    seconds, schedule, steps = dict.fromkeys(("nblstm", "torch"), 0.0), case.trainer.schedule, len(case.trainer.chunks)
    for epoch in range(args.epochs):
        for k, (chunk, batch, _) in enumerate(case.batches(epoch)):
            done = epoch + k / steps
            lr = schedule.lr(epoch * steps + k, done, done / args.epochs)
            seconds["nblstm"] += common.timed(lambda: case.update(chunk, lr))
            if case.peer is not None:
                seconds["torch"] += common.timed(lambda: case.peer_update(batch, lr))
        print(f"{name}: epoch {epoch + 1} of {args.epochs}", file=sys.stderr)
    told = {"task": name, "epochs": args.epochs}
    rows = [{**told, "who": "nblstm", **case.measure_ours(), "seconds": f"{seconds['nblstm']:.0f}"}]
    if case.peer is not None:
        rows.append({**told, "who": "torch", **case.measure_theirs(), "seconds": f"{seconds['torch']:.0f}"})
    return rows


TASKS: dict[str, Callable[[Any], Case]] = {"tag": Tagging, "classify": Classification, "translate": Translation}


def main() -> None:
    """Measure the tasks that are asked for."""
    parser = common.parser(__doc__, repeat=5, peers=["torch"])
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"of {', '.join(TASKS)} (default: all)")
    parser.add_argument("--data", metavar="FOLDER", required=True, help="of conll2003, sst2 and multi30k")
    parser.add_argument("--epochs", type=int, default=0, metavar="N", help="to learn for quality (default: none)")
    parser.add_argument("--texts", type=int, metavar="N", help="of each part that are read (default: all)")
    args = parser.parse_args()
    args.peers = common.installed(args.peers)
    unknown = set(args.tasks) - set(TASKS)
    if unknown:
        sys.exit(f"there is no task {', '.join(sorted(unknown))}; there are {', '.join(TASKS)}")
    np.random.seed(SEED)
    if args.serve:
        name, who = args.serve
        return common.serve(turns_of(TASKS[name](args))[who])
    fast, good = [], []
    for name in args.tasks or TASKS:
        fast += speed(name, TASKS[name](args), args)
        good += quality(name, TASKS[name](args), args) if args.epochs else []
    common.report("tasks: training steps", args, fast)
    if good:
        print()
        common.report(f"tasks: after {args.epochs} epochs", args, good)


if __name__ == "__main__":
    main()
