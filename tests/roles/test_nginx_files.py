"""What the role `nginx` writes is understood by the oldest nginx of the supported systems: 1.18, of Ubuntu 22.04."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2.nativetypes import NativeEnvironment

ROLE = Path(__file__).parents[2] / "roles/nginx"
OLDEST = (1, 18)
# "This directive appeared in version ...", https://nginx.org/en/docs/dirindex.html; without a note there: 0.
SINCE: dict[str, tuple[int, ...]] = {
    "access_log": (0,),
    "add_header": (0,),
    "client_max_body_size": (0,),
    "default_type": (0,),
    "error_log": (0,),
    "events": (0,),
    "http": (0,),
    "include": (0,),
    "keepalive": (1, 1, 4),
    "keepalive_requests": (0, 8, 0),
    "keepalive_time": (1, 19, 10),
    "keepalive_timeout": (0,),  # of an upstream: 1.15.3
    "listen": (0,),
    "location": (0,),
    "log_format": (0,),
    "map": (0,),  # of more than one variable: 0.9.0
    "pid": (0,),
    "proxy_buffering": (0,),
    "proxy_http_version": (1, 1, 4),
    "proxy_pass": (0,),
    "proxy_read_timeout": (0,),
    "proxy_set_header": (0,),
    "return": (0,),  # 308: 1.13.0
    "root": (0,),
    "sendfile": (0,),
    "server": (0,),
    "server_name": (0,),
    "server_names_hash_bucket_size": (0,),
    "server_tokens": (0,),
    "ssl_certificate": (0,),
    "ssl_certificate_key": (0,),
    "ssl_ciphers": (0,),
    "ssl_prefer_server_ciphers": (0,),
    "ssl_protocols": (0,),  # TLSv1.3: 1.13.0
    "ssl_session_cache": (0,),
    "ssl_session_tickets": (1, 5, 9),
    "tcp_nopush": (0,),
    "try_files": (0, 7, 27),
    "types_hash_max_size": (0,),
    "upstream": (0,),
    "user": (0,),
    "worker_connections": (0,),
    "worker_processes": (0,),
    "worker_rlimit_nofile": (0,),
}
# https://nginx.org/en/docs/http/ngx_http_core_module.html#listen
LISTENS: dict[str, tuple[int, ...]] = {
    "backlog": (0,),
    "default_server": (0, 8, 21),
    "reuseport": (1, 9, 1),
    "ssl": (0,),
}
WITH_IPV6 = {"device": "lo", "ipv6": [{"address": "::1"}]}
TOKEN = re.compile(r"""#[^\n]*|"[^"]*"|'[^']*'|[;{}]|[^\s;{}"'#][^\s;{}]*""")


def written(template: str, **facts: Any) -> str:
    """The file as the role writes it where everything is asked for, on a host of these facts."""
    environment = NativeEnvironment(autoescape=False, trim_blocks=True)
    environment.filters["comment"] = lambda _: "# managed"
    ipv6 = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__nginx_ipv6"]
    values: dict[str, Any] = {
        **yaml.safe_load((ROLE / "defaults/main.yml").read_text()),
        "__nginx_ipv6": environment.from_string(ipv6).render(ansible_facts=facts),
        "nginx_names": ["paas.example.org"],
        "nginx_upstream_port": 3000,
    }
    text = (ROLE / "templates" / template).read_text()
    return str(environment.from_string(text).render(values))


def directives(text: str) -> list[list[str]]:
    """Every directive with its parameters; what is in a map are values."""
    found: list[list[str]] = []
    blocks: list[str] = []
    current: list[str] = []
    for token in TOKEN.findall(text):
        if token.startswith("#"):
            continue
        if token not in (";", "{", "}"):
            current.append(token)
            continue
        if current and "map" not in blocks:
            found.append(current)
        if token == "{":
            blocks.append(current[0])
        elif token == "}":
            blocks.pop()
        current = []
    assert blocks == []
    return found


@pytest.mark.parametrize("template", [path.name for path in sorted(ROLE.glob("templates/*"))])
def test_every_directive_is_known_to_the_nginx_of_every_supported_system(template: str) -> None:
    used = directives(written(template, lo=WITH_IPV6))
    assert {name for name, *_ in used if SINCE[name] > OLDEST} == set()
    listens = {word.split("=")[0] for name, *words in used if name == "listen" for word in words[1:]}
    assert {word for word in listens if LISTENS[word] > OLDEST} == set()


@pytest.mark.parametrize(
    ("facts", "ipv6"), [({"lo": WITH_IPV6}, True), ({"lo": {"device": "lo"}}, False), ({}, False)]
)
def test_nginx_listens_on_ipv6_where_the_host_has_it_and_only_there(facts: Any, ipv6: bool) -> None:
    used = directives(written("muster.conf.j2", **facts))
    listens = [words for name, *words in used if name == "listen"]
    own = [words[1:] for words in listens if not words[0].startswith("[::]:")]
    other = [words[1:] for words in listens if words[0].startswith("[::]:")]
    assert len(own) == 3
    assert other == (own if ipv6 else [])
