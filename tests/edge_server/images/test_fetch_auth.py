"""Pictures by URL that want a user name and a password. Loopback only."""

import hashlib
import re

import pytest

from tests.edge_server.images.loopback import PICTURE, fetcher, raw, redirect, refusal, send

USER, PASSWORD = "viewer", "p@ss:w\u00f6rd"  # noqa: S105
IN_URL = "viewer:p%40ss%3Aw%C3%B6rd@"
IN_BASIC = "Basic dmlld2VyOnBAc3M6d8O2cmQ="
DIGEST = 'Digest realm="cam", nonce="abc", qop="auth"'
BASIC = 'Basic realm="cam"'


def unauthorized(*challenges):
    headers = "".join(f"WWW-Authenticate: {challenge}\r\n" for challenge in challenges)
    return raw(f"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n{headers}\r\n".encode())


def guarded(*challenges, page=None, accept=lambda path, value: True):
    """A page that asks for credentials and shows itself to those that it accepts."""

    def answer(handler):
        value = handler.headers.get("Authorization")
        welcome = value is not None and accept(handler.path, value)
        (page or send(PICTURE) if welcome else unauthorized(*challenges))(handler)

    return answer


def is_digest(path, value):
    """Whether ``value`` answers DIGEST for ``path``: RFC 7616, section 3.4.1."""
    sent = dict(re.findall(r'(\w+)="?([^",]*)"?', value))
    secret = hashlib.md5(f"{USER}:cam:{PASSWORD}".encode()).hexdigest()  # noqa: S324
    request = hashlib.md5(f"GET:{path}".encode()).hexdigest()  # noqa: S324
    text = f"{secret}:abc:{sent['nc']}:{sent['cnonce']}:auth:{request}"
    expected = hashlib.md5(text.encode()).hexdigest()  # noqa: S324
    return (sent["username"], sent["uri"], sent["response"]) == (USER, path, expected)


def sent_by(site):
    return [headers.get("authorization") for _, headers in site.requests]


@pytest.mark.parametrize(
    ("challenges", "accept"),
    [
        pytest.param([BASIC], lambda path, value: value == IN_BASIC, id="Basic"),
        pytest.param([DIGEST], is_digest, id="Digest"),
        pytest.param([BASIC, DIGEST], is_digest, id="Digest where both are offered"),
    ],
)
def test_credentials_are_sent_when_they_are_asked_for(site, challenges, accept):
    site.pages["/snap"] = guarded(*challenges, accept=accept)
    url = site.url("/snap?channel=1&q=%20x", credentials=IN_URL)
    assert fetcher().fetch(url) == PICTURE
    first, second = sent_by(site)
    assert first is None
    assert second is not None


def test_a_server_that_does_not_ask_gets_no_credentials(site):
    assert fetcher().fetch(site.url(credentials=IN_URL)) == PICTURE
    assert sent_by(site) == [None]


def test_the_name_is_looked_up_once_for_both_requests(site, names):
    names["camera.example"] = [["127.0.0.1"], ["127.0.0.2"]]
    site.pages["/snap"] = guarded(DIGEST, accept=is_digest)
    url = site.url("/snap", host="camera.example", credentials=IN_URL)
    assert fetcher(allow=("camera.example",)).fetch(url) == PICTURE
    assert len(names["camera.example"]) == 1
    assert len(site.requests) == 2


@pytest.mark.parametrize(
    ("challenges", "credentials", "reason", "requests"),
    [
        pytest.param([DIGEST], IN_URL, "refuses the user name or the password", 2, id="wrong"),
        pytest.param([DIGEST], "", "wants a user name and a password", 1, id="none"),
        pytest.param([], IN_URL, "in a way that is not understood", 1, id="no challenge"),
        pytest.param(["Bearer"], IN_URL, "in a way that is not understood", 1, id="unknown"),
        pytest.param(
            [DIGEST.replace("auth", "auth-int"), BASIC],
            IN_URL,
            "in a way that is not understood",
            1,
            id="no password in clear to a server with Digest",
        ),
    ],
)
def test_a_refusal_says_why_and_asks_no_third_time(site, challenges, credentials, reason, requests):
    site.pages["/snap"] = guarded(*challenges, accept=lambda path, value: False)
    sentence = refusal(site.url("/snap", credentials=credentials))
    assert "'127.0.0.1': it answered with status 401" in sentence
    assert reason in sentence
    assert len(site.requests) == requests


def test_credentials_stay_on_a_redirect_within_the_origin(site):
    site.pages["/old"] = redirect(site.url("/snap"))
    site.pages["/snap"] = guarded(DIGEST, accept=is_digest)
    assert fetcher().fetch(site.url("/old", credentials=IN_URL)) == PICTURE


def test_a_redirect_may_follow_the_password(site):
    site.pages["/old"] = guarded(BASIC, page=redirect("/snap"))
    site.pages["/snap"] = guarded(DIGEST, accept=is_digest)
    assert fetcher().fetch(site.url("/old", credentials=IN_URL)) == PICTURE
    assert [path for path, _ in site.requests] == ["/old", "/old", "/snap", "/snap"]


@pytest.mark.parametrize("challenge", [BASIC, DIGEST])
def test_credentials_do_not_follow_a_redirect_to_another_origin(site, other_site, challenge):
    site.pages["/old"] = redirect(other_site.url("/snap"))
    other_site.pages["/snap"] = guarded(challenge)
    sentence = refusal(site.url("/old", credentials=IN_URL))
    assert "wants a user name and a password" in sentence
    assert sent_by(other_site) == [None]


def test_both_requests_share_one_deadline(site):
    def slowly(handler):
        handler.server.closing.wait(0.2)
        unauthorized(BASIC)(handler)

    site.pages["/snap"] = slowly
    assert "longer than 0.3 s" in refusal(site.url("/snap", credentials=IN_URL), timeout_s=0.3)


@pytest.mark.parametrize("credentials", ["a%0d%0aX:b@", "a:%00@", "a:b%7F@"])
def test_control_characters_in_credentials_are_refused(site, credentials):
    assert refusal(site.url(credentials=credentials)) == "The picture's URL is malformed."
    assert site.requests == []


@pytest.mark.parametrize("path", ["/missing", "/loop", "/slow", "/cut", "/away", "/basic", "/no"])
def test_no_error_shows_credentials(site, path):
    site.pages |= {
        "/missing": send(b"", 404),
        "/loop": redirect("/loop"),
        "/slow": raw(b"", pause_s=0.05),
        "/cut": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"),
        "/away": redirect("http://user:secret@127.0.0.2/"),
        "/basic": guarded(BASIC, accept=lambda path, value: False),
        "/no": guarded("Bearer"),
    }
    sentence = refusal(site.url(path, credentials="user:secret@"), timeout_s=0.5)
    assert "127.0.0." in sentence
    assert "secret" not in sentence
    assert "user:" not in sentence
