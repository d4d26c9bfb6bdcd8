"""Fetching, against servers on 127.0.0.1 that behave and that do not."""

import errno
import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from palpate import weights
from palpate.errors import CohortError, ModelError, OutputError, PalpateWarning, SettingsError
from palpate.weights import Asset, Hub, Official, http
from publisher import COMMIT, Publisher, publishing

CONTENT = np.random.default_rng(0).bytes(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
TENSORS = save({"vision_encoder.x": np.arange(5000, dtype=np.float32)})


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything in a temporary home, and no waiting between attempts."""
    monkeypatch.setenv("PALPATE_HOME", str(tmp_path))
    monkeypatch.setattr(http, "PAUSE", 0.0)
    return tmp_path


@pytest.fixture
def server() -> Iterator[Publisher]:
    with publishing(files={"/sam/sam.pth": CONTENT}) as publisher:
        yield publisher


def official(server: Publisher, **known: Any) -> Asset:
    right: dict[str, Any] = {"bytes": len(CONTENT), "sha256": DIGEST}
    return Asset("sam", "weights", (Official(f"{server.url}/sam/sam.pth", **right | known),), "none", "a test")


def on_hub(server: Publisher, **known: Any) -> Asset:
    return Asset("sam", "weights", (Hub("meta/sam", endpoint=server.url, **known),), "none", "a test")


def parts(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob("*") if ".part" in p.name)


def test_the_table_holds_what_the_specification_publishes() -> None:
    assert list(weights.ASSETS) == [
        "sam_vit_b", "sam_vit_l", "sam_vit_h", "medsam", "dinov2_vits14", "dinov2_vitb14", "dinov2_vitl14",
        "hippocampus",
    ]  # fmt: skip
    base = weights.find("sam_vit_b").sources[1]
    assert (base.file, base.bytes) == ("sam_vit_b_01ec64.pth", 375_042_383)
    hashed = [s.sha256 for a in weights.ASSETS.values() for s in a.sources if s.sha256]
    assert len(set(hashed)) == 6
    assert all(len(h) == 64 for h in hashed)
    assert [a.sources[0].kind for a in weights.ASSETS.values()] == ["hub"] * 7 + ["official"]
    with pytest.raises(ModelError, match="nothing called 'sam' to fetch; there are sam_vit_b, sam_vit_l"):
        weights.fetch("sam")


def test_home(monkeypatch: pytest.MonkeyPatch, here: Path) -> None:
    assert weights.home() == here
    monkeypatch.setenv("PALPATE_HOME", "~/scans")
    assert weights.home() == Path.home() / "scans"
    monkeypatch.delenv("PALPATE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(here))
    if sys.platform == "linux":
        assert weights.home() == here / "palpate"


def test_a_whole_download(server: Publisher, here: Path) -> None:
    reported: list[tuple[int, int | None]] = []
    assert weights.cached(official(server)) is None
    found = weights.fetch(official(server), progress=lambda *n: reported.append(n))
    assert found.path == here / "weights" / "sam" / "sam.pth" == weights.cached(official(server))
    assert found.path.read_bytes() == CONTENT
    assert (found.verified, found.source, found.sha256, found.bytes) == (True, "official", DIGEST, len(CONTENT))
    assert reported[0] == (0, len(CONTENT))
    assert reported[-1] == (len(CONTENT), len(CONTENT))
    assert parts(here) == []
    asked = len(server.asked)
    assert weights.fetch(official(server)) == found
    assert len(server.asked) == asked


def test_no_published_hash_is_reported(server: Publisher) -> None:
    found = weights.fetch(official(server, bytes=None, sha256=None))
    assert (found.verified, found.sha256) == (False, DIGEST)


def test_another_folder(server: Publisher, here: Path) -> None:
    found = weights.fetch(official(server), folder=here / "elsewhere")
    assert found.path == here / "elsewhere" / "weights" / "sam" / "sam.pth"
    assert weights.cached(official(server)) is None
    assert weights.cached(official(server), folder=here / "elsewhere") == found.path


def test_a_dropped_connection_goes_on_where_it_was(server: Publisher) -> None:
    server.cut_after, server.cuts = 1_000_000, 2
    assert weights.fetch(official(server)).verified
    assert [r for _, _, r in server.asked] == [None, "bytes=1000000-", "bytes=2000000-"]


@pytest.mark.parametrize("length", [True, False])
def test_a_later_call_goes_on_where_an_earlier_one_stopped(server: Publisher, here: Path, length: bool) -> None:
    server.length = length  # without one, the end of the connection is the end of the file, so only the hash can tell
    server.cut_after, server.cuts = 1_000_000, 1
    if not length:
        with pytest.raises(ModelError, match="1,000,000 bytes came where 3,000,000 are published; they were deleted"):
            weights.fetch(official(server))
        assert parts(here) == []
        return
    server.busy = 0
    kept = interrupted(server)
    assert parts(here) == ["sam.pth.part", "sam.pth.part.version"]
    assert not (here / "weights" / "sam" / "sam.pth").exists()
    assert "1,000,000 bytes are here" in kept
    server.asked.clear()
    assert weights.fetch(official(server)).verified
    assert [r for _, _, r in server.asked] == ["bytes=1000000-"]


def interrupted(server: Publisher) -> str:
    """Get the first million bytes, and then only excuses."""
    server.cut_after, server.cuts = 1_000_000, 1

    def fall_ill(here: int, total: int | None) -> None:
        if here == 1_000_000:
            server.busy = http.MAX_ATTEMPTS

    with pytest.raises(ModelError, match="503") as raised:
        weights.fetch(official(server), progress=fall_ill)
    server.busy = 0
    return str(raised.value)


@pytest.mark.parametrize(
    ("change", "asked"),
    [
        ({"etag": '"two"'}, ["bytes=1000000-"]),  # the file changed: the whole new one comes
        ({"ranges": False}, ["bytes=1000000-"]),  # no ranges known: the whole comes
    ],
)
def test_a_changed_file_or_a_plain_server_starts_anew(
    server: Publisher, change: dict[str, Any], asked: list[str]
) -> None:
    interrupted(server)
    for name, value in change.items():
        setattr(server, name, value)
    content = CONTENT[::-1]
    server.files["/sam/sam.pth"] = content
    server.asked.clear()
    found = weights.fetch(official(server, sha256=hashlib.sha256(content).hexdigest()))
    assert found.path.read_bytes() == content
    assert [r for _, _, r in server.asked] == asked


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_strong_version_nothing_is_resumed(server: Publisher, etag: str) -> None:
    server.etag = etag
    server.cut_after, server.cuts = 1_000_000, 1
    assert weights.fetch(official(server)).verified
    assert [r for _, _, r in server.asked] == [None, None]


def test_a_finished_part_is_only_checked(server: Publisher, here: Path) -> None:
    weights.fetch(official(server))
    place = here / "weights" / "sam" / "sam.pth"
    place.rename(place.with_name("sam.pth.part"))
    place.with_name("sam.pth.part.version").write_text(server.etag)
    assert weights.fetch(official(server)).verified
    assert server.asked[-1][2] == "bytes=3000000-"


def test_too_long_a_part_starts_anew(server: Publisher, here: Path) -> None:
    folder = here / "weights" / "sam"
    folder.mkdir(parents=True)
    (folder / "sam.pth.part").write_bytes(CONTENT + b"more")
    (folder / "sam.pth.part.version").write_text(server.etag)
    assert weights.fetch(official(server)).verified
    assert [r for _, _, r in server.asked] == ["bytes=3000004-", None]


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"sha256": "0" * 64}, rf"SHA-256 {DIGEST} came where 0{{64}} is published; the file was deleted"),
        ({"bytes": 7}, "3,000,000 bytes where 7 are published; nothing was saved"),
    ],
)
def test_a_wrong_file_is_deleted(server: Publisher, here: Path, known: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        weights.fetch(official(server, **known))
    assert [p.name for p in (here / "weights" / "sam").iterdir() if p.name != ".lock"] == []


@pytest.mark.parametrize("status", [404, 403, 503])
def test_refusals_say_what_to_put_where(server: Publisher, here: Path, status: int) -> None:
    server.status = status
    with pytest.raises(ModelError, match=f"HTTP {status}") as raised:
        weights.fetch(official(server))
    for part in (f"{server.url}/sam/sam.pth (3,000,000 bytes, SHA-256 {DIGEST})", str(here / "weights/sam/sam.pth")):
        assert part in str(raised.value)
    assert "`palpate fetch sam` checks it" in str(raised.value)
    assert len(server.asked) == (http.MAX_ATTEMPTS if status == 503 else 1)


def test_no_answer_is_an_error_at_once(server: Publisher, here: Path) -> None:
    dead = replace(official(server), sources=(Official("http://127.0.0.1:9/x/sam.pth"),))
    with pytest.raises(ModelError, match="no answer") as raised:
        weights.fetch(dead, folder=here / "usb")
    assert f"put it here as {here}/usb/weights/sam/sam.pth; then `palpate fetch sam --folder {here}/usb`" in str(
        raised.value
    )


def test_a_file_put_there_by_hand(server: Publisher, here: Path) -> None:
    place = here / "weights" / "sam" / "sam.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    found = weights.fetch(official(server))
    assert (found.verified, found.source, server.asked) == (True, "by hand", [])
    place.write_bytes(b"x" + CONTENT[1:])  # changed since: the noted hash no longer counts
    with pytest.raises(ModelError, match=r"is published; delete it and run `palpate fetch sam`"):
        weights.fetch(official(server))
    place.write_bytes(CONTENT[:-1])
    with pytest.raises(ModelError, match="2,999,999 bytes where 3,000,000 are published"):
        weights.cached(official(server))
    assert place.exists()  # the user's own file


def test_the_hash_is_computed_once(server: Publisher, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = weights.fetch(official(server))
    monkeypatch.setattr("palpate.weights.store.file_sha256", lambda path: pytest.fail("hashed again"))
    assert weights.fetch(official(server)) == found
    found.path.with_name("sam.pth.json").write_text("[]")
    monkeypatch.undo()
    monkeypatch.setenv("PALPATE_HOME", str(here))
    assert weights.fetch(official(server)) == replace(found, source="by hand")


def test_a_full_disk(server: Publisher, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
        with pytest.raises(OutputError, match="3,000,000 bytes are needed and 1,000 are free"):
            weights.fetch(official(server))

    def full(self: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match="No space left on device"):
            weights.fetch(official(server))
    assert not (here / "weights" / "sam" / "sam.pth").exists()


def test_a_folder_that_cannot_be_made(server: Publisher, here: Path) -> None:
    (here / "weights").write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        weights.fetch(official(server))


def test_two_at_once_download_once(server: Publisher) -> None:
    found: list[bool] = []
    pair = [threading.Thread(target=lambda: found.append(weights.fetch(official(server)).verified)) for _ in "ab"]
    for thread in pair:
        thread.start()
    for thread in pair:
        thread.join()
    assert found == [True, True]
    assert len(server.asked) == 1


@pytest.fixture
def the_hub() -> Iterator[Publisher]:
    files = {f"/meta/sam/resolve/{revision}/model.safetensors": TENSORS for revision in ("main", COMMIT)}
    etag = f'"{hashlib.sha256(TENSORS).hexdigest()}"'
    with publishing(files=files, etag=etag, hub=True) as publisher:
        yield publisher


def test_the_hub(the_hub: Publisher, here: Path) -> None:
    reported: list[tuple[int, int | None]] = []
    found = weights.fetch(on_hub(the_hub), progress=lambda *n: reported.append(n))
    assert found.path == here / "weights" / "sam" / "model.safetensors"
    assert found.path.read_bytes() == TENSORS
    assert (found.verified, found.source, found.bytes) == (False, "hub", len(TENSORS))
    assert reported[-1] == (len(TENSORS), len(TENSORS))
    assert sorted(p.name for p in found.path.parent.iterdir()) == [
        ".lock",
        "model.safetensors",
        "model.safetensors.json",
    ]
    asked = len(the_hub.asked)
    assert weights.fetch(on_hub(the_hub)) == found
    assert len(the_hub.asked) == asked


def test_the_hub_resumes(the_hub: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    the_hub.cut_after, the_hub.cuts = 10_000, 1
    assert weights.fetch(on_hub(the_hub)).path.read_bytes() == TENSORS
    assert "bytes=10000-" in [r for _, _, r in the_hub.asked]


@pytest.mark.parametrize("resets", [2, 3])
def test_the_hubs_connection_is_reset(the_hub: Publisher, monkeypatch: pytest.MonkeyPatch, resets: int) -> None:
    import huggingface_hub

    class ResetError(Exception):  # as httpx raises it: of no kind that Python knows
        pass

    def unsteady(*args: Any, really: Any = huggingface_hub.hf_hub_download, **kwargs: Any) -> Any:
        left.pop()
        if left:
            raise ResetError("connection reset")
        return really(*args, **kwargs)

    left = [0] * (resets + 1)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unsteady)
    if resets < 3:
        assert weights.fetch(on_hub(the_hub)).path.read_bytes() == TENSORS
    else:
        with pytest.raises(ModelError, match="connection reset"):
            weights.fetch(on_hub(the_hub))


def test_a_full_disk_while_the_hub_sends(the_hub: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("huggingface_hub.hf_hub_download", full)
    with pytest.raises(OutputError, match="No space left on device; free some space"):
        weights.fetch(on_hub(the_hub))


def test_a_hub_file_other_than_announced(the_hub: Publisher, here: Path) -> None:
    the_hub.etag = f'"{"0" * 64}"'
    with pytest.raises(ModelError, match=r"where 0{64} is announced by the Hub; the file was deleted"):
        weights.fetch(on_hub(the_hub))
    assert list(here.rglob("model.safetensors")) == []


@pytest.mark.parametrize("status", [401, 404, 500])
def test_the_hub_refuses_and_the_official_file_is_taken(the_hub: Publisher, server: Publisher, status: int) -> None:
    both = replace(official(server), sources=on_hub(the_hub).sources + official(server).sources)
    the_hub.status = status
    with pytest.warns(PalpateWarning, match=f"{status} .*taking {server.url}/sam/sam.pth instead"):
        found = weights.fetch(both)
    assert (found.source, found.verified) == ("official", True)
    with pytest.raises(ModelError, match=f"{status} ") as raised:
        weights.fetch(both, source="hub")
    assert "model.safetensors" in str(raised.value)
    assert "sam.pth" not in str(raised.value)
    with pytest.raises(SettingsError, match="sam has no source 'ftp'; choose hub or official"):
        weights.fetch(both, source="ftp")


def test_offline_by_choice(the_hub: Publisher, server: Publisher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    both = replace(official(server), sources=on_hub(the_hub).sources + official(server).sources)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        weights.fetch(both)
    with pytest.raises(ModelError, match=r"offline mode|HF_HUB_OFFLINE"):
        weights.fetch(both, source="hub")
    assert the_hub.asked == server.asked == []
    assert weights.fetch(both, source="official").verified


def test_a_safetensors_file_cut_short_is_seen(the_hub: Publisher, here: Path) -> None:
    place = here / "weights" / "sam" / "model.safetensors"
    place.parent.mkdir(parents=True)
    place.write_bytes(TENSORS[:-1])
    with pytest.raises(ModelError, match="not a whole safetensors file"):
        weights.cached(on_hub(the_hub))
    place.write_bytes(TENSORS)
    assert weights.cached(on_hub(the_hub)) == place


def archive(*members: tuple[str, bytes], link: str | None = None) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("Task04_Tiny/link")
            info.type, info.linkname = tarfile.SYMTYPE, link
            tar.addfile(info)
    return stream.getvalue()


LISTING = ("Task04_Tiny/dataset.json", b"{}")


def cohort(server: Publisher, content: bytes) -> Asset:
    server.files["/msd/Task04_Tiny.tar"] = content
    return Asset("tiny", "cohort", (Official(f"{server.url}/msd/Task04_Tiny.tar"),), "CC BY-SA 4.0", "a test")


def test_a_cohort(server: Publisher, here: Path) -> None:
    scan = ("Task04_Tiny/imagesTr/a.nii.gz", b"scan")
    tiny = cohort(server, archive(LISTING, scan, ("Task04_Tiny/imagesTr/._a.nii.gz", b"junk")))
    found = weights.fetch(tiny)
    assert found.path == here / "cohorts" / "Task04_Tiny" == weights.cached(tiny)
    assert [p.name for p in (found.path / "imagesTr").iterdir()] == ["a.nii.gz"]
    assert (found.verified, found.source) == (False, "official")
    assert found.sha256 == hashlib.sha256(server.files["/msd/Task04_Tiny.tar"]).hexdigest()
    (here / "cohorts" / "Task04_Tiny.tar").unlink()
    assert weights.fetch(tiny).path == found.path
    assert len(server.asked) == 1
    assert not list(here.rglob(".palpate-*"))


def test_an_archive_put_there_by_hand(server: Publisher, here: Path) -> None:
    tiny = cohort(server, b"")
    (here / "cohorts").mkdir()
    (here / "cohorts" / "Task04_Tiny.tar").write_bytes(archive(LISTING))
    assert weights.cached(tiny) is None
    assert weights.fetch(tiny).source == "by hand"
    assert server.asked == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(LISTING, ("../escaped", b"!")), "refused, because it would write outside its folder"),
        (archive(LISTING, ("Task04_Tiny/../../escaped", b"!")), "refused, because it would write outside"),
        (archive(LISTING, link="../../escaped"), "refused, because it would write outside"),
        (archive(LISTING, link="/etc/passwd"), "refused, because it would write outside"),
        (archive(LISTING)[:700], "not a readable tar file"),
        (b"not a tar", "not a readable tar file"),
        (archive(("Task04_Other/dataset.json", b"{}")), "holds no Task04_Tiny/dataset.json"),
    ],
)
def test_archives_that_are_refused(server: Publisher, here: Path, content: bytes, message: str) -> None:
    with pytest.raises(CohortError, match=message):
        weights.fetch(cohort(server, content))
    assert sorted(p.name for p in (here / "cohorts").iterdir()) == [".lock", "Task04_Tiny.tar", "Task04_Tiny.tar.json"]
    assert not list(here.rglob("escaped"))
    assert not (here.parent / "escaped").exists()


def test_importing_needs_neither_torch_nor_the_hub() -> None:
    code = "import sys, palpate.weights; print({'torch', 'huggingface_hub', 'safetensors'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()"
