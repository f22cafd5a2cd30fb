"""HAProxy in front of the gateways: who is ready, what may be sent to another gateway when one is gone.

A request whose gateway broke before it answered is sent again if HAProxy still has all of it (its body is at most
`body_max`) and if a repetition is what any SDK would do by itself: reads, and writes without a condition. POST and
conditional writes are repeated only when no gateway has seen them.
"""

from __future__ import annotations

from objstore.deploy.site import READY_PATH, Site, header

BODY_BYTES_MAX = 256 << 10
HEADER_BYTES = 16 << 10

_TEMPLATE = """\
global
    log stderr format raw local0 notice
    tune.bufsize {buffer}          # of each request in flight, twice

defaults
    mode http
    log global
    option dontlognull
    timeout connect 2s
    timeout queue 10s
    timeout http-request 60s
    timeout http-keep-alive 30s     # below the 75 s of the gateways, so that they never close a connection first
    timeout client 5m
    timeout server 2m               # they say something at least every 10 s
    retries 3
    option redispatch 1             # each retry goes to another gateway
    retry-on conn-failure empty-response
{resolvers}
frontend s3
    bind {bind}
    # bind :443 ssl crt /etc/haproxy/s3.pem alpn http/1.1
    default_backend gateways

backend gateways
    balance leastconn
    # What fits the buffer is sent again when its gateway breaks: wait until all of it is here. Longer bodies stream.
    acl small req.hdr_val(content-length) le {body}
    http-request wait-for-body time 30s if METH_PUT small
    # Its client was told to go on; a gateway that says so too could not be left any more. Not where it is signed.
    http-request del-header expect if METH_PUT small !{{ req.fhdr(authorization) -m sub -i expect }}
    # ... but not what could show that it was done twice.
    http-request disable-l7-retry if METH_POST
    http-request disable-l7-retry if {{ req.hdr(if-match) -m found }} || {{ req.hdr(if-none-match) -m found }}
    option httpchk
    http-check send meth GET uri {ready} ver HTTP/1.1 hdr Host gateway
    http-check expect status 200
    default-server check inter 1s fastinter 500ms downinter 1s fall 2 rise 1{resolved}
{servers}"""
_RESOLVERS = """
resolvers dns
    parse-resolv-conf
    hold valid 5s                   # a container that is made anew has another address
"""


def render(site: Site, bind: str = ":80", *, body_max: int = BODY_BYTES_MAX, moving: bool = False) -> str:
    """`moving`: the gateways are names in DNS whose addresses change. HAProxy would look them up once, at its start."""
    servers = "".join(f"    server {gateway.name} {gateway.address}\n" for gateway in site.gateways)
    text = _TEMPLATE.format(
        bind=bind,
        buffer=body_max + HEADER_BYTES,
        body=body_max,
        ready=READY_PATH,
        servers=servers,
        resolvers=_RESOLVERS if moving else "",
        resolved=" resolvers dns init-addr last,libc,none" if moving else "",
    )
    return header(site, "Balancer") + text
