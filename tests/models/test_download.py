"""Downloads from a server in this process; no network."""

import errno
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sightline.models import download
from sightline.models.download import Item, fetch, file_url, get, get_all, plan
from sightline.models.weights import Weights, WeightsFile
from sightline.pipelines.published import BROUGHT
from sightline.pipelines.published import SETS as ALL
from sightline.scene.errors import InputError

DATA = bytes(range(256)) * 40_000  # 10 MB
SHA = hashlib.sha256(DATA).hexdigest()


class Hub:
    """A file server whose faults can be chosen; `asked` lists the Range headers of its answers."""

    def __init__(self):
        self.files = {"/owner/repo/resolve/main/w.safetensors": DATA}
        self.etag, self.ranges, self.lengths = '"1"', True, True
        self.cut = []  # bytes after which each of the next answers ends
        self.status = []  # of the next answers, before any file
        self.asked = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.answer(self)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.url = f"{self.address}/owner/repo/resolve/main/w.safetensors"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request):
        self.asked.append(request.headers.get("Range"))
        data = self.files.get(request.path)
        status = self.status.pop(0) if self.status else 200 if data is not None else 404
        if status != 200:
            request.send_error(status)
            return
        begin = 0
        wanted = request.headers.get("Range")
        same = request.headers.get("If-Range") in (None, self.etag)
        if wanted and self.ranges and same:
            begin = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if begin >= len(data):
                request.send_response(416)
                request.send_header("Content-Range", f"bytes */{len(data)}")
                request.end_headers()
                return
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            request.send_response(200)
        body = data[begin:]
        if self.lengths:
            request.send_header("Content-Length", str(len(body)))
        if self.etag:
            request.send_header("ETag", self.etag)
        request.end_headers()
        request.wfile.write(body[: self.cut.pop(0)] if self.cut else body)


@pytest.fixture
def hub(monkeypatch):
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield hub
    hub.server.shutdown()
    hub.server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "w.safetensors"


def only(target):
    assert [p.name for p in target.parent.iterdir()] == [target.name]
    return target.read_bytes()


def left(target):
    return sorted(p.name for p in target.parent.iterdir())


def test_a_whole_file_arrives_with_progress(hub, target):
    seen = []
    assert fetch(hub.url, target, len(DATA), SHA, lambda done, total: seen.append((done, total))) == target
    assert only(target) == DATA and seen[-1] == (len(DATA), len(DATA)) and seen == sorted(seen) and len(seen) > 3
    assert hub.asked == [None]


@pytest.mark.parametrize("size", [len(DATA), None])
def test_a_transfer_that_ends_early_goes_on_where_it_ended(hub, target, size):
    hub.cut = [3_000_000, 2_000_000]
    fetch(hub.url, target, size, SHA)
    assert only(target) == DATA
    assert hub.asked == [None, "bytes=3000000-", "bytes=5000000-"]


def test_the_next_call_continues(hub, target):
    def stop(done, total):
        if done > 4_000_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(hub.url, target, len(DATA), SHA, stop)
    assert left(target) == ["w.safetensors.part", "w.safetensors.part.etag"]
    have = (target.parent / "w.safetensors.part").stat().st_size
    assert 4_000_000 < have < len(DATA)
    fetch(hub.url, target, len(DATA), SHA)
    assert only(target) == DATA and hub.asked[1] == f"bytes={have}-"


def test_a_part_of_another_version_is_not_continued(hub, target):
    hub.cut = [1_000_000, 0, 0, 0]
    with pytest.raises(InputError, match="broke off after 1000000 of .* continues it"):
        fetch(hub.url, target, None)
    hub.files[next(iter(hub.files))] = new = DATA[::-1]
    hub.etag = '"2"'
    fetch(hub.url, target, None)
    assert only(target) == new


def test_a_server_without_ranges_sends_all_again(hub, target):
    hub.ranges, hub.cut = False, [2_000_000]
    fetch(hub.url, target, len(DATA), SHA)
    assert only(target) == DATA and len(hub.asked) == 2


def test_a_server_that_does_not_say_how_long(hub, target):
    hub.lengths = False
    fetch(hub.url, target, None, SHA)
    assert only(target) == DATA
    os.remove(target)
    hub.cut = [500, 700]
    fetch(hub.url, target, len(DATA), SHA)
    assert only(target) == DATA


