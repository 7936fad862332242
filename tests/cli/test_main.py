import subprocess
import sys
import types

import pytest

from sightline.cli import main as module
from sightline.scene.errors import InputError, Interrupted, MissingDependency


@pytest.fixture
def command(monkeypatch):
    """A command `try` whose run is given by the test."""

    def register(run):
        fake = types.ModuleType("sightline.cli.fake")
        fake.add_parser = lambda subparsers: subparsers.add_parser("try").set_defaults(run=run)
        monkeypatch.setitem(sys.modules, "sightline.cli.fake", fake)
        monkeypatch.setattr(module, "COMMANDS", ("fake",))

    return register


def raising(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (InputError("The picture\n  is empty."), 2, "The picture is empty.\n"),
        (MissingDependency("It needs a package."), 2, "It needs a package.\n"),
        (FileNotFoundError(2, "No such file or directory", "a.png"), 2, "a.png: No such file or directory.\n"),
        (KeyboardInterrupt(), 130, "Stopped; nothing was written.\n"),
        (Interrupted(), 130, "Stopped; nothing was written.\n"),
    ],
)
def test_errors_become_a_sentence_and_a_code(command, run, error, code, says):
    command(raising(error))
    assert run("try") == (code, "", says)


def test_our_own_mistakes_keep_their_traceback(command, run):
    command(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        run("try")


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1)])
def test_results_become_exit_codes(command, run, result, code):
    command(lambda args: result)
    assert run("try")[0] == code


def test_a_wrong_command_line_is_one_line(run):
    for arguments in (
        ["nonsense"],
        ["selfcheck", "--nonsense"],
        ["sparsegen"],
        ["sparsegen", "a.png", "-o", "b.ply", "--steps", "x"],
    ):
        code, out, err = run(*arguments)
        assert code == 2 and out == "" and err.count("\n") == 1 and "--help" in err


def test_no_command_shows_the_help(run):
    code, out, _ = run()
    assert code == 2
    for name in module.COMMANDS:
        assert name in out


def test_every_command_explains_itself(run):
    for name in module.COMMANDS:
        code, out, err = run(name, "--help")
        assert code == 0 and err == "" and "usage:" in out and len(out.splitlines()) > 5


def test_help_needs_no_torch():
    """Registering the commands imports nothing heavy, so --help answers at once."""
    program = (
        "import sys; from sightline.cli.main import build_parser; build_parser(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_python_dash_m():
    done = subprocess.run([sys.executable, "-m", "sightline", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "sparsegen" in done.stdout
