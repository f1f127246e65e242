"""What the tests and the benchmarks share: real daemons and services, raw HTTP, real images."""
