"""Outputs: whole or not at all, in the place that was meant, and nothing else is touched."""

import errno
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from spikeship.deploy.io.record_file import writing
from spikeship.hw_models import atomic
from spikeship.hw_models.atomic import OutputError, replacing, replacing_folder, scratch

DEAD = f"{atomic._machine()}-{2**22 - 1}"  # no process has that number


def put(path: Path, text: str = "new") -> None:
    with replacing(path) as temporary:
        temporary.write_text(text)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    put(path)
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_mode_of_a_replaced_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    put(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    fresh = tmp_path / "fresh"
    before = os.umask(0o027)
    try:
        put(fresh)
    finally:
        os.umask(before)
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_the_owner_of_a_replaced_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    os.chown(path, 12345, 54321)
    put(path)
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


def test_a_links_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "file", tmp_path / "link"
    link.symlink_to(target)
    put(link, "first")  # a link may lead to nothing yet
    put(link)
    assert link.is_symlink() and not target.is_symlink()
    assert target.read_text() == "new"
    circle = tmp_path / "circle"
    circle.symlink_to(circle)
    with pytest.raises(OutputError, match="circle: .*choose another"):
        put(circle)
    assert circle.is_symlink()


def test_a_device_is_written_to_and_stays(tmp_path: Path) -> None:
    before = os.stat(os.devnull)
    put(Path(os.devnull))
    assert os.stat(os.devnull).st_rdev == before.st_rdev
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_a_pipe_is_written_to_and_stays(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="nobody reads it"):
        put(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    for _ in range(1000):  # until it is open
        try:
            put(pipe)
            break
        except OutputError:
            reader.join(0.01)
    reader.join(10)
    assert read == ["new"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_folders_and_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="is a folder"):
        put(tmp_path)
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(OutputError, match="is a socket"):
            put(Path("socket"))
        assert stat.S_ISSOCK(os.stat("socket").st_mode)


def test_standard_output_goes_where_it_goes(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from spikeship.hw_models.atomic import replacing\n"
        "with replacing(Path('/dev/stdout')) as t: t.write_text('new')"
    )
    piped = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert piped.stdout == "new"
    log = tmp_path / "log"
    log.write_text("before ")
    with log.open("a") as output:
        subprocess.run([sys.executable, "-c", code], stdout=output, check=True)
    assert log.read_text() == "before new"


def test_only_the_last_folder_is_made(tmp_path: Path) -> None:
    atomic.made_folders.clear()
    put(tmp_path / "results" / "file")
    assert atomic.made_folders == [tmp_path / "results"]
    with pytest.raises(OutputError, match=r"typo/deep: the folder .*typo does not exist"):
        put(tmp_path / "typo" / "deep" / "file")
    with pytest.raises(OutputError, match="is no folder"):
        put(tmp_path / "results" / "file" / "file")
    assert not (tmp_path / "typo").exists()


def test_a_folder_made_for_what_failed_goes_again(tmp_path: Path) -> None:
    atomic.made_folders.clear()
    for writes in (replacing, replacing_folder):
        with pytest.raises(ValueError), writes(tmp_path / "new" / "net"):
            raise ValueError("not today")
    with pytest.raises(ValueError), writing(tmp_path / "new" / "spikes.npz"):
        raise ValueError("not today")
    assert not list(tmp_path.iterdir()) and atomic.made_folders == []


def test_a_folder_is_replaced_whole(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(RuntimeError), replacing_folder(folder) as temporary:
        (temporary / "half").write_text("half")
        raise RuntimeError
    assert [path.name for path in folder.iterdir()] == ["old"]
    with replacing_folder(folder) as temporary:
        (temporary / "new").write_text("new")
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]
    with pytest.raises(OutputError, match="is no folder"), replacing_folder(folder / "new"):
        pass


def test_what_the_dead_left_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    stays = [f".spikeship-0000-{2**22 - 1}-a.tmp", f".spikeship-{atomic._machine()}-1-b.tmp"]
    stays += [".spikeship-mine", f"spikeship-{atomic._machine()}-{os.getppid()}-x-c", "other"]
    for name in (*stays, f".spikeship-{DEAD}-d.tmp", f"spikeship-{DEAD}-e"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    put(tmp_path / "file")
    with scratch("test") as folder:
        assert folder.parent == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {*stays, "file"}


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("os error 28")]
)
def test_a_full_disk_is_named(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        pytest.raises(OutputError, match=r"file: there is no room left"),
        replacing(tmp_path / "file"),
    ):
        raise error
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(OutputError, match=rf"{tmp_path}: has no room.*TMPDIR"), scratch("test"):
        raise error
    assert list(tmp_path.iterdir()) == []


def test_errors_of_what_is_read_meanwhile_keep_their_names(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"), replacing(tmp_path / "file"):
        (tmp_path / "missing").read_text()


def test_a_place_for_temporary_files_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    with pytest.raises(OutputError, match=r"set TMPDIR"), scratch("test"):
        pass
