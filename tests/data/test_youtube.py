"""AudioSet and VGGSound, by their official tables and files named as people and tools name them."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from diffmavil.data import AudioSetSource, Clip, VGGSoundSource

HEADER = """\
# Segments csv created Sun Mar  5 10:54:25 2017
# num_ytids=5, num_segs=5, num_unique_labels=3, num_positive_labels=7
# YTID, start_seconds, end_seconds, positive_labels
"""
BALANCED = """\
--4gqARaEJE, 0.000, 10.000, "/m/068hy,/m/07q6cd_"
-0RWZT-miFs, 420.000, 430.000, "/m/03v3yw"
A_a_A_a_A_a, 30.500, 40.500, "/m/068hy"
"""
UNBALANCED = '---1_cCGK4M, 30.000, 40.000, "/m/03v3yw,/m/068hy"\n'
EVAL = """\
Yz0123456_9, 21.000, 31.000, "/m/07q6cd_"
zzzzzzzzzzz, 21.000, 31.000, "/m/03v3yw,/m/068hy"
"""
CLASSES = """\
index,mid,display_name
0,/m/068hy,"Domestic animals, pets"
1,/m/07q6cd_,Squeak
2,/m/03v3yw,"Keys jangling"
3,/m/09x0r,Speech
"""
PETS, SQUEAK, KEYS = "Domestic animals, pets", "Squeak", "Keys jangling"


def audioset(root: Path, *files: str) -> Path:
    for name, rows in (("balanced_train", BALANCED), ("unbalanced_train", UNBALANCED), ("eval", EVAL)):
        (root / f"{name}_segments.csv").write_text(HEADER + rows)
    (root / "class_labels_indices.csv").write_text(CLASSES)
    touch(root, *files)
    return root


def touch(root: Path, *files: str) -> None:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


ALL = ("b/--4gqARaEJE.mp4", "b/-0RWZT-miFs.webm", "b/A_a_A_a_A_a.mkv", "e/Yz0123456_9.mp4", "e/zzzzzzzzzzz.MP4")


def test_audioset_20k_is_the_balanced_table_and_the_evaluation(tmp_path: Path) -> None:
    source = AudioSetSource(root=audioset(tmp_path, *ALL, "b/---1_cCGK4M.mp4", "b/notes.txt", "b/other.mp4"))
    assert list(source.clips()) == [
        Clip(str(tmp_path / ALL[0]), None, None, "train", (PETS, SQUEAK)),
        Clip(str(tmp_path / ALL[1]), None, None, "train", (KEYS,)),
        Clip(str(tmp_path / ALL[2]), None, None, "train", (PETS,)),
        Clip(str(tmp_path / ALL[3]), None, None, "test", (SQUEAK,)),
        Clip(str(tmp_path / ALL[4]), None, None, "test", (KEYS, PETS)),
    ]
    assert source.class_names() == [PETS, SQUEAK, KEYS, "Speech"], "by class id, whether a clip has it or not"
    assert not source.missing and not source.missing_labels


def test_audioset_2m_is_both_tables_and_whole_videos_are_cut_by_them(tmp_path: Path) -> None:
    media = tmp_path / "media"
    source = AudioSetSource(
        root=audioset(tmp_path, *(f"media/{name}" for name in ALL[:3]), "media/---1_cCGK4M_30.mp4"),
        media_root=media,
        train=["balanced", "unbalanced"],
        cut=False,
    )
    assert list(source.clips()) == [
        Clip(str(media / ALL[0]), 0.0, 10.0, "train", (PETS, SQUEAK)),
        Clip(str(media / ALL[1]), 420.0, 430.0, "train", (KEYS,)),
        Clip(str(media / ALL[2]), 30.5, 40.5, "train", (PETS,)),
        Clip(str(media / "---1_cCGK4M_30.mp4"), None, None, "train", (KEYS, PETS)),
    ]


@pytest.mark.parametrize("mark", ["", "Y"])
@pytest.mark.parametrize("name", ["---1_cCGK4M", *(f"---1_cCGK4M_{s}" for s in (
    "30", "30.0", "30.000", "000030", "30000", "30_40", "30.000_40.000", "30000_40000"))])  # fmt: skip
@pytest.mark.parametrize("ending", ["mp4", "WAV"])
def test_a_file_is_found_by_any_of_its_names(mark: str, name: str, ending: str, tmp_path: Path) -> None:
    name = f"{mark}{name}"
    source = AudioSetSource(root=audioset(tmp_path, f"x/y/{name}.{ending}"), train=["unbalanced"], cut=False)
    (clip,) = source.clips()
    whole = "_30" not in name and "_0000" not in name
    assert (clip.path, clip.start_s) == (str(tmp_path / f"x/y/{name}.{ending}"), 30.0 if whole else None)


@pytest.mark.parametrize(
    "name", ["---1_cCGK4M_31.mp4", "---1_cCGK4M.mp4.part", "---1_cCGK4M.f137.mp4", "---1_cCGK4M_a.mp4", "1_cCGK4M.mp4",
             "---1_cCGK4M_3.0.0.mp4", "---1_cCGK4M_30_40_50.mp4"])  # fmt: skip
def test_a_file_of_another_segment_or_name_is_not_taken(name: str, tmp_path: Path) -> None:
    source = AudioSetSource(root=audioset(tmp_path, name), train=["unbalanced"])
    with pytest.raises(ValueError, match="must hold media files named by their YouTube ids, got none of 3 segments"):
        list(source.clips())


@pytest.mark.parametrize("name", ["{}", "{}_21", "{}_21.000_31.000", "{}_21000"])
@pytest.mark.parametrize("youtube_id", ["Yz0123456_9", "YY_YY_YY_YY", "Y__________", "a_________Y", "z0123456_9_"])
def test_an_id_may_begin_with_y_too(name: str, youtube_id: str, tmp_path: Path) -> None:
    """With and without the mark, beside another video whose id is what follows the Y of this one."""
    rows = EVAL.replace("zzzzzzzzzzz", f"{youtube_id[1:]}_").replace("Yz0123456_9", youtube_id)
    for mark in ("", "Y"):
        root = tmp_path / f"mark {mark}"
        root.mkdir()
        audioset(root, f"{mark}{name.format(youtube_id)}.wav")
        (root / "eval_segments.csv").write_text(HEADER + rows)
        (clip,) = AudioSetSource(root=root).clips()
        assert (Path(clip.path).stem, clip.split, clip.labels) == (
            f"{mark}{name.format(youtube_id)}",
            "test",
            (SQUEAK,),
        )


def test_a_table_of_tabs_is_said_to_be_one(tmp_path: Path) -> None:
    root = audioset(tmp_path, *ALL)
    (root / "eval_segments.csv").write_text(EVAL.replace(", ", "\t").replace('"', ""))
    with pytest.raises(
        ValueError, match="eval_segments.csv, line 1: the row must have 4 cells, got 1: it has tabs, wh"
    ):
        list(AudioSetSource(root=root).clips())


def test_hidden_files_and_folders_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    audioset(tmp_path, *ALL, "__MACOSX/b/--4gqARaEJE.wav", ".trash/--4gqARaEJE.wav", "b/._--4gqARaEJE.mp4", ".git/x")
    assert [clip.path for clip in AudioSetSource(root=tmp_path).clips()] == [str(tmp_path / name) for name in ALL]
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{tmp_path}: left out 1 hidden file and 3 hidden folders, the first ")


def test_of_several_files_the_same_is_taken_whatever_their_order(tmp_path: Path) -> None:
    names = ["b/---1_cCGK4M_30.mp4", "b/---1_cCGK4M.webm", "b/---1_cCGK4M.mp4", "a/---1_cCGK4M_30000.mp4"]
    source = AudioSetSource(root=audioset(tmp_path, *names), train=["unbalanced"])
    taken = []
    for _ in range(4):
        (clip,) = source.clips()
        taken.append(Path(clip.path).relative_to(tmp_path).as_posix())
        Path(clip.path).unlink()
    assert taken == ["a/---1_cCGK4M_30000.mp4", "b/---1_cCGK4M_30.mp4", "b/---1_cCGK4M.mp4", "b/---1_cCGK4M.webm"]
    whole = AudioSetSource(root=audioset(tmp_path, *names), train=["unbalanced"], cut=False)
    assert Path(next(iter(whole.clips())).path).name == "---1_cCGK4M.mp4"


def test_links_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "deep/---1_cCGK4M.mp4")
    root = tmp_path / "root"
    root.mkdir()
    audioset(root)
    (root / "media").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk" / "deep" / "loop").symlink_to(root, target_is_directory=True)
    (root / "self").symlink_to("self")
    (root / "zzzzzzzzzzz.mp4").symlink_to("nowhere.mp4")  # is named when it is opened, not here
    clips = list(AudioSetSource(root=root, train=["unbalanced"]).clips())
    assert [Path(clip.path).relative_to(root).as_posix() for clip in clips] == [
        "media/deep/---1_cCGK4M.mp4",
        "zzzzzzzzzzz.mp4",
    ]


def test_missing_files_are_counted_and_said_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = AudioSetSource(root=audioset(tmp_path, ALL[1], ALL[3]))
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            assert len(list(source.clips())) == 2
            assert source.missing == {"train": 2, "test": 1}
    assert source.num_missing() == {("train", ""): 2, ("test", ""): 1, **source.missing_labels}
    assert source.missing_labels == {
        ("train", PETS): 2,
        ("train", SQUEAK): 1,
        ("test", KEYS): 1,
        ("test", PETS): 1,
    }
    lines = [record.getMessage() for record in caplog.records]
    assert lines == [f"{tmp_path} has no files of 2 of 3 train and 1 of 2 test segments; they are left out"] * 2


def test_names_from_the_ontology(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [
        {"id": "/m/068hy", "name": PETS, "child_ids": ["/m/07q6cd_"], "restrictions": []},
        {"id": "/m/07q6cd_", "name": SQUEAK, "child_ids": [], "restrictions": []},
        {"id": "/m/03v3yw", "name": KEYS, "child_ids": [], "restrictions": []},
        {"id": "/m/0dgw9r", "name": "Human sounds", "child_ids": [], "restrictions": ["abstract"]},
    ]
    source = AudioSetSource(root=audioset(tmp_path, *ALL))
    by_table = list(source.clips())
    (tmp_path / "class_labels_indices.csv").unlink()
    (tmp_path / "ontology.json").write_text(json.dumps(entries))
    assert list(source.clips()) == by_table
    assert source.class_names() is None, "the ontology has classes that the set does not use"
    (tmp_path / "ontology.json").write_text(json.dumps([{"name": PETS}]))
    with pytest.raises(ValueError, match=r"ontology.json: the ontology cannot be read \(KeyError\('id'\)\)"):
        list(source.clips())
    (tmp_path / "ontology.json").unlink()
    with pytest.raises(ValueError, match="root must hold class_labels_indices.csv or ontology.json, got"):
        list(source.clips())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('a, 0.000, 10.000, "/m/068hy"\nb, 1\n', "line 5: the row must have 4 cells, got 2"),
        ("a, 0.000, 10.000, /m/068hy,/m/07q6cd_\n", "line 4: the row must have 4 cells, got 5"),
        ('a, soon, 10.000, "/m/068hy"\n', "line 4: the start must be seconds of at least 0, got 'soon'"),
        ('a, 0.000, inf, "/m/068hy"\n', "line 4: the end must be seconds of at least 0, got 'inf'"),
        ('a, 10.000, 10.000, "/m/068hy"\n', "line 4: the end must be after the start, got 10.000 and 10.000"),
        ('a, 0.000, 10.000, "/m/none"\n', "line 4: a label must be a known mid, got '/m/none'"),
        (
            'a, 0.000, 10.000, "/m/068hy"\n\nb, 0.0, 10.0, "/m/068hy\nc, 0.0, 10.0, /m/068hy\n',
            "line 6: the row is malformed",
        ),
        ('a, 0.000, 10.000, "/m/068hy" x\n', "line 4: the row is malformed"),
    ],
)
def test_audioset_errors_name_table_and_line(row: str, message: str, tmp_path: Path) -> None:
    root = audioset(tmp_path, *ALL)
    (root / "balanced_train_segments.csv").write_text(HEADER + row)
    with pytest.raises(ValueError) as caught:
        list(AudioSetSource(root=root).clips())
    assert str(caught.value).startswith(f"{root}/balanced_train_segments.csv, {message}") and "\n" not in str(
        caught.value
    )


def test_audioset_folders_and_tables_that_are_wrong(tmp_path: Path) -> None:
    source = AudioSetSource(root=audioset(tmp_path, *ALL))
    with pytest.raises(ValueError, match="media_root must be a folder, got .*nowhere"):
        list(AudioSetSource(root=tmp_path, media_root=tmp_path / "nowhere").clips())
    (tmp_path / "eval_segments.csv").write_bytes(b"\xff\xfe" * 9)
    with pytest.raises(ValueError, match="eval_segments.csv, line 1: the table must be UTF-8 text"):
        list(source.clips())
    (tmp_path / "eval_segments.csv").unlink()
    with pytest.raises(ValueError, match=r"eval_segments.csv: the table cannot be read \(No such file or directory\)"):
        list(source.clips())
    (tmp_path / "class_labels_indices.csv").write_text(CLASSES.replace("2,/m/03v3yw", "7,/m/03v3yw"))
    with pytest.raises(ValueError, match="line 4: index must be 2, got '7'"):
        source.class_names()
    (tmp_path / "class_labels_indices.csv").write_text(CLASSES.replace("Keys jangling", "Squeak"))
    with pytest.raises(ValueError, match="line 4: display_name must be a new one, got 'Squeak' again"):
        source.class_names()


VGGSOUND = """\
---g-f_I2yQ,1,people marching,test
--0PQM4-hqg,30,"waterfall burbling",train
--56QUhyDQM,185,"playing tennis, indoors",train
"""


def test_vggsound(tmp_path: Path) -> None:
    (tmp_path / "vggsound.csv").write_text(VGGSOUND)
    touch(tmp_path, "video/---g-f_I2yQ_000001.mp4", "video/--0PQM4-hqg.mp4")
    source = VGGSoundSource(root=tmp_path, cut=False)
    assert list(source.clips()) == [
        Clip(str(tmp_path / "video/---g-f_I2yQ_000001.mp4"), None, None, "test", ("people marching",)),
        Clip(str(tmp_path / "video/--0PQM4-hqg.mp4"), 30.0, 40.0, "train", ("waterfall burbling",)),
    ]
    assert source.missing == {"train": 1}
    assert source.class_names() == ["people marching", "playing tennis, indoors", "waterfall burbling"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("---g-f_I2yQ,1,people marching,val\n", "line 4: split must be train or test, got 'val'"),
        ("---g-f_I2yQ,-1,people marching,test\n", "line 4: the start must be seconds of at least 0, got '-1'"),
        ("---g-f_I2yQ,1,people, marching,test\n", "line 4: the row must have 4 cells, got 5"),
        ("---g-f_I2yQ,1,,test\n", "line 4: a cell must not be empty, got"),
    ],
)
def test_vggsound_errors_name_table_and_line(row: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "vggsound.csv").write_text(VGGSOUND + row)
    with pytest.raises(ValueError, match=f"vggsound.csv, {message}"):
        list(VGGSoundSource(root=tmp_path).clips())
