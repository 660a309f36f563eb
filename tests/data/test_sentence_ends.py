import pytest

from kl3m_embeddings.data.sentence_ends import sentence_ends


@pytest.mark.parametrize(
    "sentences",
    [
        ["The court may review. ", "It did."],
        ["Is it so? ", "Yes! ", "“It is.” ", "(It was.) ", "End"],
        ["As J. Smith said in 12 U.S.C. 1841 and Sec. 4, it holds. ", "So it does."],
        ["He paid 4.50 and left... ", "She did not."],
        ["It was e.g. this and i.e. that. ", "No more"],
        ["Approx. 5 No. 7 of the Corp. Inc. are left. ", "Two."],
        ["A heading\n\n", "and its text"],
        ["One line. \n", "another line in lower case"],
        ["これは文です。", "次の文です。"],
        ["no end at all"],
    ],
)
def test_sentences_are_found(sentences):
    ends = sentence_ends("".join(sentences))
    begins = [0, *ends]
    text = "".join(sentences)
    found = [text[a:b] for a, b in zip(begins, [*ends, len(text)], strict=True)]
    assert [one for one in found if one] == sentences
