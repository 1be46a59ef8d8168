"""Pictures by URL: which addresses, URLs and redirects are permitted. Loopback only."""

import socket
from urllib.parse import quote

import pytest

from edge_server.images import url_policy
from tests.edge_server.images.loopback import (
    PICTURE,
    PUBLIC,
    fetcher,
    redirect,
    refusal,
    send,
)

# --- which addresses are permitted ---

FORBIDDEN_HOSTS = [
    pytest.param("127.0.0.1", id="loopback"),
    pytest.param("127.9.8.7", id="loopback network"),
    pytest.param("2130706433", id="decimal loopback"),
    pytest.param("0x7f000001", id="hexadecimal loopback"),
    pytest.param("0177.0.0.1", id="octal loopback"),
    pytest.param("127.1", id="short loopback"),
    pytest.param("\u2460\u2461\u2466.0.0.1", id="loopback in circled digits"),
    pytest.param("127\u30020.0.1", id="loopback with an ideographic full stop"),
    pytest.param("localhost", id="localhost"),
    pytest.param("LOCALHOST", id="localhost in capitals"),
    pytest.param("0.0.0.0", id="unspecified"),  # noqa: S104 - the subject of the test
    pytest.param("0", id="unspecified in short"),
    pytest.param("0.1.2.3", id="this network"),
    pytest.param("169.254.169.254", id="metadata service"),
    pytest.param("2852039166", id="decimal metadata service"),
    pytest.param("100.100.100.200", id="another metadata service"),
    pytest.param("[fd00:ec2::254]", id="metadata service of IPv6"),
    pytest.param("169.254.1.1", id="link-local"),
    pytest.param("224.0.0.251", id="multicast"),
    pytest.param("255.255.255.255", id="broadcast"),
    pytest.param("240.0.0.1", id="reserved"),
    pytest.param("[::1]", id="loopback of IPv6"),
    pytest.param("[0:0:0:0:0:0:0:1]", id="loopback of IPv6 in full"),
    pytest.param("[::]", id="unspecified of IPv6"),
    pytest.param("[fe80::1]", id="link-local of IPv6"),
    pytest.param("[ff02::1]", id="multicast of IPv6"),
    pytest.param("[fec0::1]", id="site-local of IPv6"),
    pytest.param("[::ffff:127.0.0.1]", id="mapped loopback"),
    pytest.param("[::ffff:a9fe:a9fe]", id="mapped metadata service"),
    pytest.param("[::127.0.0.1]", id="compatible loopback"),
    pytest.param("[64:ff9b::7f00:1]", id="loopback behind NAT64"),
    pytest.param("[64:ff9b:1::7f00:1]", id="loopback behind local NAT64"),
    pytest.param("[2002:7f00:1::]", id="loopback behind 6to4"),
    pytest.param("[2001:0:5db8:d822:0:0:80ff:fffe]", id="loopback behind Teredo"),
    pytest.param("0x7f.0.0.1", id="loopback with a hexadecimal part"),
    pytest.param("017700000001", id="loopback as one octal number"),
    pytest.param("127.0.1", id="loopback in three parts"),
    pytest.param("\uff11\uff12\uff17.0.0.1", id="loopback in full-width digits"),
    pytest.param("127.0.0.1.", id="loopback with a final dot"),
    pytest.param("localhost.", id="localhost with a final dot"),
    pytest.param("local\u00adhost", id="localhost with a soft hyphen"),
    pytest.param("\u24c1ocalhost", id="localhost with a circled letter"),
    pytest.param("good.example@127.0.0.1", id="loopback behind a user name"),
    pytest.param("good.example:80@127.0.0.1", id="loopback behind user name and password"),
    pytest.param("good.example%2f@127.0.0.1", id="loopback behind an escaped slash"),
    pytest.param("a@b@127.0.0.1", id="loopback behind two user names"),
    pytest.param("0xa9fea9fe", id="hexadecimal metadata service"),
    pytest.param("168.63.129.16", id="metadata service of another cloud"),
    pytest.param("192.0.0.192", id="metadata service of yet another cloud"),
    pytest.param("[fe80::1%lo]", id="link-local of IPv6 with a zone"),
    pytest.param("[::ffff:127.0.0.1]", id="mapped loopback, dotted"),
    pytest.param("[::ffff:0:127.0.0.1]", id="translated loopback"),
    pytest.param("[64:ff9b::a9fe:a9fe]", id="metadata service behind NAT64"),
    pytest.param("[2002:a9fe:a9fe::]", id="metadata service behind 6to4"),
]


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
@pytest.mark.parametrize("url_input", ["any", "private"])
def test_special_addresses_are_refused_without_connecting(host, url_input, connections):
    sentence = refusal(f"http://{host}:8080/", url_input=url_input, allow=())
    assert "Pictures are not fetched from" in sentence
    assert "url_allow" in sentence
    assert connections == []


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_no_redirect_leads_to_special_addresses(host, site, monkeypatch, connections):
    look_up = socket.getaddrinfo

    def know_the_camera(name, *args, **kwargs):
        return look_up("127.0.0.1" if name == "camera.example" else name, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", know_the_camera)
    site.pages["/old"] = redirect(f"http://{quote(host, safe='@:[]%')}:{site.port}/picture")
    sentence = refusal(site.url("/old", host="camera.example"), allow=("camera.example",))
    assert "Pictures are not fetched from" in sentence or "malformed" in sentence
    assert connections == ["127.0.0.1"]
    assert len(site.requests) == 1


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        pytest.param("10.1.2.3", "private", id="private"),
        pytest.param("192.168.1.20", "private", id="home"),
        pytest.param("100.64.0.9", "private", id="carrier or overlay network"),
        pytest.param("fd12::5", "private", id="unique local of IPv6"),
        pytest.param("::ffff:10.1.2.3", "private", id="mapped private"),
        pytest.param("64:ff9b::a01:203", "private", id="private behind NAT64"),
        pytest.param(PUBLIC, "public", id="public"),
        pytest.param("2606:2800:220:1::1", "public", id="public of IPv6"),
        pytest.param(f"::ffff:{PUBLIC}", "public", id="mapped public"),
        pytest.param("64:ff9b::5db8:d822", "public", id="public behind NAT64"),
    ],
)
@pytest.mark.parametrize("url_input", ["any", "private", "public"])
def test_private_networks_and_the_internet_are_told_apart(
    address, kind, url_input, names, connections
):
    names["camera.example"] = [[address]]
    sentence = refusal("http://camera.example/", url_input=url_input, allow=())
    if url_input in ("any", kind):
        assert sentence == (
            "The picture cannot be fetched from 'camera.example': Connection refused."
        )
        assert connections == [address]
    else:
        assert f"this server fetches from {url_input}" in sentence
        assert connections == []


