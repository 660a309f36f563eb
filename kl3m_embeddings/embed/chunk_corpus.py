"""A corpus to its chunks: a Parquet file for every input file, in any number of processes."""

import multiprocessing
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any

from kl3m_embeddings.data.readers.documents import Source, list_sources
from kl3m_embeddings.data.readers.records import ReadOptions
from kl3m_embeddings.data.readers.rows import bare_suffix
from kl3m_embeddings.embed.boundaries import Split, at_sentences, splitter, whole_text
from kl3m_embeddings.embed.chunk_file import chunk_file
from kl3m_embeddings.embed.chunker import Chunker, ChunkSize
from kl3m_embeddings.embed.sealed import SealedFolder, SealedOutput, has_changed, open_sealed
from kl3m_embeddings.encoder.folder.opened import open_model
from kl3m_embeddings.errors import ConfigError, DataError, RetryError, UserError

KIND = "chunks"


@dataclass(frozen=True, kw_only=True)
class ChunkRequest:
    """What the command line asks for.

    Attributes:
        model: whose tokenizer counts.
        size: of the chunks.
        at_sentences: whether they end where sentences end, if one ends near.
        by: of which units they are made: a name of SPLITS, or `module:function`; None: of none.
        prompt: what the model reads before a chunk; None: what it says itself of documents.
        text_column: with those that follow, as in `ReadOptions`.
    """

    model: str
    size: ChunkSize = field(default_factory=ChunkSize)
    at_sentences: bool = False
    by: str | None = None
    prompt: str | None = None
    text_column: str = "text"
    id_column: str = "id"
    keep_columns: tuple[str, ...] = ()
    max_line_mb: int = 64


@dataclass(frozen=True, kw_only=True)
class ChunkResult:
    """What has become of each input.

    Attributes:
        outputs: all that are there now, those of earlier calls, too.
        made: names of the inputs that were chunked now.
        faults: the error of each input that could not be.
    """

    outputs: list[SealedOutput]
    made: list[str]
    faults: Mapping[str, UserError]


def chunk_corpus(
    paths: Sequence[str],
    out: Path,
    request: ChunkRequest,
    *,
    workers: int = 1,
    refresh: bool = False,
    on_bytes: Callable[[int], None] = lambda _: None,
) -> ChunkResult:
    """Chunk each file that has no whole output yet.

    Args:
        paths: files, folders, globs or hub addresses.
        out: where the outputs and their manifest are.
        request: how.
        workers: processes, a file each.
        refresh: whether files that have changed since are chunked again; else they are an error.
        on_bytes: told how many more bytes of the files are read; of workers, when a file is done.

    Raises:
        ConfigError: the request contradicts itself, or what is there already.
        DataError: there is no such file.
        OutputError: the outputs cannot be written.
        RetryError: another process is at work there, or a worker was killed.
    """
    sources = list_sources(list(paths))
    names = output_names(sources)
    chunker, settings = build_chunker(request)
    with open_sealed(out, KIND, settings, what="chunks a corpus") as sealed:
        todo = _todo(sources, sealed, refresh=refresh)
        made: list[str] = []
        faults: dict[str, UserError] = {}
        jobs = [(source, out, names[source.name], request) for source in todo]
        for source, result in _results(jobs, min(workers, len(jobs)), chunker, on_bytes):
            if isinstance(result, SealedOutput):
                sealed.seal(result)
                made.append(source.name)
            elif isinstance(result, DataError | ConfigError):
                faults[source.name] = result
            else:
                raise result
        wanted = [one for one in sources if one.name in sealed.outputs]
        return ChunkResult(
            outputs=[sealed.outputs[one.name] for one in wanted], made=made, faults=faults
        )


