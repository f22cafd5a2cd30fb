"""HAProxy in front of the gateways: who is ready, what may be sent to another gateway when one is gone.

A request whose gateway broke before it answered is sent again if HAProxy still has all of it (it fits BUFFER_BYTES)
and if a repetition is what any SDK would do by itself: reads, and writes without a condition. POST and conditional
writes are repeated only when no gateway has seen them.
"""

from __future__ import annotations

from objstore.deploy.site import READY_PATH, Site, header

BUFFER_BYTES = 64 << 10  # of a connection, each way
BODY_BYTES_MAX = BUFFER_BYTES - (16 << 10)  # the rest is for its headers

_TEMPLATE = """\
global
    log stderr format raw local0 notice
    tune.bufsize {buffer}

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
    default-server check inter 1s fastinter 500ms downinter 1s fall 2 rise 1
{servers}"""


def render(site: Site, bind: str = ":80") -> str:
    servers = "".join(f"    server {gateway.name} {gateway.address}\n" for gateway in site.gateways)
    text = _TEMPLATE.format(bind=bind, buffer=BUFFER_BYTES, body=BODY_BYTES_MAX, ready=READY_PATH, servers=servers)
    return header(site, "Balancer") + text
