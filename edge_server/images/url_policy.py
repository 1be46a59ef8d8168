"""Which URLs pictures may be fetched from. Decides; resolves and connects to nothing."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from edge_server.errors import ImageError, SettingsError
from edge_server.settings import UrlInput

_REFUSED_NETWORKS = {
    ip_network(network): reason
    for network, reason in (
        ("0.0.0.0/8", "this machine"),
        ("127.0.0.0/8", "this machine"),
        ("::1/128", "this machine"),
        ("169.254.0.0/16", "link-local"),
        ("fe80::/10", "link-local"),
        ("100.100.100.200/32", "a cloud's metadata service"),
        ("168.63.129.16/32", "a cloud's metadata service"),
        ("192.0.0.192/32", "a cloud's metadata service"),
        ("fd00:ec2::/32", "a cloud's metadata service"),
        ("224.0.0.0/4", "multicast"),
        ("ff00::/8", "multicast"),
        ("240.0.0.0/4", "broadcast or reserved"),
        ("::/8", "unspecified or reserved"),
        ("fec0::/10", "reserved"),
    )
}
_NAT64 = IPv6Network("64:ff9b::/96")
# Names that never lead to a host of the public internet (RFC 2606, 6761, 6762, 7686, 9476).
_RESERVED_DOMAINS = frozenset(
    ("alt", "arpa", "example", "internal", "invalid", "local", "localhost", "onion", "test")
)

Address = IPv4Address | IPv6Address


class UrlPolicy:
    """What the operator permits, checked for the URL itself and for each redirect. Immutable."""

    def __init__(
        self,
        *,
        url_input: UrlInput = "any",
        allow: tuple[str, ...] = (),
        only: tuple[str, ...] = (),
        deny: tuple[str, ...] = (),
        https_only: bool = False,
        fqdn_only: bool = False,
    ) -> None:
        """Take the settings of the same names, see ``Settings``.

        An entry of ``allow``, ``only`` or ``deny`` is a host name, an address, a network such
        as ``10.0.0.0/8``, or ``.example.com`` for that name and all below it.

        Raises:
            SettingsError: an entry is none of these.
        """
        self._url_input = url_input
        self._allow = _Destinations("url_allow", allow)
        self._only = _Destinations("url_only", only)
        self._deny = _Destinations("url_deny", deny)
        self._https_only = https_only
        self._fqdn_only = fqdn_only

    def check_url(self, scheme: str, host: str) -> None:
        """Refuse what can be refused without looking up the host.

        Args:
            scheme: ``http`` or ``https``.
            host: in lower case and ASCII, without brackets and final dot.

        Raises:
            ImageError: the URL is not permitted.
        """
        if self._url_input == "off":
            raise ImageError(
                "Pictures by URL are switched off on this server. Send the picture itself, or "
                "have the setting url_input changed to 'any' or 'private'."
            )
        if self._https_only and scheme != "https":
            raise _refusal(host, "only https is permitted", "url_https_only")
        if self._fqdn_only and not _is_fully_qualified(host):
            raise _refusal(host, "it is no fully qualified domain name", "url_fqdn_only")
        if self._deny.names(host):
            raise _refusal(host, "it is on the list of refused hosts", "url_deny")
        if self._only and not self._only.networks and not self._only.names(host):
            raise _refusal(host, "it is not on the list of permitted hosts", "url_only")

    def check_address(self, host: str, text: str, *, own: bool) -> None:
        """Refuse an address of ``host``, as written by ``getaddrinfo``.

        Args:
            host: as for ``check_url``.
            text: the address.
            own: this machine itself has it.

        Raises:
            ImageError: the address is not permitted.
        """
        address = _plain_address(text)
        shown = f"its address {address} is"
        if self._deny.hold(address):
            raise _refusal(host, f"{shown} on the list of refused networks", "url_deny")
        if self._only and not (self._only.names(host) or self._only.hold(address)):
            raise _refusal(host, f"{shown} not on the list of permitted networks", "url_only")
        if self._allow.names(host) or self._allow.hold(address):
            return
        reason = "this machine" if own else self._special(address)
        if reason is not None:
            raise _refusal(host, f"{shown} {reason}", "url_allow")

    def _special(self, address: Address) -> str | None:
        for network, reason in _REFUSED_NETWORKS.items():
            if address in network:
                return reason
        if self._url_input == "private" and address.is_global:
            return "public, and this server fetches from private networks only"
        if self._url_input == "public" and not address.is_global:
            return "not public, and this server fetches from public addresses only"
        return None


class _Destinations:
    """The hosts and networks of one setting."""

    def __init__(self, setting: str, entries: tuple[str, ...]) -> None:
        self.networks: list[IPv4Network | IPv6Network] = []
        self._hosts: set[str] = set()
        self._domains: tuple[str, ...] = ()
        for entry in entries:
            try:
                self.networks.append(ip_network(entry, strict=False))
            except ValueError:
                name = _name(setting, entry)
                if name.startswith("."):
                    self._domains += (name,)
                else:
                    self._hosts.add(name)

    def __bool__(self) -> bool:
        return bool(self.networks or self._hosts or self._domains)

    def names(self, host: str) -> bool:
        return host in self._hosts or f".{host}".endswith(self._domains)

    def hold(self, address: Address) -> bool:
        return any(address in network for network in self.networks)


def _name(setting: str, entry: str) -> str:
    """An entry as hosts are written in ``check_url``."""
    dot = "." if entry.startswith(".") else ""
    try:
        name = entry[len(dot) :].encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        name = ""
    if not re.fullmatch(r"[a-z0-9._-]+", name):
        raise SettingsError(
            f"The setting {setting} has {entry!r}, which is no host name, address or network. "
            "Write camera.example.com, 192.168.1.0/24, or .example.com for all names below it."
        )
    return dot + name


def _plain_address(text: str) -> Address:
    """The address, or the IPv4 address that an IPv6 one stands for."""
    address = ip_address(text)
    if isinstance(address, IPv4Address):
        return address
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else address)


def _is_fully_qualified(host: str) -> bool:
    # No top-level domain has a digit, but for IDNA's: whatever resolvers take for an address has.
    parent, _, domain = host.rpartition(".")
    named = re.fullmatch(r"[a-z]{2,63}|xn--[a-z0-9-]+", domain) is not None
    return named and parent != "" and domain not in _RESERVED_DOMAINS


def _refusal(host: str, reason: str, setting: str) -> ImageError:
    added = "have the host added to the setting url_allow"
    change = added if setting == "url_allow" else f"have the setting {setting} changed"
    return ImageError(
        f"Pictures are not fetched from {host!r}: {reason}. Send the picture itself, or {change}."
    )