@pytest.mark.parametrize(
    "addresses", [[PUBLIC, "127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "::1"]]
)
def test_a_name_is_refused_when_any_of_its_addresses_is(names, addresses, connections):
    names["mixed.example"] = [addresses]
    assert "is this machine" in refusal("http://mixed.example/", allow=())
    assert connections == []


def test_a_name_of_the_internet_for_this_machine_is_refused(names, connections):
    names["alias.example"] = [["127.0.0.1"]]
    assert "is this machine" in refusal("http://alias.example/", allow=())
    assert connections == []


def test_every_address_of_a_name_is_tried_until_one_answers(site, names, connections):
    names["camera.example"] = [["10.1.1.1", "127.0.0.1"]]
    url = site.url(host="camera.example")
    assert fetcher(allow=("camera.example",)).fetch(url) == PICTURE
    assert connections == ["10.1.1.1", "127.0.0.1"]


def test_the_connection_goes_to_the_checked_address_when_the_name_changes(names, connections):
    names["rebind.example"] = [[PUBLIC], ["127.0.0.1"]]
    assert "Connection refused" in refusal("http://rebind.example/", allow=())
    assert connections == [PUBLIC]


def test_a_name_is_resolved_once_and_sent_as_host(site, names):
    names["camera.example"] = [["127.0.0.1"], [PUBLIC]]
    assert fetcher().fetch(site.url(host="camera.example")) == PICTURE
    assert site.requests[0][1]["host"] == f"camera.example:{site.port}"


def test_the_own_address_on_the_network_is_refused_without_connecting(monkeypatch, connections):
    # Stands for an address such as 192.168.1.5 that this machine has itself.
    monkeypatch.setattr(url_policy, "_REFUSED_NETWORKS", {})
    assert "its address 127.0.0.1 is this machine" in refusal("http://127.0.0.1/", allow=())
    assert connections == []


@pytest.mark.parametrize(
    ("host", "allow"),
    [
        pytest.param("127.0.0.1", "127.0.0.1", id="address"),
        pytest.param("127.0.0.1", "127.0.0.0/8", id="network"),
        pytest.param("127.0.0.1", "127.0.0.9/8", id="network with host bits"),
        pytest.param("2130706433", "127.0.0.1", id="address written as a number"),
        pytest.param("camera.example", "127.0.0.1", id="name with an allowed address"),
        pytest.param("camera.example", "Camera.Example", id="name in any case"),
        pytest.param("CAMERA.example.", "camera.example", id="name with a final dot"),
        pytest.param("camera.example", ".example", id="all names below a domain"),
    ],
)
def test_what_the_operator_allows_is_fetched(site, names, host, allow):
    names |= dict.fromkeys(("camera.example", "127.0.0.1", "2130706433"), [["127.0.0.1"]])
    for url_input in ("any", "private"):
        allowing = fetcher(url_input=url_input, allow=("10.9.9.9", allow))
        assert allowing.fetch(site.url(host=host)) == PICTURE


def test_switched_off_means_off_and_says_how_to_switch_on(site):
    assert "url_input" in refusal(site.url(), url_input="off")
    assert site.requests == []


# --- malformed URLs ---


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://good.example\\@127.0.0.1/", id="backslash"),
        pytest.param("http://127.0.0.1/\r\nHost: evil", id="line break"),
        pytest.param("http://127.0.0\t.1/", id="tab"),
        pytest.param("http://127.0.0.1/\x00", id="null"),
        pytest.param("http://127.0.0.1/\x85", id="control character beyond ASCII"),
        pytest.param("http://127.0.0.1/\ud800", id="lone surrogate"),
        pytest.param("http://a:\ud800@127.0.0.1/", id="lone surrogate in credentials"),
    ],
)
def test_unsafe_characters_are_refused(url, connections):
    assert "backslash or a control character" in refusal(url)
    assert connections == []


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("ftp://127.0.0.1/", id="ftp"),
        pytest.param("gopher://127.0.0.1/", id="gopher"),
        pytest.param("data:image/png;base64,AAAA", id="data"),
        pytest.param("//127.0.0.1/", id="no scheme"),
        pytest.param("picture.jpg", id="relative"),
        pytest.param("http:///picture", id="no host"),
        pytest.param("http://user:secret@/", id="credentials without host"),
        pytest.param("", id="empty"),
    ],
)
def test_other_schemes_and_missing_hosts_are_refused(url, connections):
    assert "must begin with http:// or https:// and a host" in refusal(url)
    assert connections == []


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://127.0.0.1:99999/", id="port too large"),
        pytest.param("http://user:se/cret@127.0.0.1/", id="slash in the password"),
        pytest.param("http://[::1/", id="open bracket"),
        pytest.param("http://a..b/", id="empty label"),
        pytest.param(f"http://{'a' * 64}.example/", id="label too long"),
        pytest.param(f"http://{'a.' * 127}example/", id="name too long"),
        pytest.param("http://%31%32%37.0.0.1/", id="escapes in the host"),
        pytest.param("http://good.example%40127.0.0.1/", id="escaped at sign"),
        pytest.param("http://good.example%00.127.0.0.1/", id="escaped null"),
        pytest.param("http://127.0.0.1%20/", id="escaped blank"),
        pytest.param("http://127.0.0.1 .example/", id="blank"),
        pytest.param("http://good.example\uff0f@127.0.0.1/", id="full-width slash"),
        pytest.param("http://good.example\uff03@127.0.0.1/", id="full-width number sign"),
        pytest.param("http://[127.0.0.1::]/", id="no address in brackets"),
    ],
)
def test_malformed_urls_are_refused_without_quoting_them(url, connections):
    assert refusal(url) == "The picture's URL is malformed."
    assert connections == []


