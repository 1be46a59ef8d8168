"""What an operator may say about URLs, without a network."""

import pytest

from edge_server.errors import ImageError, SettingsError
from edge_server.images.url_policy import UrlPolicy

LAN = "192.168.1.20"
PUBLIC = "93.184.216.34"


def setting_that_refuses(policy, host, address, scheme="https"):
    """The setting that a refusal names; None when host and address are permitted."""
    try:
        policy.check_url(scheme, host)
        policy.check_address(host, address, own=False)
    except ImageError as error:
        return next(word for word in str(error).rstrip(".").split() if word.startswith("url_"))
    return None


@pytest.mark.parametrize(
    ("entry", "host", "address", "matches"),
    [
        pytest.param("cam.example.com", "cam.example.com", LAN, True, id="host"),
        pytest.param("CAM.example.com.", "cam.example.com", LAN, True, id="host in any form"),
        pytest.param("caf\u00e9.example", "xn--caf-dma.example", LAN, True, id="host beyond ASCII"),
        pytest.param("example.com", "cam.example.com", LAN, False, id="a host is not its domain"),
        pytest.param("cam.example.com", "example.com", LAN, False, id="a domain is not its host"),
        pytest.param("cam.example.com", "cam.example.com.org", LAN, False, id="longer host"),
        pytest.param(".example.com", "example.com", LAN, True, id="domain itself"),
        pytest.param(".example.com", "a.b.example.com", LAN, True, id="below the domain"),
        pytest.param(".example.com", "badexample.com", LAN, False, id="similar domain"),
        pytest.param(LAN, LAN, LAN, True, id="address"),
        pytest.param(LAN, "cam.example.com", LAN, True, id="name with the address"),
        pytest.param("192.168.0.0/16", "cam.example.com", LAN, True, id="network"),
        pytest.param("192.168.9.9/16", "cam.example.com", LAN, True, id="network with host bits"),
        pytest.param("10.0.0.0/8", "cam.example.com", LAN, False, id="another network"),
        pytest.param(LAN, "cam.example.com", f"::ffff:{LAN}", True, id="mapped address"),
        pytest.param("fd12::/16", "cam.example.com", "fd12::5", True, id="network of IPv6"),
    ],
)
def test_what_an_entry_stands_for(entry, host, address, matches):
    def refused_by(**settings):
        return setting_that_refuses(UrlPolicy(**settings), host, address)

    assert refused_by(deny=(entry,)) == ("url_deny" if matches else None)
    assert refused_by(deny=("other.example", entry)) == ("url_deny" if matches else None)
    assert refused_by(only=(entry,)) == (None if matches else "url_only")
    assert refused_by(only=("other.example", entry)) == (None if matches else "url_only")
    exception = UrlPolicy(url_input="public", allow=(entry,))
    assert setting_that_refuses(exception, host, address) == (None if matches else "url_allow")


@pytest.mark.parametrize("setting", ["allow", "only", "deny"])
@pytest.mark.parametrize(
    "entry",
    [
        "",
        ".",
        "10.0.0.0/33",
        "http://cam",
        "cam:80",
        "[::1]",
        "a@cam",
        "two words",
        "*.cam",
        "a..b",
    ],
)
def test_an_entry_that_can_never_match_is_a_settings_error(setting, entry):
    with pytest.raises(SettingsError, match=f"url_{setting} has"):
        UrlPolicy(**{setting: (entry,)})


@pytest.mark.parametrize(
    ("settings", "refused_by"),
    [
        pytest.param({"deny": (LAN,), "only": (LAN,), "allow": (LAN,)}, "url_deny", id="deny wins"),
        pytest.param(
            {"only": ("10.0.0.0/8",), "allow": (LAN,)}, "url_only", id="only before allow"
        ),
        pytest.param({"only": ("cam.example.com",), "url_input": "public"}, "url_allow", id="kind"),
        pytest.param({"allow": (LAN,), "url_input": "public"}, None, id="allow before kind"),
        pytest.param({"allow": (LAN,), "url_input": "off"}, "url_input", id="off is off"),
    ],
)
def test_which_setting_decides(settings, refused_by):
    assert setting_that_refuses(UrlPolicy(**settings), "cam.example.com", LAN) == refused_by


@pytest.mark.parametrize("own", [False, True])
def test_an_address_of_this_machine_needs_an_exception(own):
    with_exception = UrlPolicy(allow=(LAN,))
    with_exception.check_address(LAN, LAN, own=own)
    if own:
        with pytest.raises(ImageError, match="this machine"):
            UrlPolicy().check_address(LAN, LAN, own=own)
    else:
        UrlPolicy().check_address(LAN, LAN, own=own)


def test_https_can_be_demanded():
    demanding = UrlPolicy(https_only=True)
    assert setting_that_refuses(demanding, "cam.example.com", LAN) is None
    assert setting_that_refuses(demanding, "cam.example.com", LAN, "http") == "url_https_only"
    assert setting_that_refuses(UrlPolicy(), "cam.example.com", LAN, "http") is None


@pytest.mark.parametrize(
    ("host", "qualified"),
    [
        ("cam.example.com", True),
        ("xn--caf-dma.xn--p1ai", True),
        ("a.b.c.museum", True),
        ("cam", False),
        ("com", False),
        ("localhost", False),
        ("cam.local", False),
        ("cam.localhost", False),
        ("cam.test", False),
        ("cam.invalid", False),
        ("cam.example", False),
        ("cam.internal", False),
        ("cam.home.arpa", False),
        (PUBLIC, False),
        ("1572395042", False),
        ("0x5d.0xb8.0xd8.0x22", False),
        ("5.0xb8d822", False),
        ("2606:2800:220:1::1", False),
    ],
)
def test_a_fully_qualified_name_can_be_demanded(host, qualified):
    refused_by = setting_that_refuses(UrlPolicy(fqdn_only=True), host, PUBLIC)
    assert refused_by == (None if qualified else "url_fqdn_only")
