"""What a benchmark writes into a page stands between its marks, and nothing else of the page changes."""

import pytest

from benchmarks.measured import END, START, told_of_run, write_measured

PAGE = "# Title\n\n{start}\nold\n{end}\n\nby hand\n"


def test_what_was_measured_replaces_what_stood_between_the_marks(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE.format(start=START, end=END))
    write_measured(page, "| new |")
    assert page.read_text() == f"# Title\n\n{START}\n| new |\n{END}\n\nby hand\n"


@pytest.mark.parametrize(
    "text", ["no marks\n", PAGE.format(start=START, end=""), PAGE.format(start=START, end=END) * 2]
)
def test_a_page_without_one_pair_of_marks_is_left_as_it_is(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="unpack"):
        write_measured(page, "| new |")
    assert page.read_text() == text


def test_a_run_is_told_with_its_command_and_commit(monkeypatch):
    monkeypatch.setattr("sys.argv", ["learn.py", "--seeds", "2"])
    monkeypatch.setattr("benchmarks.environment.commit", lambda: "abc1234")
    told = told_of_run("benchmarks.learn")
    assert told.startswith("`python -m benchmarks.learn --seeds 2` on ")
    assert " at commit abc1234 on " in told
