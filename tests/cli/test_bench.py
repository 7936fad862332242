"""The bench runner, with made-up operations (nothing here asserts a time)."""

import io
import json
from dataclasses import replace

import pytest
import torch

from sightline.cli import bench
from sightline.cli.bench import Contender, Missing, Op, opponents, runner
from sightline.cli.bench.clock import StageClock
from sightline.scene.errors import InputError


def adder(offset):
    def prepare(case):
        base = torch.arange(case["count"], dtype=torch.float32)
        return lambda: {"sum": base + offset, "own": torch.zeros(int(offset) + 1)}

    return prepare


def absent(case):
    raise Missing("a library is not installed; pip install it")


def failing(case):
    def run():
        raise RuntimeError("out of something")

    return run


def staged(case):
    def run():
        clock = StageClock(case["device"])
        with clock.stage("first"):
            total = torch.arange(case["count"]).float()
        with clock.stage("second"):
            pass
        return {"stages": clock.found, "sum": total}

    return run


FAKE = Op(
    "fake",
    "adds numbers",
    {"S": dict(count=4), "M": dict(count=8)},
    (
        Contender("ours", adder(0)),
        Contender("theirs", adder(0.5), note="adds a half"),
        Contender("absent", absent),
        Contender("small only", adder(0), sizes=("S",)),
    ),
)


class InProcess:
    """A worker without a process: what `work` would print is answered at once."""

    def __init__(self, op, size, contender, threads, device, folder):
        self.output = f"{folder}/{contender}.safetensors"
        self.task = dict(op=op.name, size=size, contender=contender, threads=threads, device=device, output=self.output)
        self.op, self.words, self.first = op, "", 0

    def answer(self):
        return self.ask("")

    def ask(self, word):
        self.words += word + "\n"
        with pytest.MonkeyPatch.context() as patch:
            out = io.StringIO()
            patch.setattr("sys.stdin", io.StringIO(self.words))
            patch.setattr("sys.stdout", out)
            runner.work(self.task, self.op)
        found = json.loads(out.getvalue().splitlines()[-1 if word else 0])
        if "missing" in found:
            raise Missing(found["missing"])
        return found

    def close(self):
        pass


def test_a_table(monkeypatch):
    monkeypatch.setattr(runner, "Worker", InProcess)
    table = runner.time_op(FAKE, "M", threads=1, rounds=3)
    ours, theirs, gone, small = table["contenders"]
    assert table["op"] == "fake" and table["case"] == {"count": 8} and table["threads"] == 1
    assert ours["runs"] == theirs["runs"] == 3 and "ratio" not in ours
    assert theirs["ratio"] == pytest.approx(theirs["wall_median"] / ours["wall_median"])
    assert theirs["ratio_cpu"] == pytest.approx(theirs["cpu_median"] / ours["cpu_median"])
    assert theirs["difference"] == {"sum": 0.5, "own": 0.0}
    assert (
        gone["missing"] == "a library is not installed; pip install it" and small["missing"] == "left out at this size"
    )
    json.dumps(table)
    text = bench.as_text(FAKE, table)
    assert "adds a half" in text and "sum 5.0e-01" in text and "pip install it" in text


def test_stages_have_seconds_of_their_own(monkeypatch):
    monkeypatch.setattr(runner, "Worker", InProcess)
    op = replace(FAKE, contenders=(Contender("ours", staged), Contender("theirs", adder(0))))
    ours, theirs = runner.time_op(op, "S", rounds=3)["contenders"]
    assert list(ours["stages"]) == ["first", "second"] and theirs["stages"] == {}
    assert 0 <= sum(one["wall_median"] for one in ours["stages"].values()) <= 2 * ours["wall_median"]
    assert ours["cuda_peak"] is None and theirs["difference"] == {"sum": 0.0}
    text = bench.as_text(op, {**runner.time_op(op, "S", rounds=1), "device": "cpu"})
    assert "first: " in text and "second: " in text


def test_slow_ones_run_once(monkeypatch):
    monkeypatch.setattr(runner, "Worker", InProcess)
    monkeypatch.setattr(runner, "SLOW", -1.0)
    table = runner.time_op(FAKE, "S", rounds=5)
    assert [c["runs"] for c in table["contenders"] if "runs" in c] == [1, 1, 1]


def test_nothing_to_compare_with(monkeypatch):
    monkeypatch.setattr(runner, "Worker", InProcess)
    table = runner.time_op(replace(FAKE, contenders=(Contender("ours", absent), Contender("theirs", adder(0)))), "S")
    assert "missing" in table["contenders"][0] and "ratio" not in table["contenders"][1]


def test_a_real_worker():
    """One of the shipped operations, in its own process."""
    op = bench.operations()["splat"]
    table = runner.time_op(replace(op, contenders=op.contenders[:1]), "S", rounds=2)
    (ours,) = table["contenders"]
    assert ours["runs"] == 2 and ours["wall_min"] <= ours["wall_median"]
    assert ours["peak_rss"] is None or ours["peak_rss"] > ours["growth"] >= 0


def test_a_worker_that_fails_says_why():
    op = replace(bench.operations()["splat"], contenders=(Contender("nobody", failing),))
    (entry,) = runner.time_op(op, "S", rounds=1)["contenders"]
    assert entry["missing"]


def test_shipped_operations():
    known = bench.operations()
    assert {"splat", "splat_train"} <= set(known)
    for op in known.values():
        assert set(op.sizes) <= set(bench.SIZES) and len({c.name for c in op.contenders}) == len(op.contenders)


def test_splat_contenders_agree():
    """What claims to compute the same does, on a small case; and core's camera is ours (the pictures overlap)."""
    from sightline.cli.bench import splat

    case = dict(count=300, side=48, device="cpu")
    ours, dense = splat._picture("tiled")(case)(), splat._picture("dense")(case)()
    for key in ours:
        torch.testing.assert_close(ours[key], dense[key], atol=2e-5, rtol=0)
    case = dict(scenes=2, views=2, count=40, side=24, sigma=2.0, device="cpu")
    ours, dense = splat._step("tiled")(case)(), splat._step("dense")(case)()
    for key in ours:
        torch.testing.assert_close(ours[key], dense[key], atol=1e-4, rtol=0)


def test_no_comfyui(monkeypatch, tmp_path):
    monkeypatch.setattr(opponents, "find_comfyui", lambda: None)
    with pytest.raises(Missing, match="COMFYUI_PATH"):
        opponents.comfyui("comfy_extras.nodes_gaussian_splat")
    assert opponents.comfyui_name("RenderSplat") == "RenderSplat"
    with pytest.raises(Missing, match="pip install a-library"):
        opponents.library("a_library_that_is_not_there", "a-library")


def test_bad_requests():
    with pytest.raises(InputError, match="no size L"):
        runner.time_op(FAKE, "L")
    with pytest.raises(InputError, match="0 threads"):
        runner.time_op(FAKE, "S", threads=0)


def test_the_command(run):
    code, out, _ = run("bench", "--list")
    assert code == 0 and "splat_train" in out
    code, out, err = run("bench", "nothing")
    assert code == 2 and "no operation 'nothing'" in err and out == ""
    code, out, _ = run("bench", "splat", "--list", "--json")
    assert code == 0 and json.loads(out)[0]["op"] == "splat"
