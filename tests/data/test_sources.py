"""The places that clips come from."""

from __future__ import annotations

from pathlib import Path

import pytest

from diffmavil.data import Clip, Esc50Source, FolderSource, ManifestSource


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def manifest(folder: Path, text: str, name: str = "manifest.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_folder_is_sorted_recursive_and_split_by_its_first_level(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "b.MP4",
        "a.wav",
        "notes.txt",
        "test/x/deep.mkv",
        "val/v.ogg",
        "other/train/t.webm",
        "train.mp4",
    )
    clips = list(FolderSource(root=tmp_path).clips())
    assert [(Path(clip.path).relative_to(tmp_path).as_posix(), clip.split) for clip in clips] == [
        ("a.wav", "train"),
        ("b.MP4", "train"),
        ("other/train/t.webm", "train"),
        ("test/x/deep.mkv", "test"),
        ("train.mp4", "train"),
        ("val/v.ogg", "val"),
    ]
    assert all(clip.start_s is None and clip.end_s is None and clip.labels == () for clip in clips)


def test_folder_that_is_none_or_empty(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="root must be a folder, got .*nowhere"):
        list(FolderSource(root=tmp_path / "nowhere").clips())
    touch(tmp_path, "notes.txt")
    with pytest.raises(ValueError, match="root must hold media files"):
        list(FolderSource(root=tmp_path).clips())


def test_hidden_files_and_folders_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = tmp_path / ".data"  # what is named is read, hidden or not
    touch(
        root, "._a.wav", ".hidden.mp4", "a.wav", "__MACOSX/a.wav", ".cache/deep/x.mp4", "s/.Trash-1/y.mp4", ".DS_Store"
    )
    source = FolderSource(root=root)
    for _ in range(2):
        caplog.clear()
        assert [clip.path for clip in source.clips()] == [str(root / "a.wav")]
        (record,) = caplog.records
        first = root / "._a.wav"
        assert record.getMessage() == f"{root}: left out 2 hidden files and 3 hidden folders, the first {first}"
    (root / "a.wav").unlink()
    with pytest.raises(ValueError, match="found none in .*data but 2 hidden files and 3 hidden folders, the first"):
        list(source.clips())


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(outside, "far.wav", "deep/far.mp4")
    touch(root, "a.wav", "sub/b.wav")
    (root / "linked").symlink_to(outside)
    (root / "one.mp4").symlink_to(outside / "deep" / "far.mp4")
    (root / "nowhere.mp4").symlink_to(tmp_path / "nothing")
    (root / "circle.mp4").symlink_to(root / "circle.mp4")
    (root / "sub" / "up").symlink_to(root)
    (outside / "deep" / "back").symlink_to(outside / "deep")
    names = [Path(clip.path).relative_to(root).as_posix() for clip in list(FolderSource(root=root).clips())]
    assert names == [
        "a.wav",
        "circle.mp4",
        "linked/deep/far.mp4",
        "linked/far.wav",
        "nowhere.mp4",
        "one.mp4",
        "sub/b.wav",
    ]


def test_manifest_with_everything(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "\ufeffpath, start_s,end_s,split,what\n"
        'a.mp4,0.5,1.25,test,"dog; cat;dog"\n'
        "\n"
        "sub/b.mp4,,,train,\n"
        "/c.mp4,1,,,x\n".replace(",,,x", ",,val,x"),
    )
    assert list(ManifestSource(path=path, label_column="what").clips()) == [
        Clip(str(tmp_path / "a.mp4"), 0.5, 1.25, "test", ("dog", "cat")),
        Clip(str(tmp_path / "sub/b.mp4"), None, None, "train", ()),
        Clip("/c.mp4", 1.0, None, "val", ("x",)),
    ]
    elsewhere = list(ManifestSource(path=path, media_root="media", label_column="what", label_separator="|").clips())
    assert (elsewhere[0].path, elsewhere[0].labels) == (str(Path("media/a.mp4")), ("dog; cat;dog",))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_manifest_of_semicolons_or_tabs_is_that_of_commas(tmp_path: Path, separator: str) -> None:
    text = """\
\ufeffpath,start_s,end_s,split,what
a.mp4,0.5,1.25,test,"dog;cat"
"b, c;d.mp4",,,train,
"""
    other = text.replace("b, c", "b_ c").replace(",", separator).replace("b_ c", "b, c")
    as_listed = list(ManifestSource(path=manifest(tmp_path, text), label_column="what").clips())
    assert as_listed[0].labels == ("dog", "cat") and Path(as_listed[1].path).name == "b, c;d.mp4"
    assert list(ManifestSource(path=manifest(tmp_path, other), label_column="what").clips()) == as_listed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path;kind\na.mp4;x\n", "there must be a column 'label', got path, kind"),
        ("path\tlabel\na.mp4,x\n", "line 2: the row must have 2 cells, got 1: it has commas, where there must be tabs"),
        ("path;label;start_s\na.mp4;x;0,5\n", "line 2: start_s must be seconds of at least 0, got '0,5'"),
        (
            "path,label\na.mp4;x\n",
            "line 2: the row must have 2 cells, got 1: it has semicolons, where there must be com",
        ),
    ],
)
def test_another_separator_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        list(ManifestSource(path=manifest(tmp_path, text), label_column="label").clips())
    assert message in str(caught.value)


