"""Those who ask, as keyword arguments of `Api`."""

OWNER = {"tenant": "mine", "user": "me", "roles": "member"}
MEMBER = {"tenant": "friend", "user": "f", "roles": "member"}
STRANGER = {"tenant": "theirs", "user": "they", "roles": "member"}
ADMIN = {"tenant": "ops", "user": "root", "roles": "admin"}
ANONYMOUS: dict[str, str] = {}
