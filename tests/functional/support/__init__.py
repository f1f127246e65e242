"""What the functional tests and the benchmarks share: real daemons, raw HTTP, real images."""
