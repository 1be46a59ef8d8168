"""Answers to challenges: the examples of the RFCs, and what servers do beside them."""

import base64
import re

import pytest

from edge_server.images.digest import Credentials, authorization

MUFASA = Credentials("Mufasa", "Circle of Life")
PATH = "/dir/index.html"
# RFC 7616, section 3.9.1.
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
OPAQUE = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
BASIC = 'Basic realm="camera"'


def challenge(algorithm="MD5", qop="auth, auth-int", realm="http-auth@example.org"):
    text = f'Digest realm="{realm}", nonce="{NONCE}", opaque="{OPAQUE}"'
    text += f', qop="{qop}"' if qop else ""
    return text + (f", algorithm={algorithm}" if algorithm else "")


def parameters(value):
    """The parts of an ``Authorization: Digest`` header, as they are written."""
    scheme, _, rest = value.partition(" ")
    assert scheme == "Digest"
    return dict(re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^",]+)', rest))


def test_the_example_of_rfc_7616():
    value = authorization([challenge("SHA-256"), challenge("MD5")], MUFASA, PATH, CNONCE)
    response = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    assert parameters(value) == {
        "username": '"Mufasa"',
        "realm": '"http-auth@example.org"',
        "uri": '"/dir/index.html"',
        "algorithm": "SHA-256",
        "nonce": f'"{NONCE}"',
        "nc": "00000001",
        "cnonce": f'"{CNONCE}"',
        "qop": "auth",
        "response": f'"{response}"',
        "opaque": f'"{OPAQUE}"',
    }


@pytest.mark.parametrize(
    ("algorithm", "qop", "response"),
    [
        pytest.param("MD5", "auth", "8ca523f5e9506fed4657c9700eebdbec", id="RFC 7616, MD5"),
        pytest.param("md5", "auth", "8ca523f5e9506fed4657c9700eebdbec", id="in small letters"),
        pytest.param(None, "auth", "8ca523f5e9506fed4657c9700eebdbec", id="no algorithm is MD5"),
        pytest.param("MD5", None, "7b2cc3b30e75b4777ea31027084363fd", id="no qop"),
        pytest.param("MD5-sess", "auth", "e783283f46242139c486a698fec7211d", id="MD5-sess"),
        pytest.param("MD5-sess", None, "37a7f42db2090a3fcac4e26e747d4fc8", id="MD5-sess, no qop"),
        pytest.param(
            "SHA-256-sess",
            "auth",
            "2fd51b3a77ad75bad6afad6003e818d767133c46d9e2749e7f5232ae1ea3efd7",
            id="SHA-256-sess",
        ),
    ],
)
def test_every_kind_of_digest(algorithm, qop, response):
    value = authorization([challenge(algorithm, qop)], MUFASA, PATH, CNONCE)
    sent = parameters(value)
    assert sent["response"] == f'"{response}"'
    assert sent.get("algorithm") == algorithm
    assert ("nc" in sent) == ("qop" in sent) == (qop is not None)


def test_the_example_of_rfc_2617():
    text = 'Digest realm="testrealm@host.com", qop="auth,auth-int", '
    text += 'nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093"'
    value = authorization([text], Credentials("Mufasa", "Circle Of Life"), PATH, "0a4f113b")
    assert parameters(value)["response"] == '"6629fae49393a05397450978507c4ef1"'


def test_every_answer_has_a_nonce_of_its_own():
    values = [authorization([challenge()], MUFASA, PATH) for _ in range(2)]
    first, second = (parameters(value)["cnonce"] for value in values)
    assert first != second
    assert len(first) >= 32


@pytest.mark.parametrize(
    ("challenges", "scheme"),
    [
        pytest.param([BASIC], "Basic", id="Basic"),
        pytest.param(["basic"], "Basic", id="Basic without realm, small letters"),
        pytest.param([BASIC, challenge()], "MD5", id="Digest wins over Basic"),
        pytest.param([f"{BASIC}, {challenge()}"], "MD5", id="both in one header"),
        pytest.param([f"{challenge()}, {BASIC}"], "MD5", id="both in one header, Digest first"),
        pytest.param([challenge(), challenge("SHA-256")], "SHA-256", id="stronger one last"),
        pytest.param(["Negotiate", "NTLM abc==", BASIC], "Basic", id="unknown schemes"),
        pytest.param([challenge("SHA-512-256"), challenge()], "MD5", id="unknown algorithm"),
        pytest.param([challenge().replace(",", " ,, ")], "MD5", id="empty elements"),
        pytest.param([challenge().replace('"auth, auth-int"', "auth")], "MD5", id="bare value"),
        pytest.param([challenge("SHA-512-256"), BASIC], None, id="Digest unknown, Basic offered"),
        pytest.param([challenge(qop="auth-int"), BASIC], None, id="only auth-int"),
        pytest.param(['Digest realm="x"', BASIC], None, id="Digest without nonce"),
        pytest.param(['Digest nonce="x"'], None, id="Digest without realm"),
        pytest.param(["Bearer"], None, id="nothing known"),
        pytest.param(["", ",", '="x"', "= ,", '"'], None, id="nonsense"),
        pytest.param([], None, id="no challenge"),
        pytest.param([challenge(realm="a\r\n b")], None, id="control character"),
        pytest.param([challenge(realm="a" * 5000)], None, id="endless"),
    ],
)
def test_the_strongest_challenge_that_is_understood_is_answered(challenges, scheme):
    value = authorization(challenges, MUFASA, PATH)
    if scheme in (None, "Basic"):
        assert (value and value.partition(" ")[0]) == scheme
    else:
        assert parameters(value)["algorithm"] == scheme


def test_basic_is_utf8_in_base64():
    value = authorization([BASIC], Credentials("us@er", "p:w\u00e9"), PATH)
    assert base64.b64decode(value.removeprefix("Basic ")).decode() == "us@er:p:w\u00e9"


def test_quotes_and_letters_beyond_ascii_survive():
    realm = 'caf\u00e9 \\"1\\"'  # as quoted in a header
    received = challenge(realm=realm).encode().decode("latin-1")  # what http.client makes of it
    value = authorization([received], Credentials('a"b\\c', "x"), PATH)
    assert parameters(value)["realm"] == f'"{realm}"'
    assert parameters(value)["username"] == '"a\\"b\\\\c"'
