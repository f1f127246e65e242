# Varnish in front of glance-api; see doc/source/how-to/caching-proxies.rst. Made for Varnish 7.1, which Debian 12 has.
#
# Each GET of an image becomes two steps. First Varnish asks the API by HEAD, with the caller's own
# token, whether this caller may have the image; whatever the API says but 200 goes to the caller
# as it is. Only after a 200 does Varnish look for the bytes, under a name that contains the ETag of
# that very response. So the API decides about each use, and bytes of another image that had the
# same id are never found.
#
# What the API calls private is not stored. http_cache_share_private = True in glance-api.conf lets
# it call private images shareable; the first step protects them as it does public ones.
#
# Start varnishd with a store of the name "images", with time for long transfers, and with room for
# images that have many properties:
#
#   varnishd -a :9292 -f /etc/varnish/glance.vcl \
#     -s images=file,/var/lib/varnish/images.bin,500G -s default,256m \
#     -p nuke_limit=10000 -p send_timeout=86400 -p idle_send_timeout=300 \
#     -p pipe_timeout=300 -p http_max_hdr=512 -p http_resp_size=512k -p http_resp_hdr_len=64k \
#     -p http_req_size=512k -p http_req_hdr_len=64k \
#     -p workspace_backend=2M -p workspace_client=2M
vcl 4.1;

import purge;
import std;

# The API. Several of them belong behind HAProxy (see several-nodes.rst) or a director.
backend api {
    .host = "127.0.0.1";
    .port = "9393";
    .connect_timeout = 5s;
    .first_byte_timeout = 300s;
    .between_bytes_timeout = 300s;
}

# Who may send PURGE: the hosts of the APIs (http_cache_purge_urls). Behind a proxy that ends TLS
# this has to be the address of the client itself, which -a ...,PROXY brings.
acl purgers {
    "127.0.0.1";
    "::1";
}

sub vcl_recv {
    if (req.restarts == 0) {
        # Notes of this file. Nobody else may write them.
        unset req.http.X-Step;
        unset req.http.X-Tag;
        unset req.http.X-Wanted-Range;
        unset req.http.X-Changed;
        unset req.http.X-Request;
    }
    if (req.method == "PURGE" || req.method == "BAN") {
        if (client.ip !~ purgers) {
            return (synth(405, "Method not allowed"));
        }
        # With http_cache_purge_token in glance-api.conf:
        # if (req.http.X-Purge-Token != "the token") { return (synth(405, "Method not allowed")); }
        if (req.url !~ "/images/[0-9A-Fa-f-]+(/file)?$") {
            return (synth(404, "Not an image"));
        }
        # A purge would need the ETag: a ban finds the image under each of them.
        ban("obj.http.X-Image-Of == " + regsub(req.url, "^.*/images/([0-9A-Fa-f-]+).*$", "\1"));
        return (synth(200, "Purged"));
    }
    if (req.method !~ "^(GET|HEAD|POST|PUT|DELETE|PATCH|OPTIONS)$") {
        return (synth(405, "Method not allowed"));
    }
    if (req.method != "GET"
        || req.url ~ "^(/v[12][.0-9]*)?/images(/detail)?(\?|$)"
        || req.url ~ "^/v2[.0-9]*/images/[^/?]+$") {
        return (pass);
    }
    if (req.url !~ "^/v1(\.\d+)?/images/[0-9A-Fa-f-]+$") {
        # It may be the data of an image: past the memory as well (see below).
        return (pipe);
    }
    if (!req.http.X-Step) {
        set req.http.X-Step = "ask";
        set req.method = "HEAD";
        if (req.http.Range) {
            set req.http.X-Wanted-Range = req.http.Range;
            unset req.http.Range;
        }
        return (pass);
    }
    # The API has said yes. It ignores Range in a HEAD; what takes the next step needs it.
    if (req.http.X-Wanted-Range) {
        set req.http.Range = req.http.X-Wanted-Range;
        unset req.http.X-Wanted-Range;
        # Varnish refuses several ranges; without Range it sends the whole, as the API does.
        if (req.http.Range ~ ",") {
            unset req.http.Range;
        }
    }
    if (req.http.X-Step == "past") {
        # Past the cache, and past the memory: with a pass, all that a slow client has not taken yet
        # would wait there.
        return (pipe);
    }
    return (hash);
}

