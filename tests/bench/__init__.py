"""Measurements of ours beside others; `make bench` runs them, and modules named `bench_*` hold them."""
