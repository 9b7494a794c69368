"""What --exclude of `shard` takes: names between commas, the name of a list, or a file with a class a line."""

from __future__ import annotations

import pytest

from fcdd_dist.cli.shard import _excluded
from fcdd_dist.errors import BadInput


@pytest.mark.parametrize(("line", "name"), [
    ("n01440764 tench, Tinca tinca", "n01440764"), ("n01440764\ttench", "n01440764"), ("  n01440764\r", "n01440764"),
    ("\ufeffn01440764 tench", "n01440764"), ("great white shark", "great white shark"), ("A, B & Co.", "A, B & Co."),
    ("n0144076 tench", "n0144076 tench"), ("imagenet1k", "imagenet1k"), ("cats", "cats")])
def test_a_line_of_a_file_is_a_class(line, name, tmp_path):
    path = tmp_path / "LOC_synset_mapping.txt"
    path.write_bytes(f"{line}\n\n# a comment, of two words\nn02701002 ambulance\n   \nlast".encode())
    assert _excluded(str(path)) == (name, "n02701002", "last")


def test_names_and_lists(tmp_path, monkeypatch):
    """A file that happens to have the name of a list is not taken for it."""
    monkeypatch.chdir(tmp_path)
    for name in ("imagenet1k", "benchmark30", "none", "cats"):
        (tmp_path / name).write_text("dogs\n")
    assert _excluded(None) is None
    assert _excluded("none") == ()
    assert _excluded("imagenet1k") == ("imagenet1k",)
    assert _excluded("benchmark30") == ("benchmark30",)
    assert _excluded("a, b,c") == ("a", "b", "c")
    assert _excluded("./imagenet1k") == _excluded("cats") == ("dogs",)
    assert _excluded("mice") == ("mice",)


def test_files_that_are_no_lists(tmp_path, monkeypatch):
    path = tmp_path / "list.txt"
    for data, reason in ((b"", "names nothing"), (b"# all\n\n", "names nothing"), (b"\xff\xfe", "is no text in UTF-8"),
                         (b"x" * (17 << 20), "has more than 16,777,216 characters")):
        path.write_bytes(data)
        with pytest.raises(BadInput, match=rf"--exclude: {path} {reason}") as caught:
            _excluded(str(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(BadInput, match="--exclude: ',' names nothing"):
        _excluded(",")

    def denied(*args, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", denied)  # whoever runs the tests may be root, whom nothing is denied
    with pytest.raises(BadInput, match=rf"--exclude: {path} can't be read: Permission denied"):
        _excluded(str(path))