def test_manifest_with_paths_only(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path\na.mp4\nb.mp4\n")
    assert list(ManifestSource(path=path).clips()) == [Clip(str(tmp_path / "a.mp4")), Clip(str(tmp_path / "b.mp4"))]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.mp4,x\n", "there must be a column 'path', got file, label"),
        ("path,kind\na.mp4,x\n", "there must be a column 'label', got path, kind"),
        ("", "there must be a column 'path', got an empty file"),
        ("path,label\n", "at least one row"),
        ("path,label\n,x\n", "line 2: path must not be empty"),
        (
            "path,label,split\na.mp4,x,train\nb.mp4,x,eval\n",
            "line 3: split must be one of train, val, test, got 'eval'",
        ),
        ("path,label,start_s\na.mp4,x,soon\n", "line 2: start_s must be seconds of at least 0, got 'soon'"),
        ("path,label,start_s\na.mp4,x,-1\n", "line 2: start_s must be seconds of at least 0, got '-1'"),
        ("path,label,end_s\na.mp4,x,nan\n", "line 2: end_s must be seconds of at least 0, got 'nan'"),
        ("path,label,start_s,end_s\na.mp4,x,2,1\n", "line 2: end_s must be after start_s, got 1.0 and 2.0"),
        ("path,label,path\na.mp4,x,b.mp4\n", "each column must have a name of its own, got path, label, path"),
        ("path,label\na.mp4,x\n\n\nb.mp4,x,y,z\n", "line 5: the row must have 2 cells, got 4"),
        ("path,label\n\na.mp4,x\nb\0.mp4,x\n", "line 4: the row is malformed (a cell holds a NUL byte)"),
        ('path,label\n"a\nb.mp4",x\n"c.mp4,x\nd.mp4,x\n', "line 4: the row is malformed (unexpected end of data)"),
        ('path,label\n"a.mp4"x,y\n', "line 2: the row is malformed"),
    ],
)
def test_manifest_errors_name_file_line_and_column(tmp_path: Path, text: str, message: str) -> None:
    path = manifest(tmp_path, text)
    with pytest.raises(ValueError) as caught:
        list(ManifestSource(path=path, label_column="label").clips())
    assert str(path) in str(caught.value) and message in str(caught.value) and "\n" not in str(caught.value)


def test_manifest_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"missing.csv: the table cannot be read \(No such file or directory\)"):
        list(ManifestSource(path=tmp_path / "missing.csv").clips())
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00path\xff" * 10)
    with pytest.raises(ValueError, match="binary.csv, line 1: the table must be UTF-8 text"):
        list(ManifestSource(path=tmp_path / "binary.csv").clips())
    (tmp_path / "latin.csv").write_bytes("path,label\na.mp4,x\nb.mp4,größer\n".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.csv, line 3: the table must be UTF-8 text"):
        list(ManifestSource(path=tmp_path / "latin.csv").clips())
    with pytest.raises(ValueError, match="label_separator must not be empty"):
        ManifestSource(path=tmp_path / "m.csv", label_separator="")


def esc50(root: Path, rows: str) -> Path:
    (root / "meta").mkdir(exist_ok=True)
    (root / "meta" / "esc50.csv").write_text("filename,fold,target,category\n" + rows)
    return root


def test_esc50_folds(tmp_path: Path) -> None:
    root = esc50(tmp_path, "1-a.wav,1,0,dog\n2-b.wav,2,1,rain\n1-c.wav,1,1,rain\n")
    clips = Esc50Source(root=root, fold=2).clips()
    assert [(clip.split, clip.labels, clip.fold) for clip in clips] == [
        ("train", ("dog",), 1),
        ("test", ("rain",), 2),
        ("train", ("rain",), 1),
    ]
    assert clips[0].path == str(tmp_path / "audio" / "1-a.wav")
    assert {clip.split for clip in Esc50Source(root=root).clips()} == {"train"}
    with pytest.raises(ValueError, match="fold must be one of 1, 2, got 6"):
        Esc50Source(root=root, fold=6).clips()


def test_esc50_table_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="esc50.csv: the table cannot be read"):
        Esc50Source(root=tmp_path).clips()
    for row, message in [
        ("a.wav,one,0,dog\n", "line 2: fold must be a whole number, got 'one'"),
        ("a.wav,1,0,dog\n,1,0,dog\n", "line 3: filename must not be empty"),
        ("a.wav,1,0,\n", "line 2: category must not be empty"),
    ]:
        with pytest.raises(ValueError, match=message):
            Esc50Source(root=esc50(tmp_path, row)).clips()


def test_real_tables(shared_data: Path) -> None:
    clips = Esc50Source(root=shared_data / "esc10", fold=3).clips()
    assert len(clips) == 400 and sum(clip.split == "test" for clip in clips) == 80
    assert len({clip.labels for clip in clips}) == 10 and all(Path(clip.path).is_file() for clip in clips)
    words = list(ManifestSource(path=shared_data / "grid" / "words.csv", label_column="word").clips())
    assert len(words) == 4800 and len({clip.labels for clip in words}) == 51
    with pytest.raises(ValueError, match="must be a column 'sentence', got path, start_s, end_s, split, kind, word"):
        list(ManifestSource(path=shared_data / "grid" / "words.csv", label_column="sentence").clips())
