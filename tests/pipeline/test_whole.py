"""A small file that several processes write and others read."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.whole import put_text


def test_writers_at_once_leave_one_whole_text_and_readers_see_no_other(tmp_path):
    path, texts = tmp_path / "said", {letter * 5000 for letter in "abcd"}
    put_text(path, min(texts))

    def written(text):
        for _ in range(100):
            put_text(path, text)
            assert path.read_text() in texts

    with ThreadPoolExecutor() as pool:
        list(pool.map(written, texts))
    assert [each.name for each in tmp_path.iterdir()] == ["said"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        put_text(tmp_path / "folder", "x")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
