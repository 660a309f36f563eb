import io

from rich.console import Console

from kl3m_embeddings.commands.plain_table import plain_table


def shown(table, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue().splitlines()


def test_names_fold_numbers_stay_whole_and_gaps_are_as_wide_as_asked():
    for gap in (1, 3):
        table = plain_table("Scores", "model", gap)
        table.add_column("score", no_wrap=True)
        table.add_row("a-model-with-a-name-longer-than-its-column", "0.1234")
        lines = shown(table, 24)
        assert lines[0].strip() == "Scores"
        assert max(map(len, lines)) <= 24
        rule = next(number for number, line in enumerate(lines) if "──" in line)
        cells = [line[: 24 - 6 - gap].strip() for line in lines[rule + 1 :]]
        assert "".join(cells) == "a-model-with-a-name-longer-than-its-column"
        assert lines[rule + 1].rstrip().endswith(" " * gap + "0.1234")
