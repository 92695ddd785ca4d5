"""A host's addresses, resolved and checked. The caller connects to these and resolves nothing again."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

from reconciler.adapters.connect_faults import refused_address, unreachable
from reconciler.support.network import Endpoint, address_problem, addresses_of, is_loopback


async def checked_addresses(endpoint: Endpoint) -> tuple[IPv4Address | IPv6Address, ...]:
    """The addresses of a host. One bad address refuses the host: a mixed answer is what an attack looks like."""
    addresses = await _resolve(endpoint.host, endpoint.port)
    for address in addresses:
        if reason := address_problem(address):
            raise refused_address(endpoint.host, reason)
        if endpoint.scheme == "http" and not is_loopback(address):
            raise refused_address(endpoint.host, "another machine over http://")
    return addresses


async def _resolve(host: str, port: int) -> tuple[IPv4Address | IPv6Address, ...]:
    try:
        return (ip_address(host),)
    except ValueError:
        pass
    try:
        return tuple(ip_address(text) for text in await addresses_of(host, port))
    except OSError as error:
        raise unreachable(f"the name {host} can't be resolved") from error
