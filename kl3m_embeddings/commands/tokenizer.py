"""`kl3m tokenizer`: train a tokenizer, or show how one is understood."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Train and inspect tokenizers.", no_args_is_help=True)

SAMPLE = "The Licensee shall not, without prior written consent, sublicense § 12(a)."


@app.command()
def train(
    sources: Annotated[list[str], typer.Argument(help="Files, folders, globs or hf://org/name.")],
    out: Annotated[Path, typer.Option(help="The tokenizer's folder.")],
    vocab_size: Annotated[int, typer.Option(help="Ids, special tokens included.")] = 16_384,
    min_frequency: Annotated[int, typer.Option(min=1, help="A merge occurs so often.")] = 2,
    limit_mb: Annotated[float | None, typer.Option(help="Read so much text only.")] = None,
    text_column: Annotated[str, typer.Option(help="Column of the text.")] = "text",
) -> None:
    """Train a byte-level BPE tokenizer."""
    from kl3m_embeddings.data.readers.documents import iter_documents
    from kl3m_embeddings.data.readers.records import ReadOptions
    from kl3m_embeddings.data.tokenizer.training import limit_texts, train_tokenizer

    documents = iter_documents(sources, ReadOptions(text_column=text_column))
    texts = limit_texts((document.text for document in documents), limit_mb)
    tokenizer = train_tokenizer(texts, vocab_size, out, min_frequency=min_frequency)
    print(f"{out}: {tokenizer.vocab_size:,} ids, fingerprint {tokenizer.fingerprint[:12]}")


@app.command()
def show(
    source: Annotated[str, typer.Argument(help="Folder, tokenizer.json or hub name.")],
    text: Annotated[str, typer.Option(help="A text to encode.")] = SAMPLE,
) -> None:
    """Print the special tokens as they are resolved, the fingerprint and a sample."""
    from kl3m_embeddings.data.tokenizer.special_tokens import WELL_KNOWN
    from kl3m_embeddings.data.tokenizer.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(source)
    print(f"{source}: {tokenizer.vocab_size:,} ids")
    print(f"  fingerprint  {tokenizer.fingerprint}")
    for role in WELL_KNOWN:
        token = tokenizer.special_tokens.get(role)
        shown = "none" if token is None else f"{tokenizer.backend.token_to_id(token)}  {token}"
        print(f"  {role:<11}  {shown}")
    ids = tokenizer.encode(text)
    pieces = [tokenizer.backend.decode([token_id]) for token_id in ids]
    print(f"  sample       {len(text.encode())} bytes, {len(ids)} tokens: {'|'.join(pieces)}")
    print(f"  ids          {ids}")