sub vcl_pipe {
    # The next request of this client is to come here again.
    set bereq.http.Connection = "close";
    unset bereq.http.X-Step;
    unset bereq.http.X-Tag;
    unset bereq.http.X-Changed;
    unset bereq.http.X-Request;
    return (pipe);
}

sub vcl_hash {
    # The host is left out: all names of this service have the same images.
    hash_data(req.url);
    if (req.http.X-Tag) {
        hash_data(req.http.X-Tag);
    }
    return (lookup);
}

sub vcl_hit {
    if (obj.http.X-Image-Meta-Updated_At != req.http.X-Changed) {
        # The record has changed, the bytes have not. Have the stored header fields renewed: the
        # API is asked with the ETag and responds with 304, and Varnish copies the bytes itself.
        if (req.http.X-Step == "find") {
            set req.http.X-Step = "renew";
            # In the past, because what ends at this very moment would not be asked about.
            purge.soft(-1ms, 0s, 1h);
            return (restart);
        }
        # Changed again in between.
        set req.http.X-Step = "past";
        return (restart);
    }
    return (deliver);
}

sub vcl_deliver {
    if (req.http.X-Step == "ask") {
        if (resp.status == 200) {
            set req.method = "GET";
            set req.http.X-Request = resp.http.X-Openstack-Request-Id;
            # The last line is the size of the largest image to store, in bytes: a fifth of the store
            # at most, for one that finds no room breaks off.
            if (resp.http.ETag !~ {"^"[^"]+"$"}
                || resp.http.Cache-Control !~ "public"
                || resp.http.Cache-Control ~ "(no-store|private)"
                || std.integer(resp.http.Content-Length, 0) > 107374182400) {
                set req.http.X-Step = "past";
            } else {
                set req.http.X-Step = "find";
                set req.http.X-Tag = resp.http.ETag;
                set req.http.X-Changed = resp.http.X-Image-Meta-Updated_At;
            }
            return (restart);
        }
        if (resp.status >= 400) {
            # The text that goes with a refusal comes with a GET only.
            set req.method = "GET";
            set req.http.X-Step = "past";
            return (restart);
        }
    } elsif (req.method == "DELETE" && resp.status < 300
        && req.url ~ "/images/[0-9A-Fa-f-]+(/file)?$") {
        ban("obj.http.X-Image-Of == " + regsub(req.url, "^.*/images/([0-9A-Fa-f-]+).*$", "\1"));
    }
    unset resp.http.X-Image-Of;
    if (req.http.X-Request) {
        # The log of the API has this request under the id of the first step.
        set resp.http.X-Openstack-Request-Id = req.http.X-Request;
    }
    return (deliver);
}

sub vcl_backend_fetch {
    unset bereq.http.X-Step;
    unset bereq.http.X-Wanted-Range;
    unset bereq.http.X-Changed;
    unset bereq.http.X-Request;
}

sub vcl_backend_response {
    set beresp.do_gzip = false;
    set beresp.do_gunzip = false;
    set beresp.do_stream = true;
    if (!bereq.uncacheable && bereq.method == "GET" && bereq.http.X-Tag
        && beresp.status == 200 && beresp.http.ETag == bereq.http.X-Tag
        && beresp.http.Cache-Control ~ "public"
        && beresp.http.Cache-Control !~ "(no-store|private)") {
        unset beresp.http.Vary;
        unset beresp.http.Set-Cookie;
        set beresp.http.X-Image-Of = regsub(bereq.url, "^.*/images/", "");
        set beresp.storage = storage.images;
        set beresp.ttl = 7d;
        set beresp.grace = 0s;
        set beresp.keep = 1h;
        return (deliver);
    }
    # Nobody waits for a response that others cannot use.
    set beresp.ttl = 1s;
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    set beresp.uncacheable = true;
    return (deliver);
}
