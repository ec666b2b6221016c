"""The shape of a network that reads a source and writes its target, and how it is trained and asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, ClassVar

from nblstm.config.checks import MAX_SIZE, MAX_TOKENS, at_least, at_most, check_types, fraction, one_of
from nblstm.config.decoding import BACKENDS, MAX_BEAM, FilterConfig
from nblstm.config.network import MAX_PARAMETERS, StackConfig, TokenStackConfig
from nblstm.config.training import ON_DIVERGENCE, Recipe
from nblstm.errors import ConfigError
from nblstm.kernels.cells import Cell
from nblstm.nn.attention import SCORES, attention_shapes
from nblstm.nn.encoder import bridge_shapes
from nblstm.remembered import remembered

ATTENTIONS = (*SCORES, "none")
MONITORS_OF_TRANSLATION = ("loss", "bleu")
TRANSLATOR_EPOCHS = 15  # unless epochs, steps or minutes is set


@dataclass(frozen=True)
class SideConfig(TokenStackConfig):
    """The stack of one side, made of a TranslatorConfig; it is not stored."""

    both_directions: bool = False
    fed: int = 0  # numbers that a step reads beside its token's vector

    @property
    def directions(self) -> int:  # type: ignore[override]
        """In how many directions a layer reads."""
        return 2 if self.both_directions else 1

    @property
    def input_size(self) -> int:
        """How many numbers the first layer reads at a step."""
        return self.embedding_size + self.fed


@dataclass(frozen=True)
class TranslatorConfig(StackConfig):
    """An encoder of sources and a decoder that writes targets, attention between them; stored in its file."""

    vocab_size: int  # of the targets, <unk> and <end> included
    source_vocab_size: int = 0  # of the sources; 0: they are vectors
    _: KW_ONLY
    source_size: int = 0  # numbers of a source that is a vector
    attention: str = "general"  # general | dot | additive | none: how a step looks at its source
    input_feeding: bool = False  # a step reads what the one before has found; several times slower
    bidirectional: bool = True  # the encoder reads in both directions
    shared: bool = False  # both sides have one vocabulary, and its tokens one vector each
    embedding_size: int = 0  # E: size of a token's vector; 0 means hidden_size
    tie: bool = False  # head.weight is the targets' embedding (needs embedding_size == what the head sees)
    embedding_dropout: float = 0.0  # share of the tokens whose whole vector is zero in an update
    max_length: int = 200  # tokens of a source that are read, and of a target that are written, at most
    dropout: float = 0.3
    input_dropout: float = 0.3
    output_dropout: float = 0.3

    KEY: ClassVar[str] = "nblstm_translator"

    def __post_init__(self) -> None:
        check_types(self)
        if self.embedding_size == 0:
            object.__setattr__(self, "embedding_size", self.head_size if self.tie else self.hidden_size)
        at_least(self, 1, "vocab_size", "embedding_size", "max_length")
        at_least(self, 0, "source_vocab_size", "source_size")
        at_most(self, MAX_SIZE, "embedding_size", "max_length", "source_size")
        at_most(self, MAX_PARAMETERS, "vocab_size", "source_vocab_size")
        fraction(self, "embedding_dropout")
        one_of(self, "attention", ATTENTIONS)
        self.check_stack()
        self._check_choices()
        self.check_size("hidden_size, embedding_size or num_layers")

    def _check_choices(self) -> None:
        """Raise ConfigError for choices that exclude each other."""
        if self.head != "linear" or self.learned_state:
            raise ConfigError(
                "the head and the first state of a translator are its own; leave head and learned_state out."
            )
        if (self.source_vocab_size == 0) == (self.source_size == 0):
            raise ConfigError("a source is tokens or a vector; set source_vocab_size or source_size.")
        if self.source_size and (self.attention != "none" or self.shared):
            raise ConfigError(
                "a source that is a vector has no steps and no words; set attention none, leave out shared."
            )
        if self.shared and self.source_vocab_size != self.vocab_size:
            raise ConfigError("a shared vocabulary has one size; source_vocab_size must be vocab_size.")
        if self.tie and self.embedding_size != self.head_size:
            raise ConfigError(f"tie needs embedding_size == {self.head_size}, the size of what the head sees.")
        if self.attention == "dot" and self.encoder and self.encoder.output_size != self.decoder.output_size:
            raise ConfigError("attention dot needs sizes that match; set bidirectional false, or choose general.")
        if self.input_feeding and self.attention == "none":
            raise ConfigError("input_feeding needs attention, whose result is fed; choose one, or leave it out.")
        if self.input_feeding and (self.variational_dropout or self.weight_dropout):
            raise ConfigError(
                "input_feeding draws new noise at every step; leave out variational_dropout and weight_dropout."
            )

    @property
    def more_vocabularies(self) -> dict[str, int]:
        """The sources' vocabulary, where that is another than the targets'."""
        return {} if self.shared or self.source_size else {"source_vocabulary": self.source_vocab_size}

    # ------------------------------------------------------------ its two stacks

    @remembered
    def encoder(self) -> SideConfig | None:
        """The stack that reads sources; None where they are vectors."""
        if self.source_size:
            return None
        return self._side(self.source_vocab_size, both_directions=self.bidirectional, output_dropout=self.dropout)

    @remembered
    def decoder(self) -> SideConfig:
        """The stack that reads targets."""
        return self._side(self.vocab_size, fed=self.head_size if self.input_feeding else 0, output_dropout=0.0)

    def _side(self, vocab_size: int, **own: Any) -> SideConfig:
        """Make the config of one side."""
        shared = {field.name for field in fields(StackConfig)} | {"embedding_size", "embedding_dropout"}
        return SideConfig(vocab_size, **{**{name: getattr(self, name) for name in shared}, **own})

    @property
    def cells(self) -> list[Cell]:
        """The cells of both stacks."""
        return (self.encoder.cells if self.encoder else []) + self.decoder.cells

    @property
    def input_size(self) -> int:
        """How many numbers the decoder's first layer reads at a step."""
        return self.decoder.input_size

    @property
    def output_size(self) -> int:
        """How many numbers the decoder's last layer hands on."""
        return self.proj_size or self.hidden_size

    @property
    def num_outputs(self) -> int:  # type: ignore[override]
        """V: how many logits the head makes."""
        return self.vocab_size

    # ------------------------------------------------------------ parameters

    @property
    def tied(self) -> dict[str, str]:  # type: ignore[override]
        """Name of a parameter that is another one -> that one."""
        shared = {"encoder.embedding.weight": "decoder.embedding.weight"} if self.shared else {}
        return {**shared, **({"head.weight": "decoder.embedding.weight"} if self.tie else {})}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape, in the order of the flat buffer."""
        encoder, decoder = self.encoder, self.decoder
        shapes: dict[str, tuple[int, ...]] = {}
        of_h = of_c = self.source_size
        if encoder is not None:
            of_h, of_c = (
                encoder.directions * size for size in (encoder.cells[0].output_size, encoder.cells[0].memory_size)
            )
            shapes |= _under("encoder.", _side_shapes(encoder))
        shapes |= _under("bridge.", bridge_shapes(decoder, of_h, of_c))
        if encoder is not None and self.attention != "none":
            shapes |= _under("attention.", attention_shapes(self.attention, self.head_size, encoder.output_size))
        shapes |= _under("decoder.", _side_shapes(decoder)) | self.head_shapes
        return {name: shape for name, shape in shapes.items() if name not in self.tied}

    @property
    def description(self) -> str:
        """The network in a few words: "LSTM 2 x 256, bidirectional, general attention"."""
        looks = "no attention" if self.attention == "none" else f"{self.attention} attention"
        words = {"input_feeding": "input feeding", "shared": "shared vocabulary"}
        return ", ".join([super().description, looks, *(word for name, word in words.items() if getattr(self, name))])


def _side_shapes(side: SideConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a side's embedding and stack."""
    return {"embedding.weight": (side.vocab_size, side.embedding_size), **side.stack_shapes}


