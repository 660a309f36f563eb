from kl3m_embeddings.encoder.folder.architecture import load_architecture
from kl3m_embeddings.speed import growth
from kl3m_embeddings.speed.sides import Work


def test_growth_holds_the_other_sizes(config_file):
    rows = list(growth.points(load_architecture(config_file), Work(batch_size=4, length=128)))
    assert {axis for axis, *_ in rows} == {"batch", "length", "layers", "vocabulary"}
    assert all(work.num_tokens == 512 for axis, _, work in rows if axis != "batch")
    assert [size for axis, size, _ in rows if axis == "vocabulary"] == [80, 160, 320, 640, 1280]
    assert len({(axis, size) for axis, size, _ in rows}) == len(rows)
