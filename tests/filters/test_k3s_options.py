"""Further options of K3s that an inventory may not set, or not so, are named before anything is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from jinja2 import UndefinedError

from filter_plugins.k3s_options import FilterModule, problems, refused_options

NETWORKS = ["10.42.0.0/16", "10.43.0.0/16"]
DEFAULTS: dict[str, Any] = {"firewall_peer_udp_ports": [8472], "k3s_server_disable": ["traefik", "servicelb"]}


def host(group: str, **variables: Any) -> dict[str, Any]:
    return {"group_names": [group], "inventory_hostname": group, **variables}


def found(group: str, mine: dict[str, Any], of_master: dict[str, Any] | None = None) -> list[str]:
    master = host("masters", **(mine if of_master is None else of_master))
    return problems(host(group, **mine), master, DEFAULTS, NETWORKS)


@pytest.mark.parametrize("group", ["masters", "servers", "workers"])
@pytest.mark.parametrize(
    "config",
    [
        None,
        {},
        {"cluster-cidr": "10.42.0.0/16", "service-cidr": "10.43.128.0/17", "flannel-backend": "vxlan"},
        {"flannel-backend": "none", "disable-network-policy": True, "cluster-dns": ["10.43.0.53"]},
        {"kubelet-arg": ["max-pods=200"], "node-label+": ["a=b"]},
    ],
)
def test_options_that_go_with_the_rest_are_taken(group: str, config: dict[str, Any] | None) -> None:
    assert found(group, {} if config is None else {"k3s_server_config": config}) == []


@pytest.mark.parametrize(
    ("config", "network"),
    [
        ({"cluster-cidr": "10.52.0.0/16"}, "cluster-cidr 10.52.0.0/16"),
        ({"cluster-cidr": "10.42.0.0/16,fd00::/56"}, "cluster-cidr fd00::/56"),
        ({"cluster-cidr": ["10.42.0.0/15"]}, "cluster-cidr 10.42.0.0/15"),
        ({"service-cidr+": "wrong"}, "service-cidr wrong"),
    ],
)
def test_pods_and_services_have_addresses_that_the_firewall_knows(
    config: dict[str, Any], network: str
) -> None:
    sentence = (
        f"k3s_server_config has {network}, and everything else is set up for 10.42.0.0/16 and "
        "10.43.0.0/16 (firewall_cluster_networks)."
    )
    assert found("masters", {"k3s_server_config": config}) == [sentence]
    assert found("workers", {"k3s_server_config": config}) == []  # which reads none of it


@pytest.mark.parametrize("group", ["masters", "workers"])
def test_the_network_between_nodes_passes_every_firewall(group: str) -> None:
    wireguard = {"k3s_server_config": {"flannel-backend": "wireguard-native"}}
    closed = (
        "flannel-backend is wireguard-native, and its firewall keeps 51820/udp closed: "
        "set firewall_peer_udp_ports: [51820]."
    )
    assert found(group, wireguard) == [closed]
    assert found(group, {**wireguard, "firewall_peer_udp_ports": [51820]}) == []
    assert found(group, {"k3s_server_config": {"flannel-backend": "host-gw"}}) == [
        "flannel-backend is host-gw, which the firewall does not know: vxlan, wireguard-native or none."
    ]


def test_servers_have_the_same_options_where_k3s_wants_it() -> None:
    config = {"cluster-domain": "a.local", "secrets-encryption": True, "node-label": ["a=b"]}
    mine = {"k3s_server_config": config, "k3s_server_disable": ["traefik"]}
    assert found("servers", mine, {}) == [
        "all servers of K3s must have the same cluster-domain: it is a.local here and cluster.local on masters.",
        "all servers of K3s must have the same secrets-encryption: it is true here and false on masters.",
        "all servers of K3s must have servicelb or none: k3s_server_disable is another one on masters.",
    ]
    assert found("workers", mine, {}) == []


def test_what_is_as_k3s_has_it_is_no_difference() -> None:
    usual = {"secrets-encryption": "false", "cluster-cidr": ["10.42.0.0/16"], "flannel-backend": "vxlan"}
    same = {"k3s_server_config": usual, "k3s_server_disable": ["servicelb"]}
    assert found("servers", same, {}) == []


class Unreadable(Mapping[str, Any]):
    """Variables that are templates of what is not there."""

    def __getitem__(self, name: str) -> Any:
        if name in ("group_names", "inventory_hostname"):
            return {"group_names": ["masters"], "inventory_hostname": "m1"}[name]
        raise UndefinedError

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_what_cannot_be_read_is_left_to_others() -> None:
    assert problems(Unreadable(), Unreadable(), DEFAULTS, NETWORKS) == []
    assert found("masters", {"k3s_server_config": "text", "k3s_server_disable": None}) == []


def test_an_option_that_others_set_is_refused_in_both_notations() -> None:
    given = {"tls-san+": ["a"], "token": "x", "data-dir": "/srv", "node-label": []}
    assert refused_options(given, "k3s_server_config", ["token", "tls-san"], ["data-dir", "rootless"]) == [
        "k3s_server_config may not hold token, tls-san: other inputs of the role set that.",
        "k3s_server_config may not hold data-dir: the role relies on what K3s does without.",
    ]
    assert refused_options({"node-label": []}, "k3s_server_config", ["token"], ["data-dir"]) == []
    assert refused_options("text", "k3s_server_config", ["token"]) == []


def test_every_filter_is_offered_to_ansible() -> None:
    assert set(FilterModule().filters()) == {"k3s_option_problems", "k3s_refused_options"}