def test_a_part_that_is_whole_already(hub, target):
    part = target.with_name(target.name + ".part")
    part.write_bytes(DATA)
    fetch(hub.url, target, None, SHA)
    assert only(target) == DATA and hub.asked == [f"bytes={len(DATA)}-"]
    os.remove(target)
    part.write_bytes(DATA)
    fetch(hub.url, target, len(DATA), SHA)
    assert only(target) == DATA and len(hub.asked) == 1
    os.remove(target)
    part.write_bytes(DATA + b"more")
    fetch(hub.url, target, None, SHA)
    assert only(target) == DATA


@pytest.mark.parametrize(
    ("size", "sha", "says"),
    [
        (len(DATA), "0" * 16, "another checksum"),
        (len(DATA) - 1, None, "10240000 bytes instead of 10239999"),
        (len(DATA) + 1, None, "10240000 bytes instead of 10240001|broke off"),
    ],
)
def test_another_file_is_not_kept(hub, target, size, sha, says):
    with pytest.raises(InputError, match=says):
        fetch(hub.url, target, size, sha)
    assert not target.exists()
    fetch(hub.url, target, len(DATA), SHA[:16])  # and does not stand in the way
    assert only(target) == DATA


def test_a_login_page_is_no_configuration(hub, tmp_path):
    hub.files["/c.json"] = b"<html>"
    with pytest.raises(InputError, match="something else than the JSON"):
        fetch(hub.address + "/c.json", tmp_path / "c.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("code", "says"), [(404, "does not exist"), (401, "login"), (403, "login"), (429, "refused")])
def test_refusals(hub, target, code, says):
    hub.status = [code]
    with pytest.raises(InputError, match=says):
        fetch(hub.url, target, len(DATA))
    assert left(target) == []


def test_a_server_in_trouble_is_asked_again(hub, target):
    hub.status = [503, 502]
    fetch(hub.url, target, len(DATA), SHA)
    assert only(target) == DATA
    os.remove(target)
    hub.status = [503] * 3
    with pytest.raises(InputError, match="cannot be reached .*503"):
        fetch(hub.url, target, len(DATA), SHA)


def test_no_server(hub, target, monkeypatch):
    hub.server.shutdown()
    hub.server.server_close()
    with pytest.raises(InputError, match="cannot be reached .*HF_ENDPOINT"):
        fetch(hub.url, target, len(DATA))
    assert left(target) == []


def test_room_is_looked_for_before_anything_is_written(hub, target, monkeypatch):
    usage = type("Usage", (), {"free": len(DATA)})()
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="0.01 GB free, but 0.01 GB are still to come"):
        fetch(hub.url, target, len(DATA))
    assert left(target) == []


def test_a_disk_that_fills_up_keeps_what_came(hub, target, monkeypatch):
    real = open

    def full(path, mode="r", *args, **kwargs):
        stream = real(path, mode, *args, **kwargs)
        if str(path).endswith(".part") and "b" in mode and mode != "rb":
            write = stream.write

            class Limited:
                def __getattr__(self, name):
                    return getattr(stream, name)

                def __enter__(self):
                    return self

                def __exit__(self, *exc):
                    stream.close()

                def write(self, data):
                    if stream.tell() > 3_000_000:
                        raise OSError(errno.ENOSPC, "No space left on device", str(path))
                    return write(data)

            return Limited()
        return stream

    monkeypatch.setattr("builtins.open", full)
    item = Item(WeightsFile("w.safetensors", len(DATA), SHA), hub.url, target, None)
    with pytest.raises(InputError, match="The disk is full .* to continue"):
        get(item)
    monkeypatch.setattr("builtins.open", real)
    assert 3_000_000 < (target.parent / "w.safetensors.part").stat().st_size < len(DATA)
    get(item)
    assert only(target) == DATA and hub.asked[1].startswith("bytes=")


def sets(**file):
    return Weights("w", "W", "here", "MIT", (WeightsFile("w.safetensors", repo="owner/repo", **file),), "tests")


def test_the_plan(hub, tmp_path):
    [item] = plan([sets(bytes=len(DATA), sha256=SHA)] * 2, tmp_path / "to")
    assert item.url == hub.url and item.found is None
    assert item.target == tmp_path.resolve() / "to" / "owner" / "repo" / "w.safetensors"
    get(item)
    [item] = plan([sets(bytes=len(DATA), sha256=SHA)], tmp_path / "to")
    assert item.found == item.target and get(item).read_bytes() == DATA and len(hub.asked) == 1