def output_names(sources: Sequence[Source]) -> dict[str, str]:
    """The output of each source, by the source's name.

    Raises:
        ConfigError: two sources would have one output.
    """
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    for source in sources:
        path = PurePath(
            re.sub(r"[:/]+", "--", source.name) if "://" in source.name else source.name
        )
        suffix = bare_suffix(Path(path.name))
        stem = path.name[: path.name.lower().rindex(suffix)] if suffix else path.name
        name = str(path.with_name(f"{stem}.parquet"))
        if name in taken:
            raise ConfigError(
                f"{source.location}: its output would be {name}, as that of {taken[name]}: "
                "chunk them into two folders"
            )
        names[source.name], taken[name] = name, source.location
    return names


def build_chunker(request: ChunkRequest) -> tuple[Chunker, dict[str, Any]]:
    """The chunker, and what its chunks depend on.

    Raises:
        ConfigError: the request contradicts itself or the model, or the model cannot be read.
    """
    if request.by and request.at_sentences:
        raise ConfigError("--by and --end: give one of them")
    opened = open_model(request.model)
    prompt = opened.modules.document_prompt if request.prompt is None else request.prompt
    split: Split = at_sentences if request.at_sentences else whole_text
    if request.by:
        split = splitter(request.by)
    tokenizer = opened.tokenizer
    chunker = Chunker(
        tokenizer, request.size, split=split, prompt=prompt, max_length=opened.max_length
    )
    settings = asdict(request.size) | {
        "tokenizer": tokenizer.text_fingerprint,
        "prompt": prompt,
        "at_sentences": request.at_sentences,
        "by": request.by,
        "text_column": request.text_column,
        "id_column": request.id_column,
        "keep_columns": list(request.keep_columns),
        "max_line_mb": request.max_line_mb,
    }
    return chunker, settings


Job = tuple[Source, Path, str, ChunkRequest]


def _todo(sources: Sequence[Source], sealed: SealedFolder, *, refresh: bool) -> list[Source]:
    """The sources that have no whole output, or, to be refreshed, another content than it is of."""
    todo = []
    for source in sources:
        if not sealed.has(source.name):
            todo.append(source)
            continue
        path = Path(source.location)
        if not path.is_file():  # of the hub
            continue
        if has_changed(path, sealed.outputs[source.name].input):
            if not refresh:
                raise ConfigError(
                    f"{source.location}: has changed since it was chunked: give --refresh to chunk "
                    "it again"
                )
            todo.append(source)
    return todo


def _results(
    jobs: Sequence[Job], workers: int, chunker: Chunker, on_bytes: Callable[[int], None]
) -> Iterator[tuple[Source, SealedOutput | UserError]]:
    """Each job's source with its output, or the error; in whatever order they are done."""
    if workers <= 1:
        for job in jobs:
            yield job[0], _done(job, chunker, on_bytes)
        return
    # each with its share of the threads that tokenise
    os.environ.setdefault("RAYON_NUM_THREADS", str(max((os.cpu_count() or 1) // workers, 1)))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        futures: dict[Future[SealedOutput | UserError], Source] = {
            pool.submit(_done_in_worker, job): job[0] for job in jobs
        }
        try:
            for future in as_completed(futures):
                on_bytes(futures[future].num_bytes)
                yield futures[future], future.result()
        except BrokenProcessPool as error:
            raise RetryError(
                "a worker was killed, perhaps for its memory: run the same command again, with "
                "fewer --workers"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _done(
    job: Job, chunker: Chunker, on_bytes: Callable[[int], None] = lambda _: None
) -> SealedOutput | UserError:
    """A file's output, or why there is none."""
    source, out, name, request = job
    options = ReadOptions(
        text_column=request.text_column,
        id_column=request.id_column,
        keep_columns=request.keep_columns,
        max_line_mb=request.max_line_mb,
        on_bytes=on_bytes,
    )
    try:
        return chunk_file(source, out, name, chunker, options)
    except UserError as error:
        return error


def _done_in_worker(job: Job) -> SealedOutput | UserError:
    return _done(job, _chunker_of(job[3]))


@lru_cache(maxsize=1)
def _chunker_of(request: ChunkRequest) -> Chunker:
    return build_chunker(request)[0]
