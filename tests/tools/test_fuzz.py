"""The fuzz campaign: a short run of it finds nothing, and it would find what is wrong."""

from __future__ import annotations

import random
import socket
import threading

import pytest

from edge_server.images.fetch import UrlFetcher
from edge_server.images.sources import ImageReader
from edge_server.images.url_policy import UrlPolicy
from tools.fuzz import run
from tools.fuzz.campaign import Case, Plan, Report, Tally, complaint, run_campaign, send_cases
from tools.fuzz.pictures import mutated_picture, picture_seeds
from tools.fuzz.texts import mutated_text, text_seeds

PICTURES = picture_seeds()
TEXTS = text_seeds(PICTURES[0])


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    plan = Plan(pictures=3000, texts=1000, upload="raw", slow_s=10, warm_up=500)
    return run_campaign(plan, tmp_path_factory.mktemp("fuzz") / "server.log")


def test_a_short_campaign_finds_nothing(report):
    assert [(reason, case.name) for reason, case in report.findings] == []
    assert report.pictures.statuses.total() == 3000
    assert report.texts.statuses.total() == 1000


def test_a_campaign_gets_past_the_first_checks(report):
    assert report.pictures.statuses[200] > 600
    assert report.texts.statuses[200] > 150
    assert set(report.pictures.statuses) <= {200, 400, 413, 415}


def test_a_campaign_does_not_make_the_server_grow(report):
    assert report.memory_after - report.memory_before < 64 * 2**20


@pytest.mark.parametrize("file", PICTURES)
def test_every_picture_to_start_from_is_one(file):
    fetcher = UrlFetcher(UrlPolicy(url_input="off"), max_bytes=1, timeout_s=1)
    image = ImageReader(max_pixels=40 * 24, fetcher=fetcher).from_bytes(file, auto_orient=True)
    assert image.ndim == 3


def test_the_same_number_makes_the_same_mutation():
    def mutations(seed):
        chance = random.Random(seed)  # noqa: S311 - meant to be repeatable
        pictures = [mutated_picture(chance, PICTURES) for _ in range(200)]
        return pictures, [mutated_text(chance, TEXTS) for _ in range(200)]

    assert mutations(1) == mutations(1)
    pictures, texts = mutations(2)
    assert len(set(pictures)) > 180
    assert len(set(texts)) > 150
    assert not set(pictures) <= set(PICTURES)


@pytest.mark.parametrize(
    ("status", "body", "seconds", "reason"),
    [
        pytest.param(200, b"{}", 0.9, None, id="an object"),
        pytest.param(422, b"[]", 0.9, None, id="a list"),
        pytest.param(503, b"{}", 0.1, None, id="busy"),
        pytest.param(507, b"{}", 0.1, None, id="no memory"),
        pytest.param(500, b"{}", 0.1, "status-500", id="internal error"),
        pytest.param(502, b"{}", 0.1, "status-502", id="undocumented"),
        pytest.param(200, b"{}", 1.1, "slow", id="late"),
        pytest.param(400, b"<html>", 0.1, "no-json", id="HTML"),
        pytest.param(400, b'"text"', 0.1, "no-object", id="a text"),
        pytest.param(0, b"", 0.1, "no-answer", id="connection closed"),
    ],
)
def test_what_counts_as_a_finding(status, body, seconds, reason):
    assert complaint(status, body, seconds, slow_s=1) == reason


@pytest.mark.parametrize(
    ("answers", "statuses", "reasons"),
    [
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"] * 2, {200: 2}, [], id="kept open"
        ),
        pytest.param([b""] * 2, {0: 2}, ["no-answer"] * 2, id="closed at once"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}"], {0: 1}, ["no-answer"], id="cut off"
        ),
        pytest.param(
            [b"HTTP/1.1 500 No\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"] * 2,
            {500: 2},
            ["status-500"] * 2,
            id="an error each",
        ),
    ],
)
def test_what_a_server_does_is_counted(answers, statuses, reasons):
    cases = [Case(f"case-{number}", b"x\r\n\r\n") for number in range(len(answers))]
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(100)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        tally = send_cases(listener.getsockname()[1], iter(cases), slow_s=20)
        thread.join()
    assert tally.statuses == statuses
    assert [reason for reason, _ in tally.findings] == reasons


def test_findings_are_written_and_counted(tmp_path, monkeypatch, capsys):
    tally = Tally(findings=[("slow", Case("picture-7", b"POST / HTTP/1.1\r\n\r\n"))])
    tally.statuses.update({200: 8, 0: 1})
    monkeypatch.setattr(run, "run_campaign", lambda plan, log: Report(tally, Tally(), 1, 0, 2**20))
    assert run.main(["--images", "9", "--findings", str(tmp_path)]) == 1
    assert (tmp_path / "picture-7-slow.http").read_bytes().startswith(b"POST")
    table = capsys.readouterr().out
    assert "200: 8" in table
    assert "1 MiB after" in table
