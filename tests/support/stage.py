"""A small stage that tells glance who is asking, as a proxy on a trusted link would.

A paste filter for the tests' daemons, which find it on PYTHONPATH. The token is the caller's name;
`nobody` and the empty token are not valid, `drifter` belongs to no tenant and has no roles. What
the request says of its caller is taken out.
"""

NAMES = {
    *("HTTP_X_IDENTITY_STATUS", "HTTP_X_USER_ID", "HTTP_X_USER", "HTTP_X_TENANT_ID"),
    *("HTTP_X_PROJECT_ID", "HTTP_X_TENANT", "HTTP_X_ROLES", "HTTP_X_PROJECT_ROLES", "HTTP_X_ROLE"),
}


def filter_factory(global_conf, tenant=None):
    """Return the filter; with `tenant`, all users are in that one."""

    def make(app):
        def stage(environ, start_response):
            for name in NAMES:
                environ.pop(name, None)
            caller = environ.get("HTTP_X_AUTH_TOKEN")
            if caller and caller != "nobody":
                environ["HTTP_X_IDENTITY_STATUS"] = "Confirmed"
                environ["HTTP_X_USER_ID"] = f"user-of-{caller}"
                environ["HTTP_X_ROLES"] = ""
                if caller != "drifter":
                    environ["HTTP_X_TENANT_ID"] = tenant or f"tenant-of-{caller}"
                    environ["HTTP_X_ROLES"] = "member,Admin" if caller == "admin" else "member"
            return app(environ, start_response)

        return stage

    return make