@pytest.mark.parametrize("way", ["link", "symlink", "copyfile"])
def test_files_in_other_folders_are_used_instead(hub, tmp_path, monkeypatch, way):
    (tmp_path / "models" / "deep").mkdir(parents=True)
    (tmp_path / "models" / "w.safetensors").write_bytes(DATA[:-1])
    there = tmp_path / "models" / "deep" / "w.safetensors"
    there.write_bytes(DATA)

    def refuse(*args):
        raise OSError(errno.EXDEV, "not here")

    for name in {"link": (), "symlink": ("link",), "copyfile": ("link", "symlink")}[way]:
        monkeypatch.setattr(download.os, name, refuse)
    [item] = plan([sets(bytes=len(DATA), sha256=SHA)], tmp_path / "to", [tmp_path / "models"])
    assert item.found == there
    assert get(item).read_bytes() == DATA and hub.asked == []
    assert item.target.is_symlink() == (way == "symlink")


def test_files_that_only_look_alike_are_not_used(hub, tmp_path):
    (tmp_path / "w.safetensors").write_bytes(DATA[::-1])
    for file in ({"bytes": len(DATA), "sha256": SHA}, {"bytes": 5}, {}):
        [item] = plan([sets(**file)], tmp_path / "to", [tmp_path])
        assert item.found is None


def test_the_endpoint_is_a_web_address(monkeypatch):
    file = WeightsFile("a.json", repo="o/r")
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert file_url(file) == "https://huggingface.co/o/r/resolve/main/a.json"
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert file_url(file) == "https://mirror.example/o/r/resolve/main/a.json"
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    with pytest.raises(InputError, match="no web address"):
        file_url(file)


@pytest.mark.parametrize("one", ALL, ids=lambda one: one.name)
def test_the_registry(one, tmp_path):
    names = {other.name for other in (*ALL, *BROUGHT)}
    assert set(one.needs) <= names and one.licence and one.domain
    items = plan([one], tmp_path)
    assert len(items) == len(one.files)  # no name twice
    for item in items:
        file = item.file
        assert item.url.startswith("https://") and item.url.endswith(file.name)
        assert file.sha256 is None or (len(file.sha256) == 64 and int(file.sha256, 16))
        if file.name.endswith(".safetensors") and len(one.files) > 1:  # each with its configuration
            stem = file.name.removesuffix(".safetensors")
            assert {f"{stem}.json", "config.json"} & {other.name for other in one.files}


def test_sizes_agree_with_the_parameters_of_the_networks():
    sizes = {f.name: f.bytes for one in ALL if one.name == "pixal3d" for f in one.files}
    header = 100_000  # at most
    for name, parameters in (("ss_flow_img_dit_1_3B_64", 1_339_400_000), ("imgshape2tex_dit_1_3B_1024", 1_386_720_000)):
        [size] = [s for n, s in sizes.items() if name in n and s]
        extra = 2_097_152 if name.startswith("ss") else 0  # the rope phases
        assert abs(size - extra - 4 * parameters) < header + 4e5  # the count is rounded


def two_sets():
    other = DATA[:3000]
    big = WeightsFile("w.safetensors", len(DATA), SHA, repo="owner/repo")
    small = WeightsFile("eye.safetensors", len(other), hashlib.sha256(other).hexdigest(), repo="owner/eye")
    sets = [
        Weights("model", "A model", "its page", "Licence A", (big,), "pictures"),
        Weights("eye", "An eye", "another page", "Licence B", (small,), "pictures"),
    ]
    return sets, other


def test_nothing_is_fetched_before_the_licences_are_accepted(hub, tmp_path):
    sets, _ = two_sets()
    with pytest.raises(InputError, match=r"10\.2 MB in 2 files .*model: Licence A, its page; eye: Licence B"):
        get_all(sets, tmp_path / "to", False)
    assert hub.asked == [] and not (tmp_path / "to").exists()


def test_only_what_is_missing_is_asked_for_and_progress_runs_over_all(hub, tmp_path):
    sets, other = two_sets()
    hub.files["/owner/eye/resolve/main/eye.safetensors"] = other
    seen = []
    items, fetched = get_all(sets, tmp_path, True, progress=lambda done, total: seen.append((done, total)))
    assert fetched == len(items) == 2 and all(item.target.is_file() for item in items)
    assert seen == sorted(seen) and seen[-1] == (len(DATA) + len(other),) * 2
    os.remove(items[1].target)
    with pytest.raises(InputError) as told:
        get_all(sets, tmp_path, False)
    assert "Licence B" in str(told.value) and "Licence A" not in str(told.value)
    os.makedirs(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "eye.safetensors").write_bytes(other)
    hub.asked.clear()
    items, fetched = get_all(sets, tmp_path / "to", False, [tmp_path])
    assert fetched == 0 and hub.asked == [] and items[1].target.read_bytes() == other
