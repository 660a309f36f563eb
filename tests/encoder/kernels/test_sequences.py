import pytest
import torch

from kl3m_embeddings.encoder.folder.load import build_encoder
from kl3m_embeddings.encoder.kernels.native_library import library
from kl3m_embeddings.encoder.kernels.sequences import Sequences
from tests.encoder.tiny import tiny_config


def test_a_row_is_a_sequence_from_its_first_token_to_its_last():
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]).bool()
    sequences = Sequences.of(mask)
    assert sequences.bounds.tolist() == [[0, 4], [4, 6], [9, 11], [12, 12]]
    assert not sequences.has_gaps
    assert not sequences.are_everything
    assert Sequences.of(torch.tensor([[1, 0, 1]]).bool()).has_gaps
    assert Sequences.of(mask[:1]).are_everything


def test_only_tokens_of_the_same_sequence_attend_to_each_other():
    mask = torch.tensor([[1, 1, 1, 0], [1, 1, 0, 0]]).bool()
    bounds = torch.tensor([[0, 1], [1, 3], [4, 6], [0, 0]])
    allowed = Sequences.of(mask, bounds).bias(torch.float32) == 0
    wanted = torch.zeros(2, 4, 4, dtype=torch.bool)
    wanted[0, 0, 0] = True
    wanted[0, 1:3, 1:3] = True
    wanted[1, :2, :2] = True
    assert torch.equal(allowed & mask[:, :, None], wanted)


@pytest.mark.parametrize("terms", [["p2c", "c2p"], ["c2p"]], ids=["own kernel", "any"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_documents_of_a_packed_row_are_encoded_as_if_alone(terms, dtype):
    if dtype == torch.bfloat16 and library() is None:
        pytest.skip("nothing that float32 does not show")
    config = tiny_config(
        hidden_size=64, num_attention_heads=2, intermediate_size=64, pos_att_type=terms
    )
    encoder = build_encoder(config, seed=0).eval()
    lengths, starts = [5, 9, 14, 3], [0, 5, 20, 34]
    generator = torch.Generator().manual_seed(0)
    documents = [torch.randint(4, 50, (1, length), generator=generator) for length in lengths]
    packed, mask = torch.full((2, 20), 3), torch.zeros(2, 20, dtype=torch.bool)
    for start, document in zip(starts, documents, strict=True):
        packed.view(-1)[start : start + document.shape[1]] = document[0]
        mask.view(-1)[start : start + document.shape[1]] = True
    bounds = torch.tensor([[a, a + n] for a, n in zip(starts, lengths, strict=True)] + [[0, 0]])
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        states = encoder.hidden_states(packed, mask, bounds=bounds).flatten(0, 1).float()
        for start, document in zip(starts, documents, strict=True):
            alone = encoder.hidden_states(document, torch.ones_like(document))[0].float()
            ours = states[start : start + len(alone)]
            assert (ours - alone).norm() < tolerance * alone.norm()
