"""`manage.py logs`: the lines of every process in order, none of which acts on a terminal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from certification.monitoring import log_files
from myia import logs as log_settings
from tests.sleeping import replace_sleep

JOB, RUN = "0b5e1c1e-0000-4000-8000-00000000000a", "7d9f7f00-0000-4000-8000-00000000000b"


@pytest.fixture
def folder(settings: Any, tmp_path: Path) -> Path:
    settings.LOG_DIR, settings.MYIA_DIR = "", tmp_path
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            call_command("logs", *arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def line(minute: int, event: str, level: str = "info", **fields: Any) -> str:
    values = {"timestamp": f"2026-11-30T12:{minute:02}:00.000000Z", "level": level, "event": event}
    return json.dumps({**fields, **values}) + "\n"


def events(output: str) -> list[str]:
    return [entry["event"] for entry in json.loads(output)["entries"]]


@pytest.fixture
def written(folder: Path) -> Path:
    (folder / "web.log.1").write_text(line(0, "old"))
    (folder / "web.log").write_text(
        line(1, "request_finished", request_id="abc", code=200)
        + line(5, "broken", "error", exception="Traceback\n  File x\nvalue.KeyError: 'model'")
    )
    (folder / "worker.log").write_text(line(2, "job_created", job=JOB))
    (folder / "worker-bulk.log").write_text(
        line(3, "run_finished", job=JOB, run=RUN, reason="throttled_requests", request_id="abc")
        + line(4, "broker_unreachable", "warning", error="away")
    )
    return folder


@pytest.mark.usefixtures("written")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("", ["old", "request_finished", "job_created", "run_finished", "broker_unreachable",
              "broken"]),
        ("--service worker", ["job_created", "run_finished", "broker_unreachable"]),
        ("--service worker-bulk", ["run_finished", "broker_unreachable"]),
        ("--level warning", ["broker_unreachable", "broken"]),
        ("--request abc", ["request_finished", "run_finished"]),
        (f"--job {JOB[:8]}", ["job_created", "run_finished"]),
        (f"--run {RUN}", ["run_finished"]),
        ("--grep keyerror", ["broken"]),
        ("--since 2026-11-30T12:03 --until 2026-11-30T12:04:30Z",
         ["run_finished", "broker_unreachable"]),
        ("--day 2026-11-30 --service web", ["old", "request_finished", "broken"]),
        ("--day 2026-12-01", []),
        ("--lines 2", ["broker_unreachable", "broken"]),
        ("--lines 2 --page 2", ["job_created", "run_finished"]),
    ],
)  # fmt: skip
def test_lines_are_chosen_and_come_oldest_first(
    show: Callable[..., tuple[int, str, str]], arguments: str, expected: list[str]
) -> None:
    code, output, _errors = show(*arguments.split(), "--json")
    assert (code, events(output)) == (0, expected)


@pytest.mark.usefixtures("written")
def test_errors_are_an_exit_code_for_cron(show: Callable[..., tuple[int, str, str]]) -> None:
    assert show("--errors")[0] == 1
    assert show("--errors", "--day", "2026-12-01")[0] == 0


@pytest.mark.usefixtures("written")
def test_people_read_a_line_with_its_fields_and_its_traceback(
    show: Callable[..., tuple[int, str, str]],
) -> None:
    _code, output, errors = show("--lines", "3")
    assert [text.split(None, 2)[2] for text in output.splitlines()[:2]] == [
        f"info     worker-bulk run_finished job={JOB} run={RUN} "
        "reason=throttled_requests request=abc",
        "warning  worker-bulk broker_unreachable error=away",
    ]
    assert output.splitlines()[3:] == [
        "    Traceback",
        "      File x",
        "    value.KeyError: 'model'",
    ]
    assert "3 of 6 lines; older ones: --page 2" in errors


@pytest.mark.usefixtures("written")
def test_lines_are_counted_by_what_went_wrong(show: Callable[..., tuple[int, str, str]]) -> None:
    causes = json.loads(show("--by", "reason", "--json")[1])["causes"]
    assert {row["cause"]: row["count"] for row in causes} == {
        "KeyError": 1,
        "broker_unreachable": 1,
    }
    [row] = json.loads(show("--by", "reason", "--level", "info", "--grep", "run_", "--json")[1])[
        "causes"
    ]
    assert row["cause"] == "throttled_requests"
    assert row["fix"]
    assert "KeyError" in show("--by", "reason")[1]


def test_what_lines_quote_neither_acts_on_a_terminal_nor_tells_a_secret(
    folder: Path, show: Callable[..., tuple[int, str, str]]
) -> None:
    (folder / "web.log").write_text(
        line(1, "\x1b[2J\r\x9b31mfake\n2026-11-30 error", error="\u202epassword=hunter22 \x07")
        + line(2, "x", exception="a\x1b]0;t\x07\nb", headers={"Authorization": "hunter22"})
    )
    for form in ((), ("--json",)):
        _code, output, _errors = show(*form)
        assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(output)
        assert "hunter22" not in output
    assert [text[:4] for text in show()[1].splitlines()] == ["2026", "2026", "    ", "    "]


def test_any_line_of_any_shape_is_survived(
    folder: Path, show: Callable[..., tuple[int, str, str]]
) -> None:
    deep = '{"timestamp":"2026-11-30T12:00:00Z","level":"error","event":"deep","a":' + "[" * 700
    odd = [
        "[]", '{"timestamp": 5}', "\x00", "plain", deep + "]" * 700 + "}",
        '{"timestamp":"2026-11-30T12:00:00","level":"error","event":null,"run":7,"process":[1]}',
        '{"timestamp":"2026-11-30T12:00:00Z","level":"error","event":{"a":1},"exception":7}',
    ]  # fmt: skip
    (folder / "web.log").write_text("\n".join([*odd, ""]))
    for form in ((), ("--json",), ("--by", "reason"), ("--run", "7"), ("--job", "7")):
        assert show(*form)[0] == 0


def test_following_shows_what_is_written_from_now_on_in_new_files_too(
    written: Path, show: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(name: str, text: str) -> None:
        with (written / name).open("a") as file:
            file.write(text)

    def rotate() -> None:
        append("web.log", line(7, "before"))
        (written / "web.log").rename(written / "web.log.2")
        append("web.log", line(8, "after"))

    steps = iter([
        lambda: append("web.log", line(6, "first") + '{"half'),
        rotate,
        lambda: (written / "worker.log").write_text(line(9, "emptied", "error")),
    ])  # fmt: skip

    def sleep(_seconds: float) -> None:
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    replace_sleep(monkeypatch, sleep)
    code, output, _errors = show("--follow", "--json")
    assert code == 0
    assert [json.loads(text)["event"] for text in output.splitlines()] == [
        "first", "after", "emptied",
    ]  # fmt: skip


@pytest.mark.usefixtures("written")
def test_all_files_are_searched_where_the_newest_bytes_have_too_little(
    show: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "MAX_READ", 50)
    assert len(events(show("--json")[1])) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--since", "soon"), "no time"),
        (("--since", "2026-02-31T00:00"), "no time"),
        (("--day", "today"), "no day"),
        (("--lines", "0"), "--lines"),
        (("--lines", "10001"), "--lines"),
        (("--page", "0"), "--page"),
        (("--errors", "--level", "info"), "not allowed with"),
    ],
)
@pytest.mark.usefixtures("written")
def test_a_bad_question_is_a_sentence(arguments: tuple[str, ...], words: str) -> None:
    with pytest.raises(CommandError, match=words) as refusal:
        call_command("logs", *arguments)
    assert refusal.value.returncode in (1, 2)


def test_no_log_is_a_sentence_with_exit_code_2(folder: Path) -> None:
    with pytest.raises(CommandError, match="up writes it") as refusal:
        call_command("logs")
    assert refusal.value.returncode == 2


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        (["/venv/celery/__main__.py", "--quiet", "worker", "--hostname", "worker-bulk@%h"],
         "worker-bulk"),
        (["/venv/bin/celery", "-A", "myia", "worker"], "worker"),
        (["/venv/celery/__main__.py", "-A", "myia", "beat"], "beat"),
        (["/venv/gunicorn/__main__.py", "myia.wsgi"], "web"),
        (["/venv/bin/gunicorn", "myia.wsgi"], "web"),
        (["manage.py", "cleanup"], "cleanup"),
        (["manage.py"], ""),
        ([], ""),
        (["-c"], ""),
    ],
)  # fmt: skip
def test_a_process_knows_its_name_by_its_command_line(argv: list[str], name: str) -> None:
    assert log_settings.process_name(argv) == name


def test_lines_of_one_file_name_their_processes(
    settings: Any, folder: Path, show: Callable[..., tuple[int, str, str]]
) -> None:
    settings.LOG_DIR = str(folder)
    (folder / "combined.log").write_text(
        line(1, "a", process="web") + line(2, "b", process="worker-bulk") + line(3, "c")
    )
    assert events(show("--service", "worker", "--json")[1]) == ["b"]
    [entry] = json.loads(show("--service", "combined", "--json")[1])["entries"]
    assert (entry["event"], entry["fields"]) == ("c", {})
