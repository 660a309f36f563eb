"""`kl3m`: what commands there are, how they end, and that nothing heavy is imported for help."""

import errno
import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from kl3m_embeddings.commands import cli, describe, train
from kl3m_embeddings.errors import DataError

COMMANDS = (
    "train", "describe", "quickstart", "bench", "mteb", "svd", "corpus", "tokenizer", "task",
)  # fmt: skip


@pytest.fixture
def kl3m(monkeypatch, capsys):
    """A function that runs `kl3m`: its exit code, what it printed, and what it said."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["kl3m", *map(str, arguments)])
        with pytest.raises(SystemExit) as raised:
            cli.main()
        return raised.value.code, *capsys.readouterr()

    return run


def test_help_names_every_command(kl3m):
    code, printed, _ = kl3m("--help")
    assert code == 0
    for name in COMMANDS:
        assert f" {name} " in printed, name


def test_the_script_is_this_function():
    (script,) = entry_points(group="console_scripts", name="kl3m")
    assert script.value == "kl3m_embeddings.commands.cli:main"


def test_an_unknown_command_is_a_usage_error(kl3m):
    code, _, said = kl3m("trian")
    assert code == 2
    assert "No such command 'trian'" in said


PASSED_ON = """
import sys
from kl3m_embeddings.commands import cli, {name}
given = ["models/x", "--set", "seed=1", "--help", "--unknown"]
{name}.main = lambda arguments: 75 if list(arguments) == given else 1
sys.argv = ["kl3m", "{name}", *given]
cli.main()
"""


@pytest.mark.parametrize("name", ["train", "describe"])
def test_launchers_get_their_arguments_as_they_are_and_their_code_is_kl3ms(name):
    """In a process of its own: typer's context is not of the class that typer exports."""
    done = subprocess.run([sys.executable, "-c", PASSED_ON.format(name=name)], check=False)
    assert done.returncode == 75


def test_errors_are_one_line_and_debug_shows_the_trace_wherever_it_stands(
    kl3m, monkeypatch, tmp_path
):
    def fails(*_, **__):
        raise DataError("x: cannot be read")

    monkeypatch.setattr("kl3m_embeddings.local_tasks.folder.read_local_task", fails)
    assert kl3m("task", "show", tmp_path) == (65, "", "error: x: cannot be read\n")
    code, _, said = kl3m("task", "--debug", "show", tmp_path)
    assert code == 65
    assert said.startswith("Traceback")


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from kl3m_embeddings.commands import cli; sys.argv = ['kl3m', '--help']\n"
        "try: cli.main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'mteb', 'matplotlib', 'numpy', 'datasets'}\n"
        "print(sorted(heavy & sys.modules.keys()), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stderr.splitlines()[-1] == "[]"


def leaves(group, path=()):
    """The arguments that name each command, and the typer object that holds its function."""
    for one in group.registered_commands:
        yield (*path, one.name or one.callback.__name__.replace("_", "-")), one
    for one in group.registered_groups:
        yield from leaves(one.typer_instance, (*path, one.name))


LEAVES = dict(leaves(cli.app))
CAUSED = [
    (OSError(errno.ENOSPC, "No space left on device", "x/y"), 73, "x/y: cannot be written: No sp"),
    (OSError(errno.ENOENT, "No such file or directory", "x/y"), 73, "x/y: No such file"),
    (OSError(errno.EIO, "Input/output error", "x/y"), 75, "x/y: Input/output error; the disk"),
    (OSError(errno.EMFILE, "Too many open files", "x/y"), 75, "x/y: Too many open files; run less"),
    (MemoryError("Unable to allocate 8 EiB"), 75, "out of memory (Unable to allocate 8 EiB); "),
    (DataError("x/y:3: wrong"), 65, "x/y:3: wrong"),
]


def raising(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize("names", LEAVES, ids=" ".join)
def test_every_command_tells_what_the_machine_does_in_a_line(kl3m, monkeypatch, names):
    monkeypatch.setattr(LEAVES[names], "name", names[-1])  # else it is the function's
    for error, code, line in CAUSED:
        monkeypatch.setattr(LEAVES[names], "callback", raising(error))
        found, printed, said = kl3m(*names)
        assert (found, printed, said.count("\n")) == (code, "", 1)
        assert said.startswith(f"error: {line}")


@pytest.mark.parametrize(
    ("launcher", "inner"), [(train, "read_request"), (describe, "draw_one"), (describe, "score")]
)
def test_so_does_every_launcher(monkeypatch, capsys, launcher, inner):
    for error, code, line in CAUSED:
        monkeypatch.setattr(launcher, "draw_one", lambda _: None, raising=False)
        raises = raising(error)
        monkeypatch.setattr(launcher, inner, lambda *_, raises=raises, **__: raises())
        assert launcher.main(["x"]) == code
        assert capsys.readouterr().err.startswith(f"error: {line}")
