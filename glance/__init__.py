"""OpenStack Image Service: glance-api and glance-registry, their client and their programs."""
