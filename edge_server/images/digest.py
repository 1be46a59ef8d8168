"""Answers to a server that asks for a name and password: Digest (RFC 7616) or Basic (RFC 7617)."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable
from typing import NamedTuple
from urllib.request import parse_http_list

# Strongest first. Each may be followed by "-sess".
_ALGORITHMS = {"sha-256": "sha256", "md5": "md5"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LONGEST_CHALLENGE = 4096
_FIRST_USE = "00000001"


class Credentials(NamedTuple):
    """A user name and a password; not to be printed."""

    user: str
    password: str


def authorization(
    challenges: Iterable[str], credentials: Credentials, path: str, cnonce: str | None = None
) -> str | None:
    """The value of ``Authorization`` that answers the strongest challenge for ``GET path``.

    A password is never sent in clear to a server that offers Digest, not even when it offers
    no kind of Digest that is known here.

    Args:
        challenges: the values of ``WWW-Authenticate``, decoded as Latin-1 by ``http.client``.
        credentials: what to prove, or to send where only Basic is offered.
        path: path and query as they stand in the request.
        cnonce: the client's nonce; None makes a random one.

    Returns:
        Text to be encoded as UTF-8 with ``surrogateescape``; None when nothing offered can be
        answered.
    """
    offered = _parsed(challenges)
    digests = [parameters for scheme, parameters in offered if scheme == "digest"]
    if digests:
        answerable = [parameters for parameters in digests if _is_answerable(parameters)]
        if not answerable:
            return None
        strongest = min(answerable, key=lambda it: list(_ALGORITHMS).index(_algorithm(it)))
        return _digest(strongest, credentials, path, cnonce or secrets.token_hex(16))
    if any(scheme == "basic" for scheme, _ in offered):
        text = f"{credentials.user}:{credentials.password}"
        return f"Basic {base64.b64encode(text.encode()).decode('ascii')}"
    return None


def _parsed(challenges: Iterable[str]) -> list[tuple[str, dict[str, str]]]:
    """Schemes and their parameters; one header may hold several, separated by commas too."""
    found: list[tuple[str, dict[str, str]]] = []
    for challenge in challenges:
        text = challenge.encode("latin-1", "replace").decode("utf-8", "surrogateescape")
        if _CONTROL.search(text) or len(text) > _LONGEST_CHALLENGE:
            continue
        for item in parse_http_list(text):
            head, equals, value = item.partition("=")
            *scheme, name = head.split() or [""]
            if name and not equals:
                scheme, name = [name], ""
            if scheme:
                found.append((scheme[0].lower(), {}))
            if found and name:
                found[-1][1][name.lower()] = re.sub(r'^"|"$', "", value.strip())
    return found


def _algorithm(challenge: dict[str, str]) -> str:
    return challenge.get("algorithm", "md5").lower().removesuffix("-sess")


def _protections(challenge: dict[str, str]) -> list[str]:
    return challenge.get("qop", "").lower().replace(",", " ").split()


def _is_answerable(challenge: dict[str, str]) -> bool:
    protections = _protections(challenge)
    return (
        {"realm", "nonce"} <= challenge.keys()
        and _algorithm(challenge) in _ALGORITHMS
        and (not protections or "auth" in protections)
    )


def _digest(challenge: dict[str, str], credentials: Credentials, path: str, cnonce: str) -> str:
    def hashed(*parts: str) -> str:
        algorithm = hashlib.new(_ALGORITHMS[_algorithm(challenge)], usedforsecurity=False)
        algorithm.update(":".join(parts).encode("utf-8", "surrogateescape"))
        return algorithm.hexdigest()

    realm, nonce, protected = challenge["realm"], challenge["nonce"], _protections(challenge)
    secret = hashed(credentials.user, realm, credentials.password)
    in_session = challenge.get("algorithm", "").lower().endswith("-sess")
    if in_session:
        secret = hashed(secret, nonce, cnonce)
    # Without protection as before RFC 2617, which many cameras are.
    count = (_FIRST_USE, cnonce, "auth") if protected else ()
    response = hashed(secret, nonce, *count, hashed("GET", path))
    fields = {"username": credentials.user, "realm": realm, "nonce": nonce, "uri": path}
    fields |= {"response": response} | ({"cnonce": cnonce} if protected or in_session else {})
    fields |= {name: challenge[name] for name in ("opaque", "algorithm") if name in challenge}
    if protected:
        fields |= {"qop": "auth", "nc": _FIRST_USE}
    return "Digest " + ", ".join(f"{name}={_written(name, fields[name])}" for name in fields)


def _written(name: str, value: str) -> str:
    if name in ("algorithm", "qop", "nc"):
        return value
    escaped = re.sub(r'(["\\])', r"\\\1", value)
    return f'"{escaped}"'
