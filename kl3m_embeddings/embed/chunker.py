"""Texts to chunks: spans of the original text, which a model reads whole.

A chunk has at most `num_tokens` tokens of its own, counted as the model counts them: its text
behind the prompt, through the model's tokenizer. Decoded tokens are never a text: tokenizers
normalise, and what they have normalised is not what stood there.

A text is tokenised once to lay its windows, and its chunks once more to count. The rare text with a
chunk that has grown by being cut out is laid anew, every window tried by itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tokenizers import Encoding

from kl3m_embeddings.data.tokenizer.tokenizer import Tokenizer
from kl3m_embeddings.embed.boundaries import Split, whole_text
from kl3m_embeddings.embed.windows import Boundaries, Part, Span, WindowSize, windows
from kl3m_embeddings.errors import ConfigError

CHARS_AT_ONCE = 1 << 19
"""A longer text is tokenised in parts: an encoding takes a hundred bytes a token."""
MAX_WORD_TOKENS = 16
"""What has more is no word, and may be cut."""
MIN_TOKENS = 32
"""No character alone has as many tokens."""


class Chunk(NamedTuple):
    """A span of a text.

    Attributes:
        start: its first character.
        end: the character behind its last one.
        num_tokens: without special tokens and the prompt's.
    """

    start: int
    end: int
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class ChunkSize:
    """How long chunks are.

    Attributes:
        num_tokens: of a chunk, at most, without special tokens and the prompt's.
        overlap: the part of a chunk that begins the next one, too.
        tolerance: the part of a chunk that may be given up to end it where a sentence ends.
    """

    num_tokens: int = 500
    overlap: float = 0.1
    tolerance: float = 0.2


class _Starts:
    """Where the tokens of an encoding begin; see `TokenStarts`."""

    def __init__(self, encoding: Encoding, offset: int = 0) -> None:
        self._encoding = encoding
        self._offset = offset
        self._length = len(encoding)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> int:
        span: tuple[int, int] = self._encoding.token_to_chars(index)  # type: ignore[assignment]
        return span[0] + self._offset

    def word(self, index: int) -> int:
        """The first token of this one's word."""
        of = self._encoding.token_to_word(index)
        if of is None:
            return index
        first = index
        while first > 0 and index - first < MAX_WORD_TOKENS:
            if self._encoding.token_to_word(first - 1) != of:
                return first
            first -= 1
        return index if first else 0


class Chunker:
    """Cuts texts into chunks for a model."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        size: ChunkSize,
        *,
        split: Split = whole_text,
        prompt: str = "",
        max_length: int | None = None,
    ) -> None:
        """Check the sizes.

        Args:
            tokenizer: The model's own.
            size: Of the chunks.
            split: Where chunks had better end.
            prompt: What the model reads before each.
            max_length: Tokens of the longest text that the model reads; None: any.

        Raises:
            ConfigError: The sizes contradict each other, or the model.
        """
        self._backend = tokenizer.backend
        self._split = split
        self._prompt = prompt
        self._num_prompt_tokens = len(tokenizer.encode(prompt))
        self._size = size
        if size.num_tokens < MIN_TOKENS:
            raise ConfigError(f"--tokens {size.num_tokens}: choose {MIN_TOKENS} or more")
        if not 0 <= size.overlap < 1 or not 0 <= size.tolerance <= 1:
            raise ConfigError(f"--overlap {size.overlap}: choose 0 or more, and less than 1")
        framed = size.num_tokens + self._num_prompt_tokens + tokenizer.num_special
        if max_length is not None and framed > max_length:
            fits = max_length - self._num_prompt_tokens - tokenizer.num_special
            raise ConfigError(
                f"--tokens {size.num_tokens}: with {tokenizer.num_special} special tokens and "
                f"{self._num_prompt_tokens} of the prompt they are {framed}, and the model reads "
                f"{max_length}: choose {fits} or less"
            )
        overlap = min(int(size.num_tokens * size.overlap), size.num_tokens - 1)
        self._window = WindowSize(size.num_tokens, overlap)

    def chunk(self, texts: Sequence[str]) -> list[list[Chunk]]:
        """The chunks of each text, in order; an empty text has none."""
        chunks: list[list[Chunk]] = [[] for _ in texts]
        short = [index for index, text in enumerate(texts) if 0 < len(text) <= CHARS_AT_ONCE]
        encodings = self._backend.encode_batch(
            [texts[index] for index in short], add_special_tokens=False
        )
        parts = [
            Part(texts[index], _Starts(encoding), len(texts[index]), self._boundaries(texts[index]))
            for index, encoding in zip(short, encodings, strict=True)
        ]
        for index, found in zip(short, self._chunks_of(parts), strict=True):
            chunks[index] = found
        for index, text in enumerate(texts):
            if len(text) > CHARS_AT_ONCE:
                chunks[index] = list(self._chunk_long(text))
        return chunks

    def _boundaries(self, text: str) -> Boundaries:
        return self._split(text, self._size.tolerance)

    def _chunks_of(self, parts: Sequence[Part]) -> list[list[Chunk]]:
        """The chunks of each, none of them too long.

        First as if a span had the tokens that it has in the text; then, where one has more, each
        is tried by itself.
        """
        laid = [windows(self._window, part, None) for part in parts]
        counts = iter(
            self._count(
                [part.text[s:e] for part, spans in zip(parts, laid, strict=True) for s, e in spans]
            )
        )
        found = []
        for part, spans in zip(parts, laid, strict=True):
            chunks = [Chunk(*span, next(counts)) for span in spans]
            if any(chunk.num_tokens > self._window.size for chunk in chunks):
                chunks = self._one_by_one(part)
            found.append(chunks)
        return found

    def _one_by_one(self, part: Part) -> list[Chunk]:
        """The chunks of a part, of which each was tried before the next one was laid."""

        def count(span: Span) -> int:
            return self._count([part.text[span.start : span.end]])[0]

        return [Chunk(*span, count(span)) for span in windows(self._window, part, count)]

    def _chunk_long(self, text: str) -> Iterator[Chunk]:
        """The chunks of a text that is tokenised in parts, which begin where a chunk begins.

        The chunks that end near the end of a part are laid again by the next one, which knows how
        the text goes on.
        """
        boundaries = self._boundaries(text)
        done = Span(0, 0)
        num_chars = CHARS_AT_ONCE
        while True:
            stop = min(done.start + num_chars, len(text))
            encoding = self._backend.encode(text[done.start : stop], add_special_tokens=False)
            part = Part(text, _Starts(encoding, done.start), stop, boundaries, done)
            (chunks,) = self._chunks_of([part])
            if stop == len(text):
                yield from chunks
                return
            certain = chunks[:-2]
            yield from certain
            if certain:
                done = Span(chunks[len(certain)].start, certain[-1].end)
                num_chars = CHARS_AT_ONCE
            else:  # few tokens: a part without spaces, as a picture in base64
                num_chars *= 2

    def _count(self, texts: list[str]) -> list[int]:
        """Tokens of each text behind the prompt, without the prompt's."""
        texts = [self._prompt + text for text in texts] if self._prompt else texts
        encodings = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        return [max(len(encoding) - self._num_prompt_tokens, 0) for encoding in encodings]
