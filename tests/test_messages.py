import pytest

from kl3m_embeddings.messages import say, warn


@pytest.mark.parametrize(("rank", "is_heard"), [(None, True), ("0", True), ("1", False)])
def test_the_first_rank_speaks_for_all_on_standard_error(monkeypatch, capsys, rank, is_heard):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    say("a step")
    warn("a slow step")
    expected = "a step\nwarning: a slow step\n" if is_heard else ""
    assert capsys.readouterr() == ("", expected)
