import sys

import pytest

from sightline.cli.progress import Progress


@pytest.mark.parametrize("with_tqdm", [True, False])
def test_progress_goes_to_stderr_and_counts(capsys, monkeypatch, with_tqdm):
    if not with_tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    else:
        pytest.importorskip("tqdm", reason="tqdm is not installed")
    with Progress("sampling", shown=True) as progress:
        for i in range(3):
            progress(i + 1, 3)
    captured = capsys.readouterr()
    assert captured.out == "" and "sampling" in captured.err and "3" in captured.err


def test_progress_is_silent_where_nobody_looks(capsys):
    with Progress("sampling") as progress:
        progress(1, 1)
    assert capsys.readouterr() == ("", "")