def test_an_endless_url_is_refused_without_quoting_it(connections):
    url = "http://127.0.0.1/" + "a" * 20_000
    sentence = "The picture's URL has 20017 characters; at most 16384 are accepted."
    assert refusal(url) == sentence
    assert connections == []


# --- redirects ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed(site, status):
    site.pages["/old"] = redirect("/picture", status)
    assert fetcher().fetch(site.url("/old")) == PICTURE


def test_a_redirect_relative_to_its_folder_is_followed(site):
    site.pages |= {"/a/old": redirect("../b/new?x=1"), "/b/new": send(PICTURE)}
    assert fetcher().fetch(site.url("/a/old")) == PICTURE
    assert site.requests[-1][0] == "/b/new?x=1"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        pytest.param("http://169.254.169.254/latest/", "link-local", id="metadata service"),
        pytest.param("//[::1]/", "this machine", id="loopback without scheme"),
        pytest.param("http://2130706434/", "this machine", id="decimal loopback"),
        pytest.param("file:///etc/passwd", "must begin with http", id="file"),
        pytest.param("http://good.example\\@127.0.0.1/", "backslash", id="backslash"),
        pytest.param("http://[::1/", "malformed", id="malformed"),
        pytest.param("", "without saying where", id="empty"),
    ],
)
def test_a_redirect_passes_the_same_checks(site, location, reason, connections):
    site.pages["/old"] = redirect(location)
    assert reason in refusal(site.url("/old"))
    assert connections == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        pytest.param({"url_input": "private"}, "is public", id="private"),
        pytest.param({"deny": ("public.example",)}, "url_deny", id="denied host"),
        pytest.param({"deny": ("93.184.0.0/16",)}, "url_deny", id="denied network"),
        pytest.param({"only": ("127.0.0.1",)}, "url_only", id="one permitted address"),
        pytest.param({"only": ("camera.example",)}, "url_only", id="one permitted host"),
    ],
)
def test_a_redirect_out_of_what_is_permitted_is_refused(site, names, settings, reason, connections):
    names |= {"camera.example": [["127.0.0.1"]], "public.example": [[PUBLIC]]}
    site.pages["/old"] = redirect("https://public.example/")
    sentence = refusal(site.url("/old", host="camera.example"), **settings)
    assert "'public.example'" in sentence
    assert reason in sentence
    assert connections == ["127.0.0.1"]


def test_a_redirect_loop_ends(site):
    site.pages["/loop"] = redirect("/loop")
    sentence = refusal(site.url("/loop"), max_redirects=3)
    assert "'127.0.0.1': more than 3 redirects" in sentence
    assert len(site.requests) == 4


def test_as_many_redirects_as_permitted_are_followed(site):
    site.pages |= {f"/{n}": redirect(f"/{n - 1}") for n in (1, 2, 3)} | {"/0": send(PICTURE)}
    assert fetcher(max_redirects=3).fetch(site.url("/3")) == PICTURE
    assert "redirects" in refusal(site.url("/3"), max_redirects=2)