def _under(prefix: str, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the shapes under names with a prefix."""
    return {prefix + name: shape for name, shape in shapes.items()}


@dataclass(frozen=True, kw_only=True)
class TranslatorTraining(Recipe):
    """How a translator is trained."""

    label_smoothing: float = 0.1  # share of a target's probability that is spread over all tokens
    tokens_per_batch: int | None = None  # fill batches by tokens, of sources and targets, instead of batch_size
    monitor: str = "loss"  # loss | bleu: by which of these in validation the best weights are kept
    batch_size: int = 64
    lr: float | None = 2e-3
    on_divergence: str = "stop"  # type: ignore[misc] # stop | rollback, of a run with files

    def __post_init__(self) -> None:
        if self.epochs is None and self.steps is None and self.minutes is None:
            object.__setattr__(self, "epochs", TRANSLATOR_EPOCHS)
        super().__post_init__()
        fraction(self, "label_smoothing")
        at_least(self, 1, "tokens_per_batch")
        at_most(self, MAX_SIZE, "tokens_per_batch")
        one_of(self, "monitor", MONITORS_OF_TRANSLATION)
        one_of(self, "on_divergence", ON_DIVERGENCE)


@dataclass(frozen=True)
class TranslateConfig(FilterConfig):
    """How translations are searched for, or drawn."""

    beam: int = 5  # hypotheses kept at every step; 1 takes the most likely token at each
    num_samples: int = 1  # translations of each source, the best first
    n: int | None = None  # most tokens of a translation; None: twice those of its source and ten more
    length_penalty: float = 1.0  # alpha of Wu et al. 2016, eq. 14: 0 favours short texts, 1 is about the mean per token
    coverage_penalty: float = 0.0  # beta of the same: what of a source nobody has looked at costs so much
    temperature: float | None = None  # draw translations at this temperature instead of searching for the best
    seed: int | None = None  # None draws a fresh one
    replace_unknown: bool = True  # put the source's word in the place of <unk>, where attention knows it
    batch_size: int = 64  # sources side by side
    backend: str = "auto"  # numpy | cpu | auto: whichever is expected to finish first

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "beam", "num_samples", "n", "batch_size")
        at_least(self, 0, "length_penalty", "coverage_penalty", "temperature", "seed")
        at_most(self, MAX_TOKENS, "n")
        at_most(self, 30, "length_penalty", "coverage_penalty")
        at_most(self, MAX_BEAM, "beam", "num_samples", "batch_size")
        one_of(self, "backend", tuple(name for name in BACKENDS if name != "cuda"))
        if self.temperature is None and self.num_samples > self.beam:
            raise ConfigError(f"num_samples must be at most beam, {self.beam}, got {self.num_samples}; raise beam.")
        for field in fields(FilterConfig):
            if self.temperature is None and getattr(self, field.name) != field.default:
                raise ConfigError(f"{field.name} is for drawing; set a temperature, or leave it out.")
