"""How far a long command says it is, and how long the rest takes."""

from __future__ import annotations

import pytest

from stream_app.cli.progress import Lines, Pace, left


def test_the_time_left_is_the_rest_at_the_pace_so_far() -> None:
    assert left(40, 100, 0.5) == "2:00 left"
    assert left(0, 8_000_000, 1000) == "2:13:20 left"
    assert left(0, 100, 0) == "time left not known yet"
    assert left(100, 100, 0) == "done"


def test_the_pace_begins_with_the_first_progress_and_not_with_what_was_done_before() -> None:
    pace = Pace()
    assert pace.rate(0.0, 500) == 0
    assert pace.rate(10.0, 500) == 0  # still starting up
    assert pace.rate(12.0, 900) == 200


def test_without_a_terminal_it_is_a_line_now_and_then_and_one_at_the_end(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines("june", shown=True)
    for done in (0, 500, 1000):
        lines.move(done, 1000)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("june: 0 of 1,000 (0 %)")
    assert said[1].startswith("june: 1,000 of 1,000 (100 %)")
    assert said[1].endswith("done")
    assert len(said) == 2
    Lines("june", shown=False).move(0, 1000)
    assert capsys.readouterr().err == ""
