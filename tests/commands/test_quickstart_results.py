import json
import re

import pytest

from kl3m_embeddings.commands.quickstart_results import print_masked_tokens
from kl3m_embeddings.commands.train import main
from kl3m_embeddings.errors import DamagedError


def test_the_table_shows_both_ends_of_the_run_and_what_frequency_alone_achieves(
    make_model_folder, capsys
):
    folder = make_model_folder()
    assert main([str(folder), "--quiet"]) == 0
    capsys.readouterr()
    print_masked_tokens(folder)
    lines = [line for line in capsys.readouterr().out.splitlines() if "%" in line]
    cells = [re.split(r"\s{2,}", line.strip()) for line in lines]
    rows = [json.loads(line) for line in (folder / "eval.jsonl").read_text().splitlines()]
    first, last = rows[0], rows[-1]
    assert (first["step"], last["step"]) == (0, 12)
    before, frequency, after = cells
    for row, cell in ((first, before), (last, after)):
        assert f"(step {row['step']})" in cell[0]
        assert cell[1:] == [f"{row['mean']:.2f}", f"{row['accuracy']:.1%}"]
    assert frequency[0] == "token frequency alone"
    # of 300 ids, few of which the text has
    assert 1 < float(frequency[1]) < first["mean"] == pytest.approx(5.77, abs=0.1)


@pytest.mark.parametrize("row", [None, "{}", '{"step": 0, "mean": "x", "accuracy": 1}', "{"])
def test_evaluations_that_cannot_be_read_are_told(make_model_folder, row):
    folder = make_model_folder(num_eval_samples=4)
    assert main([str(folder), "--quiet", "--stop-after", "1"]) == 0
    (folder / "eval.jsonl").write_text("" if row is None else f"{row}\n")
    with pytest.raises(DamagedError, match=r"eval\.jsonl.*: "):
        print_masked_tokens(folder)
