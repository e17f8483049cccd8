"""Pure filters for K3s' further options: which no inventory may set, and which contradict what else is set up."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleError
from jinja2 import UndefinedError

Values = Mapping[str, Any]
# docs.k3s.io/cli/server: "Critical Configuration Values", each with what K3s does without it
SAME_ON_ALL_SERVERS = {
    "cluster-cidr": "10.42.0.0/16",
    "cluster-dns": "10.43.0.10",
    "cluster-domain": "cluster.local",
    "disable-cloud-controller": "false",
    "disable-helm-controller": "false",
    "disable-network-policy": "false",
    "egress-selector-mode": "agent",
    "embedded-registry": "false",
    "flannel-backend": "vxlan",
    "flannel-external-ip": "false",
    "flannel-ipv6-masq": "false",
    "secrets-encryption": "false",
    "secrets-encryption-provider": "aescbc",
    "service-cidr": "10.43.0.0/16",
}
WIREGUARD = 51820


def refused_options(given: Any, name: str, own: Iterable[str], relied_on: Iterable[str] = ()) -> list[str]:
    """Why an input may not hold some of K3s' options, a sentence for each reason.

    given: the input, by the names of K3s, where `option+` adds to a list. name: of the input. own: what other inputs
    set. relied_on: what must be as K3s has it without the option.
    """
    keys = {str(key).removesuffix("+") for key in given} if isinstance(given, Mapping) else set()
    reasons = {
        "other inputs of the role set that": own,
        "the role relies on what K3s does without": relied_on,
    }
    found = {reason: [option for option in options if option in keys] for reason, options in reasons.items()}
    return [f"{name} may not hold {', '.join(held)}: {reason}." for reason, held in found.items() if held]


def problems(host: Values, master: Values, defaults: Values, networks: Iterable[str]) -> list[str]:
    """What contradicts each other in the further options of K3s and the rest of the inventory.

    host, master: the variables of a host and of the master. defaults: of the roles' inputs, where a host has none.
    networks: those of the pods and services, that everything else is set up for.
    """
    mine, masters = ({**defaults, **_readable(each)} for each in (host, master))
    is_server = bool({"masters", "servers"} & {*mine.get("group_names", [])})
    return [
        *(_networks(_options(mine), [*networks]) if is_server else ()),
        *_backend(_options(masters), mine),
        *(_differences(mine, masters) if is_server else ()),
    ]


def _readable(host: Values) -> dict[str, Any]:
    """What is needed of a host's variables, without templates of what is not there: others complain of those."""
    names = (
        "group_names",
        "inventory_hostname",
        "firewall_peer_udp_ports",
        "k3s_server_config",
        "k3s_server_disable",
    )
    found = {}
    for name in names:
        try:
            found[name] = _plain(host[name])
        except (AnsibleError, UndefinedError, KeyError):
            continue
    return found


def _plain(value: Any) -> Any:
    """The value with all that is in it: what is missing complains when it is used."""
    str(value)
    return value


def _options(host: Values) -> dict[str, str]:
    """Options by name as K3s reads them: `option+` is the option, a list is what commas separate."""
    given = host.get("k3s_server_config")
    items = given.items() if isinstance(given, Mapping) else ()
    return {str(key).removesuffix("+"): _text(value) for key, value in items}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _networks(options: Mapping[str, str], networks: list[str]) -> Iterator[str]:
    for option in ("cluster-cidr", "service-cidr"):
        for part in options.get(option, "").split(",") if option in options else ():
            if not any(_lies_in(part, network) for network in networks):
                yield (
                    f"k3s_server_config has {option} {part}, and everything else is set up for "
                    f"{' and '.join(networks)} (firewall_cluster_networks)."
                )


def _lies_in(part: str, network: str) -> bool:
    try:
        return ipaddress.IPv4Network(part.strip()).subnet_of(ipaddress.IPv4Network(network))
    except ValueError:
        return False


def _backend(options: Mapping[str, str], host: Values) -> Iterator[str]:
    backend = options.get("flannel-backend", "vxlan").partition("=")[0]
    if backend == "wireguard-native" and WIREGUARD not in (host.get("firewall_peer_udp_ports") or []):
        yield (
            f"flannel-backend is wireguard-native, and its firewall keeps {WIREGUARD}/udp closed: "
            f"set firewall_peer_udp_ports: [{WIREGUARD}]."
        )
    elif backend not in ("vxlan", "wireguard-native", "none"):
        yield f"flannel-backend is {backend}, which the firewall does not know: vxlan, wireguard-native or none."


def _differences(mine: Values, masters: Values) -> Iterator[str]:
    own, of_master, name = _options(mine), _options(masters), masters.get("inventory_hostname")
    for option, usual in SAME_ON_ALL_SERVERS.items():
        if (here := own.get(option, usual)) != (there := of_master.get(option, usual)):
            yield f"all servers of K3s must have the same {option}: it is {here} here and {there} on {name}."
    if _has_no_servicelb(mine) != _has_no_servicelb(masters):
        yield f"all servers of K3s must have servicelb or none: k3s_server_disable is another one on {name}."


def _has_no_servicelb(host: Values) -> bool:
    return "servicelb" in (host.get("k3s_server_disable") or [])


class FilterModule:
    """The entry point that Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        return {"k3s_option_problems": problems, "k3s_refused_options": refused_options}
