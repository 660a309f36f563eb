import json
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kl3m_embeddings.data.shards.build import BuildOptions, build_shards
from kl3m_embeddings.data.shards.token_shards import DATASET_FILE, TokenShards, token_dtype
from kl3m_embeddings.errors import DamagedError, DataError
from kl3m_embeddings.files.hashes import sha256_of_files

NUM_DOCUMENTS = 30


@pytest.fixture(scope="module")
def texts():
    return [f"document {i} " + "is final " * (i % 7) for i in range(NUM_DOCUMENTS)]


@pytest.fixture(scope="module")
def folder(tokenizer, texts, tmp_path_factory):
    """A dataset of several shards."""
    root = tmp_path_factory.mktemp("shards")
    source = root / "x.jsonl"
    rows = [{"id": f"id-{i}-é", "text": text} for i, text in enumerate(texts)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = BuildOptions(shard_tokens=100)
    return build_shards("tiny", source, tokenizer, root, options=options).shards.path


@pytest.fixture
def copy(folder, tmp_path):
    """A copy to damage."""
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_documents_come_back(folder, tokenizer, texts):
    shards = TokenShards.open(folder)
    assert len(shards.info["shards"]) > 2
    assert (shards.name, shards.num_documents) == ("tiny", NUM_DOCUMENTS)
    assert shards.tokenizer_fingerprint == tokenizer.fingerprint
    for index, text in enumerate(texts):
        tokens = shards.document_tokens(index).tolist()
        assert tokens == tokenizer.encode(text)
        assert shards.document_id(index) == f"id-{index}-é"
        start, end = shards.document_starts[index : index + 2]
        assert end - start == len(tokens)
    assert shards.document_starts[-1] == shards.num_tokens
    for index in (-1, NUM_DOCUMENTS):
        with pytest.raises(IndexError):
            shards.document_id(index)
        with pytest.raises(IndexError):
            shards.document_tokens(index)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(data=st.data())
def test_gather_equals_slicing_up_to_the_documents_end(folder, tokenizer, data):
    shards = TokenShards.open(folder)
    positions = st.integers(0, shards.num_tokens - 1)
    starts = np.array(data.draw(st.lists(positions, max_size=20)), dtype=np.int64)
    length = data.draw(st.integers(1, 150))
    rows = shards.gather(starts, length)
    assert rows.shape == (len(starts), length)
    assert rows.min(initial=0) >= 0
    assert rows.max(initial=0) < tokenizer.vocab_size
    for start, row in zip(starts, rows, strict=True):
        document = int(np.searchsorted(shards.document_starts, start, side="right")) - 1
        rest = shards.document_tokens(document)[start - shards.document_starts[document] :]
        assert row[: len(rest)].tolist() == rest[:length].tolist()


def test_gather_refuses_positions_outside(folder):
    shards = TokenShards.open(folder)
    for start in (-1, shards.num_tokens):
        with pytest.raises(IndexError, match="tiny"):
            shards.gather(np.array([start]), 4)


def test_opening_reads_neither_tokens_nor_ids(tmp_path, folder):
    num_documents = 5_000_000
    info = json.loads((folder / DATASET_FILE).read_text(encoding="utf-8"))
    big = {
        "tokens-00000.bin": 2 * num_documents,
        "document_starts.bin": 8 * (num_documents + 1),
        "ids.bin": 20 * num_documents,
        "id_starts.bin": 8 * (num_documents + 1),
    }
    for name, num_bytes in big.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(num_bytes)  # sparse
        info["files"][name] = {"num_bytes": num_bytes, "sha256": ""}
    info["files"] = {name: info["files"][name] for name in big}
    counts = {"num_documents": num_documents, "num_tokens": num_documents}
    info |= {"shards": [{"file": "tokens-00000.bin", **counts}], **counts}
    info["sha256"] = sha256_of_files(info["files"])
    (tmp_path / DATASET_FILE).write_text(json.dumps(info), encoding="utf-8")
    started_s = time.perf_counter()
    TokenShards.open(tmp_path)
    assert time.perf_counter() - started_s < 0.25


@pytest.mark.parametrize("name", ["tokens-00001.bin", "ids.bin", "document_starts.bin"])
def test_a_file_that_is_short_or_missing_is_named(copy, name):
    (copy / name).write_bytes((copy / name).read_bytes()[:-1])
    with pytest.raises(DataError, match=rf"{name}: has \d+ bytes, expected \d+; build it again"):
        TokenShards.open(copy)
    (copy / name).unlink()
    with pytest.raises(DataError, match=f"{name}: is missing"):
        TokenShards.open(copy)


@pytest.mark.parametrize("name", ["tokens-00001.bin", "ids.bin", "document_starts.bin"])
def test_verify_sees_one_flipped_bit(copy, name):
    content = bytearray((copy / name).read_bytes())
    content[len(content) // 2] ^= 1
    (copy / name).write_bytes(content)
    shards = TokenShards.open(copy)
    with pytest.raises(DataError, match=name):
        shards.verify()


def test_verify_passes_an_intact_dataset(folder):
    TokenShards.open(folder).verify()


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": "kl3m-token-shards", "version": 99}', '{"version": 1}']
)
def test_a_bad_dataset_file_is_one_line(copy, content):
    (copy / DATASET_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=DATASET_FILE):
        TokenShards.open(copy)


def test_a_changed_hash_is_noticed_at_opening(copy):
    info = json.loads((copy / DATASET_FILE).read_text(encoding="utf-8"))
    info["files"]["ids.bin"]["sha256"] = "0" * 64
    (copy / DATASET_FILE).write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(DataError, match="sha256"):
        TokenShards.open(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"num_tokens": 10**6},
        {"num_documents": -1},
        {"dtype": "float32"},
        {"shards": [{"file": "tokens-00000.bin"}]},
        {"shards": []},
        {"files": {}},
        {"tokenizer": "f"},
        {"skipped": None},
    ],
)
def test_a_dataset_that_contradicts_itself_is_damaged(copy, change):
    info = json.loads((copy / DATASET_FILE).read_text(encoding="utf-8"))
    (copy / DATASET_FILE).write_text(json.dumps(info | change), encoding="utf-8")
    with pytest.raises(DamagedError, match=r"dataset.json: .*; build it again with"):
        TokenShards.open(copy)


def test_no_dataset_is_one_line(tmp_path):
    with pytest.raises(DataError, match="not a built dataset"):
        TokenShards.open(tmp_path)


def test_token_dtype_holds_the_highest_id():
    assert [token_dtype(size).name for size in (1, 65_536, 65_537)] == [
        "uint16",
        "uint16",
        "uint32",
    ]
