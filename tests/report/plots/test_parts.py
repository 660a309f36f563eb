"""Headlines and marks of the plots."""

from kl3m_embeddings.report.plots.parts import listed


def test_titles_list_what_they_have_room_for():
    assert listed("Now", ["a 1"]) == "Now: a 1"
    assert listed("Now", ["a 1", "b 2"]) == "Now: a 1, b 2"
    assert listed("Now", ["a" * 30, "b" * 30, "c"], 60) == f"Now: {'a' * 30} and 2 more"
    assert listed("Now", ["a" * 80, "b"], 60) == f"Now: {'a' * 80} and 1 more"
