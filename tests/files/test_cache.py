from kl3m_embeddings.files.cache import cache_folder


def test_the_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("KL3M_CACHE", str(tmp_path))
    assert cache_folder("pairs") == tmp_path / "pairs"
    monkeypatch.delenv("KL3M_CACHE")
    assert cache_folder("pairs").as_posix() == ".cache/pairs"
